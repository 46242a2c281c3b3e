"""What is measured of one contender: each function returns values by name, of one round."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.forwarders import Forwarder, arguments, forwarder
from benchmarks.netlab import Namespace, Netlab, servers
from tests.openssh import Sshd

MB = 1_000_000
OPEN = "tcp"
"""The contender that is none: no SSH at all, straight to the byte server; it shows what the line and TCP allow."""

_PROJECT = Path(__file__).parents[1]

Transfer = Callable[[Any, int], None]
Measure = Callable[["Bench"], dict[str, float]]


class Here:
    """This machine's own network, as a place like one end of a line."""

    address = "127.0.0.1"
    popen = staticmethod(subprocess.Popen)
    run = staticmethod(subprocess.run)
    in_namespace = staticmethod(nullcontext)


Place = Namespace | Here


class Bench:
    """One contender on one line, with a connection of its own from the first use until the end of the block.

    ``near`` and ``far`` are the two ends, ``port`` is the byte server's at the far one; ``lab`` is None on loopback.
    """

    def __init__(self, kind: str, near: Place, far: Place, sshd: Sshd, port: int, lab: Netlab | None) -> None:
        self.kind = kind
        self.near = near
        self.lab = lab
        self._far = far
        self._sshd = sshd
        self._port = port
        self._opened = ExitStack()

    @cached_property
    def forwarder(self) -> Forwarder:
        """The contender's program, which runs from now on."""
        return self._opened.enter_context(forwarder(self.kind, self._sshd, self._port, self.near))

    def dial(self) -> Any:
        """A new client of the forwarded port."""
        where = (self._far.address, self._port) if self.kind == OPEN else ("127.0.0.1", self.forwarder.port)
        return servers.connect(self.near, where, timeout=120)

    def warm(self) -> None:
        """See that the connection stands and carries something."""
        with self.dial() as client:
            servers.echo(client)
            servers.exchange(client, b"warm")

    def cpu_seconds(self) -> float:
        """The CPU time that the contender has used until now."""
        return 0.0 if self.kind == OPEN else self.forwarder.cpu_seconds()

    def connect_once(self, kind: str, home: Path) -> float:
        """How many seconds :mod:`benchmarks.roundtrips` takes by that client, whose ``$HOME`` is ``home``."""
        argv = [sys.executable, "-m", "benchmarks.roundtrips", kind, *arguments(self._sshd, self._port)]
        environ = {**os.environ, "HOME": str(home), "REMOTE_RUNTIME_HOME": str(home / "remote-runtime")}
        done = self.near.run(argv, cwd=_PROJECT, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        return float(done.stdout)

    @property
    def home(self) -> Path:
        """A directory for what a client keeps from one connect to the next."""
        directory = self._sshd.files.directory / "client-home"
        directory.mkdir(exist_ok=True)
        return directory

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def megabytes_per_second(transfer: Transfer, megabytes: float) -> Measure:
    """One transfer, slow start included."""

    def measure(bench: Bench) -> dict[str, float]:
        bench.warm()
        cpu = bench.cpu_seconds()
        speed = _speed(bench, transfer, megabytes)
        return {"mb_per_s": speed, "cpu_s_per_gb": (bench.cpu_seconds() - cpu) / (megabytes / 1000)}

    return measure


def both_ways(megabytes: float) -> Measure:
    """A download, then an upload."""

    def measure(bench: Bench) -> dict[str, float]:
        bench.warm()
        return {
            "down_mb_per_s": _speed(bench, servers.download, megabytes),
            "up_mb_per_s": _speed(bench, servers.upload, megabytes),
        }

    return measure


def pings(streams: int, count: int) -> Measure:
    """The round trip of 64 bytes on each of so many streams at once."""

    def measure(bench: Bench) -> dict[str, float]:
        seconds: list[float] = []
        threads = [threading.Thread(target=lambda: seconds.extend(_pings(bench, count))) for _ in range(streams)]
        bench.warm()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"p50_ms": statistics.median(seconds) * 1000}

    return measure


