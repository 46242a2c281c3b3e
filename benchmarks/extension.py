"""What HTTP over a WebSocket costs: against plain HTTP on the same server, and against the original extension.

    .venv/bin/python -m benchmarks.extension      # writes results/extension.json; minutes, on a machine of its own
    .venv/bin/python -m benchmarks.extension --quick      # little of everything, printed only

Two Jupyter servers run side by side: one with our extension in this environment, one with the original
`jupyter_http_over_ws` 0.0.8 in the newest environment that it works in, which is made for it (so the package index must
be reachable).  Everything is measured in turn, direct and carried, ours and the original, round by round, and a ratio
is always one of the same server and the same round.  The clients are those of `raw_clients`.

A download is compared with its limit as well: what base64 and sending take alone, measured in the same run.

The exit status is 1 if a figure is not what we promise; ``holds`` in the result says which.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.extension_kernels import round_trips
from benchmarks.extension_limit import sent_alone
from benchmarks.extension_memory import memory, stream
from benchmarks.raw_clients import Carried, Direct, carried_in_flight, direct_in_flight
from remote_runtime.guest.wheel import build_wheel, extension_files, unpack
from tests.jupyter.conftest import Jupyter, running_jupyter
from tests.jupyter.environments import index_environment

ORIGINAL = ("jupyter_http_over_ws==0.0.8", "notebook==6.5.7", "tornado==6.4.2", "jupyter_server", "setuptools")
"""The last one since the original imports distutils, which newer Pythons have from there only."""

SMALL = "/api/status"
FILE = "/files/download.bin?token={token}"  # the original gets no file by its login alone
MB = 1_000_000
RESULTS = Path(__file__).parent / "results" / "extension.json"


@dataclass(frozen=True)
class Amounts:
    """How much of everything."""

    rounds: int = 7
    requests: int = 1000
    width: int = 50
    file_mb: int = 80
    pairs: int = 200
    stream_mb: int = 1000
    readers: int = 40
    stalled_mb: int = 50


QUICK = Amounts(rounds=3, requests=200, file_mb=20, pairs=20, stream_mb=100)

Servers = dict[str, Jupyter]
Figures = dict[str, float]


def main() -> None:
    """Measure and write one JSON document; say on stderr how far it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as directory, ExitStack() as opened:
        told = {**measure(servers(Path(directory), opened), QUICK if quick else Amounts()), **describe()}
    told["holds"] = holds(told)
    text = json.dumps(told, indent=2)
    if quick:
        print(text)
    else:
        RESULTS.write_text(text + "\n")
    raise SystemExit(0 if all(told["holds"].values()) else 1)


def servers(directory: Path, opened: ExitStack) -> Servers:
    """Both servers, running."""
    environment = index_environment(directory / "original", *ORIGINAL)
    unpack(build_wheel(extension_files())[1], str(directory / "extension"))
    (directory / "installed").mkdir()  # nothing of ours: the original is in its environment
    ours = running_jupyter(directory / "ours", directory / "extension")
    original = running_jupyter(directory / "theirs", directory / "installed", python=str(environment.python))
    return {"ours": opened.enter_context(ours), "original": opened.enter_context(original)}


def measure(running: Servers, amounts: Amounts) -> dict[str, Any]:
    """All figures: seconds, milliseconds and megabytes as the names say."""
    for server in running.values():
        (server.root_dir / "download.bin").write_bytes(bytes(amounts.file_mb * MB))
    written = stream("download", amounts.file_mb * MB)
    told: dict[str, Any] = {"amounts": vars(amounts)}

    def tell(name: str, figures: Any) -> None:
        told[name] = figures
        print(name, json.dumps(figures), file=sys.stderr, flush=True)

    def taken(name: str, one: Callable[[Jupyter, str], Figures]) -> None:
        tell(name, in_turn(running, amounts.rounds, one))

    ours = running["ours"]
    taken("requests_one_by_one", lambda server, way: one_by_one(server, way, amounts))
    taken("requests_in_flight", lambda server, way: in_flight(server, way, amounts))
    taken("download_of_a_file", lambda server, way: download(server, way, FILE))
    tell("download_limit", limit(ours, amounts, told["download_of_a_file"]["ours"]))
    taken("download_as_written", lambda server, way: download(server, way, written))
    tell("kernel_round_trip", {name: round_trips(server, amounts.pairs) for name, server in running.items()})
    tell("memory", memory(ours, amounts.stream_mb * MB, amounts.readers, amounts.stalled_mb * MB))
    return told


