"""``remote-runtime list``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from remote_runtime.cli.invocation import Invocation
from remote_runtime.cli.options import output_options, verb


@verb("list", short_help="Show the machines that are known here.")
@output_options
def command(call: Invocation) -> None:
    """Show the machines that are known on this computer, and which of them are connected now.

    The URLs are shown without their tokens; `remote-runtime url NAME` shows one with it.
    """
    from remote_runtime.machines import list_machines

    call.reporting = True
    machines = list_machines(call.settings)
    header = ("NAME", "PROVIDER", "STATE", "URL", "PID")
    rows = [(m.name, m.provider, m.state, m.url or "-", str(m.pid or "-")) for m in machines]
    if not machines:
        call.say("No machine is known yet. To try one: remote-runtime connect --sandbox")
    call.document(
        {"runtimes": [dataclasses.asdict(machine) for machine in machines]}, columns([header, *rows]) if rows else []
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of ``rows`` below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
