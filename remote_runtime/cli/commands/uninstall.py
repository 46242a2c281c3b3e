"""``remote-runtime uninstall``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb


@verb("uninstall", short_help="Remove all that remote-runtime put on a machine.")
@machine_options(timeout=60)
def command(call: Invocation, machine: Chosen) -> None:
    """Stop Jupyter on a machine and remove all that remote-runtime put there, after asking.

    Notebooks and other files of yours stay.  This computer forgets the machine, with its URL and token.
    """
    name, provider = machine.target.name, machine.target.provider
    call.confirm(f"Stop Jupyter on {name} ({provider}) and remove all that remote-runtime put there?")
    removed = call.machine(machine).uninstall(timeout=call.timeout)
    call.result(
        "uninstalled",
        f"Removed from {name}: {', '.join(removed) if removed else 'nothing, as nothing of ours was there'}",
        instance=name,
        provider=provider,
        removed=removed,
    )
