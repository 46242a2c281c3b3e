"""``remote-runtime create``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import NEW_VM, machine_options, option, verb
from remote_runtime.cli.vm import new_vm_options

if TYPE_CHECKING:
    from remote_runtime.providers.gce.spec import GceSpec


@verb("create", short_help="Make a machine.")
@machine_options(timeout=600, new=True)
@new_vm_options
@option("--dry-run", is_flag=True, per_call=True, section=NEW_VM, help="Show the request, and make nothing.")
def command(call: Invocation, machine: Chosen, spec: GceSpec | None, dry_run: bool) -> None:
    """Make a machine and start it, after asking if it costs.

    Jupyter is put on it by `remote-runtime connect`, or at its boot if it is a VM of Google's made with --prepare.

    A VM of Google's goes into the first zone that has such a machine left.
    """
    target = machine.target
    if dry_run and spec:
        call.reporting = True
        request = call.machine(machine).creation_request(spec, timeout=call.timeout)
        call.document(request, json.dumps(request, indent=2).splitlines())
        return
    made = call.machine(machine).create(spec, timeout=call.timeout)
    call.result(
        "created",
        f"{target.name} is {made.state}. To use it: {target.command('connect')}",
        instance=target.name,
        provider=target.provider,
        state=made.state,
    )
