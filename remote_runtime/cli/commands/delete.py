"""``remote-runtime delete``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb


@verb("delete", short_help="Delete a machine and all that is on it.")
@machine_options(timeout=60)
def command(call: Invocation, machine: Chosen) -> None:
    """Delete a machine and all that is on it, after asking.

    A machine made anew under the same name gets the same URL.
    """
    name, provider = machine.target.name, machine.target.provider
    call.confirm(f"Delete {name} ({provider}) and all that is on it?")
    call.machine(machine).delete(timeout=call.timeout)
    call.result("deleted", f"{name} is deleted", instance=name, provider=provider)
