"""``remote-runtime resume``."""

from __future__ import annotations

from remote_runtime.cli.change import change_command

HELP = "Have a suspended machine of Google Compute Engine go on where it was."

command = change_command("resume", short_help="Have a suspended machine go on.", help=HELP, past="resumed")
