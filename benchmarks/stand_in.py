"""The tests' stand-in for Google's cloud, as the benchmarks of connects to its VMs need it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gce.cloud import Cloud, unavailable

ZONE, NAME, USER = "us-central1-a", "trainer", "ada"
MACHINE = ["--zone", ZONE, "--instance", NAME, "--user", USER]


def main(doc: str | None, measure: Callable[[Cloud, Path, int], dict[str, Any]], **options: Any) -> None:
    """Call ``measure(cloud, home, rounds)`` and print its result as one JSON document.

    The environment leads to that cloud, and to a new ``home`` in a temporary directory; ``options`` are the cloud's.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    rounds = parser.parse_args().rounds
    if reason := unavailable():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as directory, Cloud(Path(directory), **options) as cloud:
        home = Path(directory, "home")
        home.mkdir()
        os.environ.update(cloud.environment(), HOME=str(home), REMOTE_RUNTIME_HOME=str(home / "ours"))
        json.dump(measure(cloud, home, rounds), sys.stdout, indent=2)
        print()
