"""What a forwarded port carries, against `ssh -N -L` and the other tools, in the same interleaved run.

    .venv/bin/python -m benchmarks.dataplane FIGURE ... > benchmarks/results/dataplane.json
    .venv/bin/python -m benchmarks.dataplane --list

Each round measures every contender once, one after the other, each with a connection of its own over the same line;
the result is the median of the rounds, and its ratio to OpenSSH's in the same run.  Every byte is checked.  Needs root,
network namespaces and OpenSSH (client and server); a peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.forwarders import KINDS, Forwarder, forwarder
from benchmarks.netlab import Namespace, Netlab, servers, unavailable
from tests.netlab import FarSshd
from tests.openssh import Sshd, prepare, run_sshd

MB = 1_000_000
OURS = ("lean", "stock")
REFERENCE = "openssh"


class Here:
    """This machine's own network, as a place like one end of a line."""

    popen = staticmethod(subprocess.Popen)
    in_namespace = staticmethod(nullcontext)


Place = Namespace | Here
Measure = Callable[["Bench"], dict[str, float]]


@dataclass
class Bench:
    """What a measurement has: the line, the forwarder, and a way to its byte server."""

    place: Place
    forwarder: Forwarder

    def dial(self) -> Any:
        """A new client of the forwarded port."""
        return servers.connect(self.place, ("127.0.0.1", self.forwarder.port), timeout=120)


@dataclass(frozen=True)
class Figure:
    """``line``: Netlab's settings; None for this machine's own loopback.

    ``better`` is +1 where more is better, -1 where less is; ``reach`` is the ratio to OpenSSH that is promised, by what
    is measured.
    """

    text: str
    line: dict[str, Any] | None
    measure: Measure
    better: dict[str, int]
    reach: dict[str, float]


def megabytes_per_second(transfer: Callable[[Any, int], None], megabytes: int) -> Measure:
    """One transfer, slow start included."""

    def measure(bench: Bench) -> dict[str, float]:
        with bench.dial() as client:
            servers.echo(client)
            servers.exchange(client, b"warm")
        cpu = bench.forwarder.cpu_seconds()
        with bench.dial() as client:
            began = time.perf_counter()
            transfer(client, megabytes * MB)
            seconds = time.perf_counter() - began
        used = bench.forwarder.cpu_seconds() - cpu
        return {"mb_per_s": megabytes / seconds, "cpu_s_per_gb": used / (megabytes / 1000)}

    return measure


def pings(streams: int, count: int) -> Measure:
    """The round trip of 64 bytes on each of so many streams at once."""

    def measure(bench: Bench) -> dict[str, float]:
        seconds: list[float] = []
        threads = [threading.Thread(target=lambda: seconds.extend(_pings(bench, count))) for _ in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"p50_ms": statistics.median(seconds) * 1000}

    return measure


def pings_during(transfer: Callable[[Any, int], None], megabytes: int) -> Measure:
    """Pings of 64 bytes while a transfer goes on; the transfer's own speed too."""

    def measure(bench: Bench) -> dict[str, float]:
        seconds: list[float] = []
        speed: list[float] = []
        done = threading.Event()

        def move() -> None:
            with bench.dial() as client:
                began = time.perf_counter()
                transfer(client, megabytes * MB)
                speed.append(megabytes / (time.perf_counter() - began))
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
        return {"p50_ms": statistics.median(seconds[:-1] or seconds) * 1000, "mb_per_s": speed[0]}

    return measure


def _pings(bench: Bench, count: int) -> Iterator[float]:
    with bench.dial() as client:
        servers.echo(client)
        servers.exchange(client, bytes(64))
        for _ in range(count):
            began = time.perf_counter()
            servers.exchange(client, bytes(64))
            yield time.perf_counter() - began


def idle(count: int) -> Measure:
    """So many connections that say nothing: what they weigh in the forwarder."""

    def measure(bench: Bench) -> dict[str, float]:
        process = bench.forwarder.process
        with bench.dial() as client:
            servers.echo(client)
            servers.exchange(client, b"warm")
        before, threads = process.memory_info().rss, process.num_threads()
        clients = []
        try:
            for _ in range(count):
                clients.append(bench.dial())
                servers.echo(clients[-1])
            for client in clients:
                servers.exchange(client, b"x")
            used = (process.memory_info().rss - before) / MB
            return {"mb": used, "threads": process.num_threads() - threads}
        finally:
            for client in clients:
                client.close()

    return measure


def short_connections(count: int, at_once: int) -> Measure:
    """So many connections with one small exchange each; how many fail, and what is left of them."""

    def measure(bench: Bench) -> dict[str, float]:
        process = bench.forwarder.process
        with bench.dial() as client:
            servers.echo(client)
            servers.exchange(client, b"warm")
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
        time.sleep(2)
        return {
            "failed": len(failed),
            "per_s": count / seconds,
            "descriptors_left": process.num_fds() - descriptors,
            "threads_left": max(0, process.num_threads() - threads),
        }

    return measure


def bulk(text: str, transfer: Callable[[Any, int], None], *, reach: float, **line: float) -> Figure:
    """The figure of a transfer of 200 MB over that line."""
    measure = megabytes_per_second(transfer, 200)
    return Figure(f"200 MB {text}", line, measure, {"mb_per_s": 1}, {"mb_per_s": reach})


