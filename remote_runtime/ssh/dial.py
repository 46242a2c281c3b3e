"""A TCP connection to a host, soon, whichever of its addresses answers."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from remote_runtime._threads import SLICE_SECONDS, Deadline
from remote_runtime.errors import NetworkError, RemoteRuntimeError, TimedOut

SocketLike = Any
"""A socket, or a paramiko Channel, which has the same methods."""

STAGGER_SECONDS = 0.4
"""After so long without an answer the next address is tried as well, or the same one again.

The kernel repeats a lost SYN after 1, 3, 7, 15 s: when a network comes back, ours would sit in that pause.
"""
ATTEMPT_SECONDS = 20.0
"""How long one round of such attempts lasts at most."""

PENDING = 10
"""How many of them may be under way at once; then the oldest is given up."""

USER_TIMEOUT_SECONDS = 10
"""Unacknowledged for so long, and the kernel gives the TCP connection up (Linux's TCP_USER_TIMEOUT)."""

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK}

Address = tuple[int, int, int, tuple[Any, ...]]  # family, type, protocol, socket address


def tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A TCP connection to the first address of ``host`` that answers.

    Raises :class:`NetworkError` with code ``unknown_host``, ``connection_refused`` or ``unreachable``, or
    :class:`TimedOut` with code ``unreachable``.
    """
    where = f"{host} port {port}"
    deadline.check(f"connecting to {where}")
    with _Race(_addresses(host, port)) as race:
        sock = race.run(deadline.sooner(ATTEMPT_SECONDS))
        if sock is None:
            raise _unreachable(where, race.failure) from race.failure
    tune(sock)
    return sock


def tune(sock: socket.socket) -> None:
    """Send small packets at once, and notice a peer that no longer acknowledges."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_SECONDS * 1000)


def source_towards(peer: Any) -> str | None:
    """The local address from which this computer would send to the IP socket address ``peer`` now; nothing is sent.

    None if it has no way there at the moment.
    """
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(peer)
            return str(probe.getsockname()[0])
    except OSError:
        return None


class _Race:
    """Connection attempts to the addresses in turn, several under way at once; the first that succeeds wins."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = deque(addresses)  # those that have not refused, the next one first
        self._selector = selectors.DefaultSelector()
        self._pending: dict[socket.socket, Address] = {}
        self.failure: OSError | None = None

    def run(self, deadline: Deadline) -> socket.socket | None:
        """The connected socket; None if every address refused, or none answered before the deadline."""
        while not deadline.expired and (self._addresses or self._pending):
            if self._addresses:
                self._start(self._addresses[0])
            winner = self._wait(deadline.sooner(STAGGER_SECONDS))
            if winner:
                return winner
        return None

    def _start(self, address: Address) -> None:
        family, kind, protocol, where = address
        self._addresses.rotate(-1)
        if len(self._pending) == PENDING:
            self._give_up(next(iter(self._pending)))
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        self._pending[sock] = address
        self._selector.register(sock, selectors.EVENT_WRITE)
        status = sock.connect_ex(where)
        if status and status not in _IN_PROGRESS:
            self._refused(sock, status)

    def _wait(self, deadline: Deadline) -> socket.socket | None:
        while self._pending and not deadline.expired:
            for key, _ in self._selector.select(deadline.bounded(SLICE_SECONDS)):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not status:
                    self._selector.unregister(sock)
                    del self._pending[sock]
                    return sock
                self._refused(sock, status)
        return None

    def _refused(self, sock: socket.socket, status: int) -> None:
        address = self._pending[sock]
        self.failure = OSError(status, os.strerror(status))
        self._give_up(sock)
        if address in self._addresses:
            self._addresses.remove(address)

    def _give_up(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._pending[sock]
        sock.close()

    def __enter__(self) -> _Race:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in list(self._pending):
            self._give_up(sock)
        self._selector.close()


def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NetworkError(
            f"No such host: {host}",
            hint="Check the name, and that this computer is online.",
            code="unknown_host",
            retryable=isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN,
        ) from error
    return [(family, kind, protocol, where) for family, kind, protocol, _, where in found]


def _unreachable(where: str, error: OSError | None) -> RemoteRuntimeError:
    if isinstance(error, ConnectionRefusedError):
        return NetworkError(
            f"{where} refuses connections",
            hint="The machine is up but no SSH server listens there: is the port right, has it finished booting?",
            code="connection_refused",
        )
    if error is None or isinstance(error, TimeoutError):
        return TimedOut(
            f"{where} does not answer",
            hint="The machine may be off, or a firewall drops the packets.",
            code="unreachable",
        )
    return NetworkError(
        f"Can't reach {where}: {error.strerror}", hint="Check the address and the network of this computer."
    )
