"""The commands that suspend, resume and reset a machine: they differ in words alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import Command, machine_options, verb

if TYPE_CHECKING:
    from remote_runtime.providers import Change


def change_command(name: Change, *, short_help: str, help: str, past: str) -> Command:
    """The command for one of these verbs; ``past`` is its past participle."""

    @verb(name, short_help=short_help, help=help)
    @machine_options(timeout=600)
    def command(call: Invocation, machine: Chosen) -> None:
        target = machine.target
        changed = call.machine(machine).change(name, timeout=call.timeout)
        text = f"{target.name} is {past}"
        values = {"instance": target.name, "provider": target.provider, "state": changed.state}
        call.result(past, text, **values)

    return command