FIGURES: dict[str, Figure] = {
    "upload_60": bulk("up, 60 ms", servers.upload, reach=1.75, rtt_ms=60, queue_bytes=8 << 20),
    "upload_120": bulk("up, 120 ms", servers.upload, reach=1.75, rtt_ms=120, queue_bytes=8 << 20),
    "download_20": bulk(
        "down, 20 ms, 1 Gbit/s", servers.download, reach=1.0, rtt_ms=20, mbit=1000, queue_bytes=4 << 20
    ),
    "download_60": bulk(
        "down, 60 ms, 1 Gbit/s", servers.download, reach=1.3, rtt_ms=60, mbit=1000, queue_bytes=8 << 20
    ),
    "download_120": bulk(
        "down, 120 ms, 1 Gbit/s", servers.download, reach=1.3, rtt_ms=120, mbit=1000, queue_bytes=16 << 20
    ),
    "pings_60": Figure(
        "4 streams of 64-byte pings, 60 ms", {"rtt_ms": 60}, pings(4, 30), {"p50_ms": -1}, {"p50_ms": 0.5}
    ),
    "ping_in_download": Figure(
        "a ping during a bulk download, 50 Mbit/s, 30 ms",
        {"rtt_ms": 30, "mbit": 50, "queue_bytes": 4 << 20},
        pings_during(servers.download, 60),
        {"p50_ms": -1, "mb_per_s": 1},
        {"p50_ms": 0.5, "mb_per_s": 0.95},
    ),
    "ping_in_upload": Figure(
        "a ping during a bulk upload, 50 Mbit/s, 30 ms",
        {"rtt_ms": 30, "mbit": 50, "queue_bytes": 4 << 20},
        pings_during(servers.upload, 60),
        {"p50_ms": -1, "mb_per_s": 1},
        {"p50_ms": 0.8},
    ),
    "loopback_download": Figure(
        "1 GB down on loopback",
        None,
        megabytes_per_second(servers.download, 1000),
        {"mb_per_s": 1, "cpu_s_per_gb": -1},
        {"mb_per_s": 1.2},
    ),
    "loopback_upload": Figure(
        "1 GB up on loopback",
        None,
        megabytes_per_second(servers.upload, 1000),
        {"mb_per_s": 1, "cpu_s_per_gb": -1},
        {"mb_per_s": 1.2},
    ),
    "idle_2000": Figure("2,000 idle connections", None, idle(2000), {"mb": -1}, {}),
    "short_5000": Figure(
        "5,000 short connections, 50 at a time, 1 % loss",
        {"rtt_ms": 2, "loss": 0.01},
        short_connections(5000, 50),
        {"failed": -1},
        {},
    ),
}


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--only", choices=KINDS, action="append", help="this contender; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the figures")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:20} {figure.text}" for name, figure in FIGURES.items()))
        return
    if reason := unavailable():
        raise SystemExit(reason)
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}")
    kinds = [kind for kind in options.only or KINDS if available(kind)]
    with redirect_stdout(sys.stderr):  # sshd's log is printed at its end
        result = {name: compare(FIGURES[name], kinds, options.rounds) for name in options.figures or FIGURES}
    json.dump({"figures": result, "left_out": sorted(set(KINDS) - set(kinds)), **describe()}, sys.stdout, indent=2)
    print()


def available(kind: str) -> bool:
    """Whether that contender is installed."""
    if kind == "openssh":
        return shutil.which("ssh") is not None
    return kind in OURS or importlib.util.find_spec(kind) is not None


def compare(figure: Figure, kinds: Sequence[str], rounds: int) -> dict[str, Any]:
    """The medians of all contenders, with every single value, and their ratios to OpenSSH's."""
    values: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with laboratory(figure) as (place, sshd, far_port):
        for _ in range(rounds):
            for kind in kinds:
                try:
                    with forwarder(kind, sshd, far_port, place) as running:
                        values[kind].append(figure.measure(Bench(place, running)))
                except (OSError, servers.WrongBytes) as error:
                    if kind in OURS:
                        raise
                    print(f"{kind} failed: {error!r}")  # which is no end of the comparison: its round is missing
                else:
                    print(kind, values[kind][-1])
    result: dict[str, Any] = {"what": figure.text, "to_reach": figure.reach}
    medians = {kind: _medians(rows) for kind, rows in values.items() if rows}
    for kind, median in medians.items():
        ratios = {
            name: round(median[name] / medians[REFERENCE][name], 3)
            for name in figure.better
            if REFERENCE in medians and medians[REFERENCE][name]
        }
        result[kind] = {"median": median, "ratio": ratios, "all": [_rounded(row) for row in values[kind]]}
    return result


@contextmanager
def laboratory(figure: Figure) -> Iterator[tuple[Place, Sshd, int]]:
    """The near end of a figure's line, with an SSH server and a byte server at the far end; or all of it here."""
    options: Any = {"MaxSessions": "10000", "LogLevel": "INFO"}
    with tempfile.TemporaryDirectory() as directory:
        if figure.line is None:
            with run_sshd(Path(directory) / "sshd", **options) as here, servers.run_server(Here()) as port:
                yield Here(), here, port
            return
        with Netlab(**figure.line) as lab:
            sshd = FarSshd(prepare(Path(directory) / "sshd", ListenAddress="0.0.0.0", **options), lab)
            try:
                with servers.run_server(lab.far) as port:
                    yield lab.near, sshd, port
            finally:
                sshd.stop()


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return _rounded({name: statistics.median(row[name] for row in rows) for name in rows[0]})


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in row.items()}


if __name__ == "__main__":
    main()
