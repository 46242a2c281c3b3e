"""``remote-runtime url``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb


@verb("url", short_help="Print a machine's URL, with its token.")
@machine_options(timeout=60)
def command(call: Invocation, machine: Chosen) -> None:
    """Print the URL of a machine, with its token: whoever has it can run code there.

    It is the URL of the last connect, and works while the machine is connected.
    """
    call.reporting = True
    known = call.machine(machine).remembered()
    call.document(
        {
            "name": known.name,
            "provider": known.provider,
            "url": known.url,
            "port": known.local_port,
            "token": known.token,
        },
        [known.url],
    )
