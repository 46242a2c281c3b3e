"""``remote-runtime start``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb
from remote_runtime.cli.vm import retry_option


@verb("start", short_help="Start a stopped machine.")
@machine_options(timeout=600)
@retry_option
def command(call: Invocation, machine: Chosen, retry_until_up: bool) -> None:
    """Start a stopped machine.  Jupyter on it is started by `remote-runtime connect`."""
    target = machine.target
    started = call.machine(machine.with_gce(retry_until_up=retry_until_up)).start(timeout=call.timeout)
    call.result(
        "started",
        f"{target.name} is {started.state}. To use it: {target.command('connect')}",
        instance=target.name,
        provider=target.provider,
        state=started.state,
    )
