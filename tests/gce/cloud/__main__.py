"""Run the stand-in by itself: ``python -m tests.gce.cloud [--no-boot] [NAME...]``.

Makes the VMs that are named, prints the environment that leads to it as lines for a shell, and goes on until its
standard input ends.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from tests.gce.cloud import Cloud, unavailable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gce.cloud")
    parser.add_argument("--no-boot", action="store_true", help="VMs are entries in a list")
    parser.add_argument("names", nargs="*", help="VMs to make")
    chosen = parser.parse_args()
    if not chosen.no_boot and (reason := unavailable()):
        print(reason, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as directory, Cloud(Path(directory), boots=not chosen.no_boot) as cloud:
        for name in chosen.names:
            cloud.vm(name, metadata={"enable-guest-attributes": "TRUE"})
        for name, value in cloud.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
