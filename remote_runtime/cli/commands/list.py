"""``remote-runtime list``."""

from __future__ import annotations

import dataclasses
from typing import Any

from remote_runtime.cli.invocation import Invocation
from remote_runtime.cli.layout import table
from remote_runtime.cli.options import GCE, option, output_options, verb
from remote_runtime.cli.precedence import said_here
from remote_runtime.cli.values import SECONDS, TEXT
from remote_runtime.errors import UsageError
from remote_runtime.events import Event, Notice


@verb("list", short_help="Show the machines that are known here.")
@option("--vms", is_flag=True, per_call=True, section=GCE, help="The VMs of a Google Cloud project, in all zones.")
@option("--project", type=TEXT, section=GCE, help="That project. [default: gcloud's]")
@option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    default=60,
    show_default=True,
    section=GCE,
    help="Give up after that long.",
)
@output_options
def command(call: Invocation, vms: bool, project: str | None, timeout: float) -> None:
    """Show the machines that are known on this computer, and which of them are connected now.

    The URLs are shown without their tokens; `remote-runtime url NAME` shows one with it.
    """
    if vms:
        _list_vms(call, project, timeout)
        return
    if said_here("project"):
        raise UsageError(
            "--project is for the VMs of a project, and the machines known here were asked for", hint="Add --vms."
        )
    from remote_runtime.machines import list_machines

    call.reporting = True
    damaged: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Notice):
            damaged.append(event.text)
        call.on_event(event)

    machines = list_machines(call.settings, on_event)
    header = ("NAME", "PROVIDER", "STATE", "URL", "PID")
    rows = [(m.name, m.provider, m.state, m.url or "-", str(m.pid or "-")) for m in machines]
    if not machines and not damaged:
        call.say("No machine is known yet. To try one: remote-runtime connect --sandbox")
    lines = table([header, *rows], call.terminal.out_width) if rows else []
    document: dict[str, Any] = {"runtimes": [dataclasses.asdict(machine) for machine in machines]}
    call.document({**document, "damaged": damaged} if damaged else document, lines)


def _list_vms(call: Invocation, project: str | None, timeout: float) -> None:
    """The VMs of a project; zones that could not be asked are a warning, and in the document."""
    from remote_runtime.machines import list_vms

    call.reporting = True
    listed = list_vms(project=project, timeout=timeout, settings=call.settings)
    if listed.unreachable:
        zones = ", ".join(listed.unreachable)
        call.on_event(Notice("zones_unreachable", f"These zones could not be asked: {zones}", "warning"))
    header = ("NAME", "ZONE", "STATE", "AGE", "ADDRESS", "OWNER")
    rows = [(vm.name, vm.zone, vm.status.lower(), vm.age, vm.address or "-", vm.owner or "-") for vm in listed.vms]
    if not rows:
        call.say(f"The project {listed.project} has no VM. To make one: remote-runtime create --zone ZONE NAME")
    document = {
        "project": listed.project,
        "vms": [dataclasses.asdict(vm) for vm in listed.vms],
        "unreachable_zones": list(listed.unreachable),
    }
    call.document(document, table([header, *rows], call.terminal.out_width) if rows else [])