def limit(server: Jupyter, amounts: Amounts, download: dict[str, Figures]) -> dict[str, Any]:
    """What sending the file takes without a server, as it is and as base64, and what ``download`` is to that."""
    alone = sent_alone(server.root_dir / "download.bin", amounts.rounds, spent)
    least = {name: medians(rows) for name, rows in alone.items()}
    return {
        **least,
        "base64_to_direct": medians(ratios([download["direct"]], [least["base64"]])),
        "carried_to_base64": medians(ratios([least["base64"]], [download["carried"]])),
    }


def in_turn(running: Servers, rounds: int, one: Callable[[Jupyter, str], Figures]) -> dict[str, dict[str, Figures]]:
    """Let each server be measured each way, again and again: medians of the figures, and of their ratios."""
    found: dict[str, dict[str, list[Figures]]] = {name: {"direct": [], "carried": []} for name in running}
    for number in range(rounds + 1):
        for name, server in running.items():
            for way in ("direct", "carried") if number % 2 else ("carried", "direct"):
                figures = one(server, way)
                if number:  # the first round warms up
                    found[name][way].append(figures)
    return {
        name: {**{way: medians(rows) for way, rows in ways.items()}, "carried_to_direct": medians(ratios(**ways))}
        for name, ways in found.items()
    }


def medians(rows: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return {figure: round(statistics.median(row[figure] for row in rows), 3) for figure in rows[0]}


def ratios(direct: Sequence[Figures], carried: Sequence[Figures]) -> list[Figures]:
    """Each figure of the one way divided by that of the other way, round by round."""
    return [
        {figure: after[figure] / max(before[figure], 1e-9) for figure in before if figure in after}
        for before, after in zip(direct, carried, strict=True)
    ]


def one_by_one(server: Jupyter, way: str, amounts: Amounts) -> Figures:
    """Small requests, each after the answer to the last one."""
    took = []
    with client(server, way) as connection, spent(server.process.pid) as figures:
        for _ in range(amounts.requests):
            asked = time.perf_counter()
            connection.get(SMALL)
            took.append(time.perf_counter() - asked)
    return speed(took, **figures)


def in_flight(server: Jupyter, way: str, amounts: Amounts) -> Figures:
    """Small requests, many at once."""
    ask = direct_in_flight if way == "direct" else carried_in_flight
    with spent(server.process.pid) as figures:
        took = ask(server.port, server.token, SMALL, total=amounts.requests, width=amounts.width)
    return speed(took, **figures)


def download(server: Jupyter, way: str, path: str) -> Figures:
    """One big answer."""
    with client(server, way) as connection, spent(server.process.pid) as figures:
        connection.get(path.format(token=server.token))
    return {**figures, "per_second": 1 / figures["seconds"]}


def client(server: Jupyter, way: str) -> Direct | Carried:
    return (Direct if way == "direct" else Carried)(server.port, server.token)


def speed(took: Sequence[float], seconds: float, server_cpu_seconds: float) -> Figures:
    """How many a second, how long the usual one and a slow one took, and what each cost the server."""
    ordered = sorted(took)
    return {
        "per_second": len(took) / seconds,
        "median_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
        "server_cpu_ms": server_cpu_seconds / len(took) * 1000,
    }


@contextmanager
def spent(process: int) -> Iterator[Figures]:
    """The time that passes in the block, and the processor time that the server ``process`` has of it; known after."""
    clock = ~process << 3 | 2  # Linux's number for that process's clock; psutil's times are of 10 ms
    figures: Figures = {}
    cpu, began = time.clock_gettime(clock), time.perf_counter()
    yield figures
    figures["seconds"] = time.perf_counter() - began
    figures["server_cpu_seconds"] = time.clock_gettime(clock) - cpu


def holds(result: dict[str, Any]) -> dict[str, bool]:
    """Which of our promises the figures keep."""
    kinds = ("requests_one_by_one", "requests_in_flight", "download_of_a_file")
    one, many, file = (result[kind]["ours"]["carried_to_direct"] for kind in kinds)
    return {
        "requests one by one: at least 0.9 of direct": one["per_second"] >= 0.9,
        "requests in flight: at least 0.9 of direct": many["per_second"] >= 0.9,
        "p99: at most 2 x direct": max(one["p99_ms"], many["p99_ms"]) <= 2,
        "download: at least 0.4 of direct": file["per_second"] >= 0.4,
        "download: at most 2 x the server's processor time": file["server_cpu_seconds"] <= 2,
        "kernel round trip: at most 2 ms over direct": result["kernel_round_trip"]["ours"]["over_direct_ms"] <= 2,
        "memory: within 20 MB over a long download": result["memory"]["download"]["grew_mb"] <= 20,
        "memory: within 20 MB over stalled readers": result["memory"]["stalled_readers"]["grew_mb"] <= 20,
    }


if __name__ == "__main__":
    main()
