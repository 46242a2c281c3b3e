"""How long a new request waits that comes at the moment when the SSH connection is cut.

    .venv/bin/python -m benchmarks.cuts > benchmarks/results/cuts.json

sshd's process of the connection is killed, and at once a new HTTP request is made through the forward; 50 times.  The
reference is the same request while nothing is cut.  Needs OpenSSH's server.  Everything is made in a temporary
directory and removed at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from tests.faults.service import service
from tests.faults.web import web_server
from tests.openssh import run_sshd


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=50, help="default: 50")
    cuts = parser.parse_args().cuts
    with tempfile.TemporaryDirectory() as directory, redirect_stdout(sys.stderr):  # sshd's log is printed at its end
        result = measure(Path(directory), cuts)
    json.dump(result, sys.stdout, indent=2)
    print()


def measure(directory: Path, cuts: int) -> dict[str, Any]:
    """All figures, in seconds, with what they were taken on.  A request that fails ends the measurement."""
    with run_sshd(directory / "sshd") as sshd, web_server() as port, service(sshd.endpoint, port) as served:
        undisturbed, after_cut = [], []
        for _ in range(cuts):
            undisturbed.append(served.get())
            if not sshd.kill_connections():
                raise SystemExit("there was no connection to cut")
            after_cut.append(served.get())
    return {
        "cuts": cuts,
        "failed": 0,
        "after_cut": summary(after_cut),
        "undisturbed": summary(undisturbed),
        **describe(),
    }


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the worst."""
    return {"median": round(statistics.median(seconds), 4), "worst": round(max(seconds), 4)}


if __name__ == "__main__":
    main()
