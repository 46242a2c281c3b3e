"""``remote-runtime delete``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import GCE, machine_options, option, verb
from remote_runtime.model import Instance


@verb("delete", short_help="Delete a machine and all that is on it.")
@machine_options(timeout=300)
@option("--keep-disks", is_flag=True, per_call=True, section=GCE, help="Keep its disks, which go on to cost.")
def command(call: Invocation, machine: Chosen, keep_disks: bool) -> None:
    """Delete a machine and all that is on it, after asking.

    A machine made anew under the same name gets the same URL.
    """
    name, provider = machine.target.name, machine.target.provider
    doomed = call.machine(machine)
    doomed.check_verb("delete")  # nobody is asked in vain
    what = "but not its disks" if keep_disks else "and all that is on it"
    call.check_agreement(f"Delete {name} ({provider}) {what}?")

    def confirm(found: Instance) -> None:
        which = ", ".join(filter(None, [provider, found.detail]))
        call.confirm(f"Delete {name} ({which}) {what}?")

    doomed.delete(keep_disks=keep_disks, confirm=confirm, timeout=call.timeout)
    call.result("deleted", f"{name} is deleted", instance=name, provider=provider)
