"""Two machines and the line between them."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.netlab.leftovers import new_names, sweep
from benchmarks.netlab.namespace import NetlabError, make_namespace
from benchmarks.netlab.shaping import Counters, Wire

NEAR_ADDRESS, FAR_ADDRESS = "10.77.0.1", "10.77.0.2"
_ANSWER_SECONDS = 20.0
_PROJECT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What the line did until now."""

    up: Counters
    """From near to far."""
    down: Counters
    turns: int
    """How often the direction of speech changed, bare acknowledgements not counted.

    Two turns are a round trip of a protocol that waits for each answer.
    """
    latest_ms: float
    """By how much the most belated packet left the line too late: the machine was busy, or the line too slow."""
    overruns: int
    """Packets lost because the line was too slow: more than a few spoil a measurement."""


class Netlab:
    """Two network namespaces, ``near`` (the user) and ``far`` (the VM), for as long as the ``with`` block lasts.

    ``rtt_ms`` is the round trip in milliseconds, ``mbit`` the bandwidth each way in Mbit/s (None: as fast as this
    machine can), ``queue_bytes`` what may wait for it, ``loss`` the share of packets lost at random, 0 to 1.
    ``congestion_control`` is TCP's on both machines; cubic is what most systems use.  Raises NetlabError where it
    can't be set up; see :func:`unavailable`.  Its methods may be called from any thread.
    """

    def __init__(
        self,
        *,
        rtt_ms: float = 0.0,
        mbit: float | None = None,
        queue_bytes: int = 1 << 20,
        loss: float = 0.0,
        congestion_control: str = "cubic",
    ) -> None:
        self.wire = Wire(rtt_ms=rtt_ms, mbit=mbit, queue_bytes=queue_bytes, loss=loss)
        self._congestion_control = congestion_control
        self._lock = threading.Lock()
        self._opened = ExitStack()

    def __enter__(self) -> Netlab:
        with ExitStack() as opened:
            sweep()
            names = new_names("near", "far")
            make = functools.partial(make_namespace, congestion_control=self._congestion_control)
            self.near, near_device = opened.enter_context(make(names[0], NEAR_ADDRESS))
            self.far, far_device = opened.enter_context(make(names[1], FAR_ADDRESS))
            self._line, self._control = opened.enter_context(_run_line((near_device, far_device), names))
            self._apply()
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs in the two namespaces, and remove them; safe to call twice."""
        self._opened.close()

    def set(self, **changes: Any) -> None:
        """Change ``rtt_ms``, ``mbit``, ``queue_bytes`` or ``loss`` from now on; what is under way stays under way."""
        self.wire = dataclasses.replace(self.wire, **changes)
        self._apply()

    def black_hole(self, seconds: float | None = None) -> None:
        """Swallow every packet from now on, for that long or until :meth:`lift`.  Returns at once."""
        self._command("black_hole", seconds=seconds)

    def lift(self) -> None:
        """End the black hole."""
        self._command("lift")

    def reset_connections(self, port: int | None = None) -> int:
        """Reset the TCP connections that have an end at ``port``, or all; returns how many the line knew.

        Both ends get a reset, as from a firewall that lost its tables; one that misses its reset, since packets were
        lost, gets another when it speaks.  New connections are let through.
        """
        return int(self._command("reset", port=port))

    def move_near(self, address: str) -> None:
        """Give the near machine another IPv4 address, as a laptop in another network: its connections die silently."""
        self.near.move(address)

    def move_far(self, address: str) -> None:
        """Give the far machine another IPv4 address, as a VM that was stopped and started."""
        self.far.move(address)

    def statistics(self) -> Statistics:
        """What the line carried and dropped since it was set up."""
        numbers = self._command("statistics")
        return Statistics(
            up=Counters(**numbers["up"]),
            down=Counters(**numbers["down"]),
            turns=numbers["turns"],
            latest_ms=numbers["latest_ms"],
            overruns=self.near.overruns + self.far.overruns,
        )

    def _apply(self) -> None:
        self._command("set", **dataclasses.asdict(self.wire))

    def _command(self, name: str, **arguments: Any) -> Any:
        with self._lock:
            return _ask(self._line, self._control, name, **arguments)


@contextmanager
def _run_line(devices: tuple[int, int], names: list[str]) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """The process that carries packets between the devices, and our end of its socket."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            order = {"devices": devices, "control": theirs.fileno(), "owner": os.getpid(), "namespaces": names}
            process = subprocess.Popen(
                [sys.executable, "-S", "-m", "benchmarks.netlab.line", json.dumps(order)],
                cwd=_PROJECT,
                env={"PATH": os.environ.get("PATH", os.defpath)},  # no coverage and the like: it has to be quick
                pass_fds=(*devices, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # the terminal's Ctrl-C is for its user, who then closes it
            )
        with process:
            try:
                ours.settimeout(_ANSWER_SECONDS)
                yield process, ours
                _ask(process, ours, "stop")
            finally:
                process.kill()


def _ask(process: subprocess.Popen[str], control: socket.socket, command: str, **arguments: Any) -> Any:
    try:
        control.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        text = b""
        while not text.endswith(b"\n"):
            received = control.recv(65536)
            if not received:
                raise ConnectionError
            text += received
    except (ConnectionError, TimeoutError) as error:
        process.kill()
        assert process.stderr
        raise NetlabError(f"The delay line ended at {command!r}: {process.stderr.read()}") from error
    return json.loads(text)["answer"]


@functools.cache
def unavailable() -> str | None:
    """Why there can be no Netlab here, or None if there can; found out by making one, once."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    try:
        with Netlab():
            return None
    except (NetlabError, OSError) as error:
        return f"no network namespaces here: {error}"