def pings_during(transfer: Transfer, megabytes: float) -> Measure:
    """Pings of 64 bytes while a transfer goes on; the transfer's own speed too."""

    def measure(bench: Bench) -> dict[str, float]:
        seconds: list[float] = []
        speed: list[float] = []
        failed: list[Exception] = []
        done = threading.Event()

        def move() -> None:
            try:
                speed.append(_speed(bench, transfer, megabytes))
            except (OSError, servers.WrongBytes) as error:
                failed.append(error)
            finally:
                done.set()

        with bench.dial() as client:
            servers.echo(client)
            servers.exchange(client, bytes(64))
            mover = threading.Thread(target=move)
            mover.start()
            done.wait(1.5)  # past the slow start
            while not done.wait(0.05):
                began = time.perf_counter()
                servers.exchange(client, bytes(64))
                seconds.append(time.perf_counter() - began)
            mover.join()
        if failed:
            raise failed[0]
        return {"p50_ms": statistics.median(seconds[:-1] or seconds) * 1000, "mb_per_s": speed[0]}

    return measure


def idle(count: int) -> Measure:
    """So many connections that say nothing: what they weigh in the forwarder."""

    def measure(bench: Bench) -> dict[str, float]:
        bench.warm()
        process = bench.forwarder.process
        before, threads = process.memory_info().rss, process.num_threads()
        with ExitStack() as opened:
            clients = []
            for _ in range(count):
                clients.append(opened.enter_context(bench.dial()))
                servers.echo(clients[-1])
            for client in clients:
                servers.exchange(client, b"x")
            return {"mb": (process.memory_info().rss - before) / MB, "threads": process.num_threads() - threads}

    return measure


def short_connections(count: int, at_once: int) -> Measure:
    """So many connections with one small exchange each; how many fail, and what is left of them."""

    def measure(bench: Bench) -> dict[str, float]:
        bench.warm()
        process = bench.forwarder.process
        descriptors, threads = process.num_fds(), process.num_threads()
        todo = iter(range(count))
        lock, failed = threading.Lock(), []

        def work() -> None:
            while True:
                with lock:
                    if next(todo, None) is None:
                        return
                try:
                    with bench.dial() as client:
                        servers.echo(client)
                        servers.exchange(client, bytes(200))
                except OSError as error:
                    failed.append(error)

        workers = [threading.Thread(target=work) for _ in range(at_once)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - began
        end = time.monotonic() + 10  # the last ones' ends are still under way
        while process.num_fds() > descriptors and time.monotonic() < end:
            time.sleep(0.1)
        return {
            "failed": len(failed),
            "per_s": count / seconds,
            "descriptors_left": max(0, process.num_fds() - descriptors),
            "threads_left": max(0, process.num_threads() - threads),
        }

    return measure


def round_trips(rtt_ms: float, client: str = "") -> Measure:
    """How many round trips the contender (or ``client``) needs to connect, on a line of ``rtt_ms``.

    ``round_trips`` is the time by the round trip; ``waits`` has what the same takes without a delay taken off before,
    so it is what is waited for, without the computing.
    """

    def measure(bench: Bench) -> dict[str, float]:
        assert bench.lab
        seconds = {}
        if client:  # the first one of all is a cold one
            bench.lab.set(rtt_ms=0)
            bench.connect_once(client, bench.home)
        for rtt in (0.0, rtt_ms):
            bench.lab.set(rtt_ms=rtt)
            seconds[rtt] = bench.connect_once(client or bench.kind, bench.home)
        return {
            "round_trips": seconds[rtt_ms] * 1000 / rtt_ms,
            "waits": (seconds[rtt_ms] - seconds[0.0]) * 1000 / rtt_ms,
        }

    return measure


def _speed(bench: Bench, transfer: Transfer, megabytes: float) -> float:
    with bench.dial() as client:
        began = time.perf_counter()
        transfer(client, int(megabytes * MB))
        return megabytes / (time.perf_counter() - began)


def _pings(bench: Bench, count: int) -> Iterator[float]:
    with bench.dial() as client:
        servers.echo(client)
        servers.exchange(client, bytes(64))
        for _ in range(count):
            began = time.perf_counter()
            servers.exchange(client, bytes(64))
            yield time.perf_counter() - began
