"""``remote-runtime suspend``."""

from __future__ import annotations

from remote_runtime.cli.change import change_command

HELP = """Suspend a machine of Google Compute Engine: its memory is kept, and it costs little.

`remote-runtime connect` or `remote-runtime resume` has it go on, with all its kernels.
"""

command = change_command("suspend", short_help="Suspend a machine, with all it does.", help=HELP, past="suspended")
