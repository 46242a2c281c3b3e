"""``remote-runtime logs``."""

from __future__ import annotations

import click

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, option, verb
from remote_runtime.cli.terminal import visible


@verb("logs", short_help="Print the log of Jupyter on a machine.")
@machine_options(timeout=60)
@option(
    "-n",
    "--lines",
    type=click.IntRange(1, 100_000),
    default=200,
    show_default=True,
    metavar="N",
    section="Log",
    help="How many of the newest lines.",
)
def command(call: Invocation, machine: Chosen, lines: int) -> None:
    """Print the newest lines of the log of Jupyter on a machine."""
    call.reporting = True
    found = [visible(line) for line in call.machine(machine).logs(lines=lines, timeout=call.timeout)]
    call.document({"name": machine.target.name, "provider": machine.target.provider, "lines": found}, found)
