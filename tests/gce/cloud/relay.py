"""The relay of Identity-Aware Proxy, version 4 of its protocol, written apart from ours; and all that can befall it.

What a client does against the protocol is noted in ``Relay.problems``.
"""

from __future__ import annotations

import select
import socket
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from tests.gce.cloud import firewalls
from tests.gce.cloud.relay_line import Line
from tests.jupyter.packages import make_authority

if TYPE_CHECKING:
    from tests.gce.cloud.cloud import Cloud

CutKind = Literal["reset", "fin", "tls_end", "going_away", "reauthenticate", "silence", "mid_frame", "mid_frame_reset"]
CUTS: tuple[CutKind, ...] = (
    "reset",
    "fin",
    "tls_end",
    "going_away",
    "reauthenticate",
    "silence",
    "mid_frame",
    "mid_frame_reset",
)

NOT_AUTHORIZED, LOOKUP_FAILED, BACKEND_FAILED = 4033, 4047, 4003

Reach = Callable[[dict[str, str], str], "socket.socket | int"]
"""Gets to what a client asks for, by query and token: a socket, else a status of HTTP or a code to close with."""


@dataclass
class Session:
    """What the relay remembers while WebSockets come and go.  Counts are of bytes since the beginning."""

    sid: str
    backend: socket.socket
    received: int = 0  # from the client
    to_backend: deque[memoryview] = field(default_factory=deque)
    confirmed: int = 0  # the client has it
    to_client: bytearray = field(default_factory=bytearray)  # from `confirmed` on
    sent: int = 0  # over the present WebSocket or an earlier one
    ended: bool = False  # the backend will send no more
    line: Line | None = None


class Relay:
    """Listens at ``url`` when constructed.  ``directory`` gets its certificate.  A context manager.

    ``window``: so many bytes are sent and not confirmed at most.  ``acknowledges``: whether the client is told what was
    received.  ``in_use``: so many times a session is refused because its last WebSocket seems to live.
    """

    def __init__(self, directory: Path, reach: Reach, *, window: int = 1 << 20) -> None:
        self.certificate, self.context = make_authority(directory)
        self.context.set_alpn_protocols(["http/1.1"])
        self.reach = reach
        self.window = window
        self.acknowledges = True
        self.in_use = 0
        self.refusals: deque[int] = deque()
        self.requests: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.cuts_made: Counter[str] = Counter()
        self.problems: list[str] = []
        self.lock = threading.Condition(threading.RLock())
        self.sessions: dict[str, Session] = {}
        self.closing = False
        self._cuts: deque[tuple[int, CutKind]] = deque()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._wake_near, self._wake_far = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept, name="relay")
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"wss://localhost:{self._listener.getsockname()[1]}/v4"

    def environment(self) -> dict[str, str]:
        """What leads us here."""
        return {"REMOTE_RUNTIME_IAP_ENDPOINT": self.url, "SSL_CERT_FILE": str(self.certificate)}

    def cut(self, kind: CutKind, *, after: int, times: int = 1) -> None:
        """End the WebSocket in this way after so many bytes of its session, and again after as many more.

        Bytes of both directions; for silence those from the client, who can't notice it if there are no more to come.
        """
        with self.lock:
            self._cuts += [(after * (index + 1), kind) for index in range(times)]

    def refuse(self, status_or_code: int, *, times: int = 1) -> None:
        """Answer the next requests with a status of HTTP, or open the WebSocket and close it with that code."""
        with self.lock:
            self.refusals += [status_or_code] * times

    def cut_now(self, kind: CutKind) -> None:
        """End a WebSocket in this way as soon as anything more goes through it."""
        with self.lock:
            self._cuts.appendleft((0, kind))

    # -- for the lines -------------------------------------------------------------------------------------------------

    def due_cut(self, session: Session) -> CutKind | None:
        """The cut that is due now, once."""
        with self.lock:
            if not self._cuts:
                return None
            at, kind = self._cuts[0]
            if at > (session.received if kind == "silence" else session.received + session.sent):
                return None
            self._cuts.popleft()
            self.cuts_made[kind] += 1
            return kind

    def forget(self, sock: socket.socket) -> None:
        with self.lock:
            self._open.discard(sock)

    def close(self) -> None:
        with self.lock:
            self.closing = True
            for sock in self._open:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sessions = list(self.sessions.values())
        self._wake_far.send(b".")
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, self._wake_near, self._wake_far, *self._open):
            sock.close()
        for session in sessions:
            session.backend.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake_near], [], [])
            if self._wake_near in ready:
                return
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="relay websocket")
            self._threads.append(thread)
            thread.start()

    def _serve(self, tcp: socket.socket) -> None:
        """The thread of one WebSocket; a silent one stays open until the end."""
        line = None
        try:
            tcp.settimeout(20)
            with suppress(OSError):
                sock = self.context.wrap_socket(tcp, server_side=True)
                with self.lock:
                    self._open.discard(tcp)
                    self._open.add(sock)
                tcp = sock
                line = Line(self, sock)
                line.run()
        except Exception:  # noqa: BLE001 the top of a thread
            self.problems.append(traceback.format_exc())
        if line is None or not line.is_silent:
            self.forget(tcp)
            tcp.close()


def to_vms(cloud: Cloud) -> Reach:
    """Gets to VMs of the stand-in, as far as their firewall and the person's role let one."""

    def reach(query: dict[str, str], token: str) -> socket.socket | int:
        if token not in cloud.world.tokens:
            return 401
        vm = cloud.find(query["instance"])
        if vm is None or query["project"] != cloud.project or vm.zone != query["zone"]:
            return LOOKUP_FAILED
        if vm.status != "RUNNING" or vm.guest is None or query["interface"] != "nic0":
            return LOOKUP_FAILED
        return (vm.guest.dial(firewalls.IAP) if query["port"] == "22" else None) or BACKEND_FAILED

    return reach
