"""What the delay line carries on this machine, and how punctually: the limits of every figure measured with it.

.venv/bin/python -m benchmarks.netlab.capacity > netlab.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.netlab.lab import Netlab
from benchmarks.netlab.servers import connect, download, echo, exchange, run_server, upload

BYTES = 200_000_000
LINES: dict[str, dict[str, float]] = {
    "bundled, no delay": {},
    "bundled, 20 ms": {"rtt_ms": 20},
    "bundled, 20 ms, 1000 Mbit/s": {"rtt_ms": 20, "mbit": 1000},
    "packet by packet, 20 ms": {"rtt_ms": 20, "loss": 1e-9},  # the least loss turns bundles off
    "packet by packet, 20 ms, 100 Mbit/s": {"rtt_ms": 20, "mbit": 100},
}


def main() -> None:
    """Measure and print one JSON document."""
    figures = {name: measure(**line) for name, line in LINES.items()}
    about = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    json.dump({"lines": figures, **about}, sys.stdout, indent=2)
    print()


def measure(**line: float) -> dict[str, Any]:
    """Throughput each way in Mbit/s, and what the line adds to the round trip of single pings in milliseconds."""
    with Netlab(**line) as lab, run_server(lab.far) as port:

        def timed(action: Callable[..., None], count: int) -> float:
            with connect(lab.near, (lab.far.address, port)) as client:
                started = time.perf_counter()
                action(client, count)
                return round(count * 8e-6 / (time.perf_counter() - started))

        count = int(min(BYTES, line.get("mbit", 1e9) * 1e6 / 8 * 4))
        pings = ping(lab, port)
        figures = {"down_mbit": timed(download, count), "up_mbit": timed(upload, count)}
        late = [1000 * seconds - line.get("rtt_ms", 0) for seconds in pings]
        figures["added_ms"] = {"median": round(statistics.median(late), 3), "p99": round(sorted(late)[-2], 3)}
        figures["overruns"] = lab.statistics().overruns
        return figures


def ping(lab: Netlab, port: int, times: int = 100) -> list[float]:
    """Round trips of 64 bytes, in seconds."""
    with connect(lab.near, (lab.far.address, port)) as client:
        echo(client)
        exchange(client, bytes(64))
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            exchange(client, bytes(64))
            seconds.append(time.perf_counter() - started)
        return seconds


if __name__ == "__main__":
    main()
