"""``remote-runtime create``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb


@verb("create", short_help="Make a machine.")
@machine_options(timeout=60, new=True)
def command(call: Invocation, machine: Chosen) -> None:
    """Make a machine and start it.  Jupyter is put on it by `remote-runtime connect`."""
    target = machine.target
    made = call.machine(machine).create(timeout=call.timeout)
    call.result(
        "created",
        f"{target.name} is {made.state}. To use it: {target.command('connect')}",
        instance=target.name,
        provider=target.provider,
        state=made.state,
    )
