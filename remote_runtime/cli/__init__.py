"""The command line: the only part that prints, prompts and exits, and the only importer of click and rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name; None: this process's own) and return its exit status.

    0 is success, 1 an error, 2 a wrong call, 128 + n the end by signal n before the work was done.
    """
    from remote_runtime.cli.signals import Received, Signals

    arguments = list(sys.argv[1:] if argv is None else argv)
    with Signals():  # before the slower imports, so that an early Ctrl-C is a quiet end too
        try:
            from remote_runtime.cli.app import run

            return run(arguments)
        except Received as end:
            return 128 + end.number
