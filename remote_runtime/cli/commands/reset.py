"""``remote-runtime reset``."""

from __future__ import annotations

from remote_runtime.cli.change import change_command

HELP = """Reset a machine of Google Compute Engine, as by its reset button.

What is not on a disk is lost.  It keeps its address.
"""

command = change_command("reset", short_help="Reset a machine, as by its reset button.", help=HELP, past="reset")
