"""The startup script for real: as root on a Debian of its own, under systemd, through reboots and mishaps.

    .venv/bin/python -m benchmarks.vm > benchmarks/results/vm.json      # as `make vm` does

Runs the tests of tests/provisioning that take minutes, and tells how each went.  Needs root, debootstrap and Debian's
packages.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout

import pytest

from benchmarks.environment import describe


class Outcomes:
    """A plugin of pytest's that counts."""

    def __init__(self) -> None:
        self.passed: dict[str, float] = {}
        self.failed: list[str] = []
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See pytest."""
        if report.failed:
            self.failed.append(f"{report.nodeid} ({report.when})")
        elif report.skipped:
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.passed[report.nodeid] = round(report.duration, 1)


def main() -> None:
    """Run them and print one JSON document; the exit status is pytest's."""
    outcomes = Outcomes()
    with redirect_stdout(sys.stderr):
        status = pytest.main(["-m", "slow", "-rs", "tests/provisioning"], plugins=[outcomes])
    result = {
        "passed": len(outcomes.passed),
        "failed": len(outcomes.failed),
        "skipped": len(outcomes.skipped),
        "seconds": outcomes.passed,
        "failures": outcomes.failed,
        **describe(),
    }
    json.dump(result, sys.stdout, indent=2)
    print()
    raise SystemExit(status)


if __name__ == "__main__":
    main()
