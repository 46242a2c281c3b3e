"""``remote-runtime start``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb


@verb("start", short_help="Start a stopped machine.")
@machine_options(timeout=600)
def command(call: Invocation, machine: Chosen) -> None:
    """Start a stopped machine.  Jupyter on it is started by `remote-runtime connect`."""
    target = machine.target
    started = call.machine(machine).start(timeout=call.timeout)
    call.result(
        "started",
        f"{target.name} is {started.state}. To use it: {target.command('connect')}",
        instance=target.name,
        provider=target.provider,
        state=started.state,
    )
