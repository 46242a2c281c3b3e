"""A network namespace with one end of the delay line in it: what runs there sees a machine of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.netlab import tun
from benchmarks.netlab.leftovers import DIRECTORY, inhabitants, is_stopped, remove

DEVICE = "wan0"
_CLONE_NEWNET = 0x40000000
_REAP_SECONDS = 5.0
_STOP_SECONDS = 5.0


class NetlabError(Exception):
    """The laboratory can't be set up, or its delay line is broken."""


class Namespace:
    """One of the two machines of a :class:`Netlab`, which makes and removes it.

    Nothing outside can reach what listens here, so servers may well listen on every address: they go on to be reached
    when the machine moves.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        """The IPv4 address that the other machine reaches this one by, now."""
        self._started: list[subprocess.Popen[Any]] = []

    @contextmanager
    def in_namespace(self) -> Iterator[None]:
        """Let the calling thread live in this namespace for the block.

        Sockets, processes and threads that it makes there stay there afterwards; other threads notice nothing.
        """
        with Path("/proc/thread-self/ns/net").open("rb") as home, (DIRECTORY / self.name).open("rb") as here:
            _enter(here.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def popen(self, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        """``subprocess.Popen`` in this namespace.  What still runs when the laboratory closes is killed."""
        with self.in_namespace():
            process = subprocess.Popen(argv, **kwargs)
        self._started.append(process)
        return process

    def run(self, argv: Sequence[str], **kwargs: Any) -> subprocess.CompletedProcess[Any]:
        """``subprocess.run`` in this namespace."""
        with self.in_namespace():
            return subprocess.run(argv, **kwargs)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process here for the block, as a hypervisor's pause does.

        The kernel's part of the machine goes on: it acknowledges what arrives.  A machine that is frozen as a whole is
        this and a black hole.
        """
        try:
            # One that was just being started may have been missed, so look again until all have stopped.
            end = time.monotonic() + _STOP_SECONDS
            while running := [pid for pid in inhabitants([self.name]) if not is_stopped(pid)]:
                if time.monotonic() > end:
                    raise NetlabError(f"processes {running} do not stop")
                _signal(running, signal.SIGSTOP)
                time.sleep(0.001)
            yield
        finally:
            _signal(inhabitants([self.name]), signal.SIGCONT)

    def move(self, address: str) -> None:
        """Have another address.  Connections of the old one are not told: nothing of theirs arrives any more."""
        if address != self.address:
            # The new one first: a device without an address loses its routes.
            ip("-n", self.name, "address", "add", f"{address}/32", "dev", DEVICE)
            ip("-n", self.name, "address", "delete", f"{self.address}/32", "dev", DEVICE)
            self.address = address

    def prefer(self, address: str) -> None:
        """Have another address besides, from which new connections come; old ones go on."""
        ip("-n", self.name, "address", "add", f"{address}/32", "dev", DEVICE)
        ip("-n", self.name, "route", "change", "default", "dev", DEVICE, "src", address)

    @property
    def overruns(self) -> int:
        """Packets that the kernel dropped because the delay line did not fetch them in time."""
        with self.in_namespace():
            counters = Path("/proc/thread-self/net/dev").read_text()
        for line in counters.splitlines():
            device, _, values = line.partition(":")
            if device.strip() == DEVICE:
                return int(values.split()[11])
        return 0


@contextmanager
def make_namespace(name: str, address: str, congestion_control: str) -> Iterator[tuple[Namespace, int]]:
    """A namespace, and the descriptor of its TUN device; it is removed at the end with all that runs in it."""
    namespace = Namespace(name, address)
    try:
        ip("netns", "add", name)
        with namespace.in_namespace():
            # No chatter of IPv6 on the wire, while loopback has both families as everywhere.
            _sysctl("ipv6/conf/default/disable_ipv6", "1")
            _sysctl("ipv4/tcp_no_metrics_save", "1")  # a connection shall not depend on the ones before
            device = tun.open_device(DEVICE)
        try:
            _configure(name, address, congestion_control)
            yield namespace, device
        finally:
            os.close(device)
    finally:
        remove([name])
        _reap(namespace._started)


def _configure(name: str, address: str, congestion_control: str) -> None:
    """Bring the devices up.  Congestion control goes by the route: the namespace's default may not be just any."""
    ip(
        *("-n", name, "-batch", "-"),
        input=f"link set lo up\n"
        f"link set {DEVICE} txqueuelen 10000 mtu 1500 up\n"
        f"address add {address}/32 dev {DEVICE}\n"
        f"route add default dev {DEVICE} congctl {congestion_control}\n",
    )


def ip(*arguments: str, input: str | None = None) -> None:
    """Run iproute2's ``ip``; raise NetlabError with its own words."""
    try:
        done = subprocess.run(["ip", *arguments], input=input, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        raise NetlabError("ip is not installed: apt-get install iproute2") from None
    if done.returncode:
        raise NetlabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    """Move the calling thread; ``os.setns`` came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _sysctl(name: str, value: str) -> None:
    """Of the calling thread's own namespace; what this kernel does not have needs no setting."""
    with suppress(FileNotFoundError):
        (Path("/proc/sys/net") / name).write_text(value)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """Wait for killed children, so that no zombie stays, and close our ends of their pipes."""
    for process in processes:
        process.wait(_REAP_SECONDS)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
