"""``remote-runtime exec``."""

from __future__ import annotations

import json

import click

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import Command, machine_options, option, verb
from remote_runtime.errors import UsageError

INPUT_LIMIT = 64 << 20
BY_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a command."""

EPILOG = """\b
Examples:
  remote-runtime exec trainer -- nvidia-smi
  remote-runtime exec me@gpu.example.com -- sh -c 'du -sh * | sort -h'
  remote-runtime exec --stdin trainer -- python3 - < script.py
"""


class _WithCommand(Command):
    """A command that takes a command line of its own after ``--``, and leaves it in the context's ``args``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        dashes = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:dashes])
        ctx.args = args[dashes + 1 :]
        if not ctx.args and not ctx.resilient_parsing:
            hint = "Write it behind two hyphens: remote-runtime exec NAME -- COMMAND"
            raise UsageError("No command was given", hint=hint)
        return ctx.args

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """See click."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGUMENT]..."]


@verb("exec", cls=_WithCommand, short_help="Run a command on a machine.", epilog=EPILOG)
@machine_options(timeout=600)
@option("--stdin", is_flag=True, per_call=True, section="Command", help="Send it the standard input, up to 64 MiB.")
def command(call: Invocation, machine: Chosen, stdin: bool) -> None:
    """Run a command on a machine, without a shell or a terminal, from the home directory.

    Its output comes as it is written, and its exit status is ours: 127 if there is no such command, and 128 + n if
    signal n ended it. What we could not do ourselves is 1, with an error. It needs no Jupyter. It ends with the
    connection: what shall go on belongs into a notebook, or behind `setsid nohup`.

    With --json: one object with its "code", "stdout" and "stderr" when it has ended.
    """
    context = click.get_current_context()
    call.reporting = True
    data = call.terminal.read_all(INPUT_LIMIT) if stdin else b""

    def show(stream: str, piece: bytes) -> None:
        call.close()
        call.terminal.pass_on(stream, piece)

    done = call.machine(machine).run(
        context.args, input=data, on_output=None if call.json else show, timeout=call.timeout
    )
    code = done.returncode if done.returncode >= 0 else BY_SIGNAL - done.returncode
    if call.json:
        # As JSON escapes them, control characters need not be taken out, as elsewhere.
        said = {"stdout": done.stdout.decode("utf-8", "replace"), "stderr": done.stderr.decode("utf-8", "replace")}
        call.terminal.out(json.dumps({"code": code, **said}))
    context.exit(code)
