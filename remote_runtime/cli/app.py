"""The command ``remote-runtime``: its commands, found when they are needed, and the way from error to exit status."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click

from remote_runtime.cli.failure import INTERRUPTED, translate
from remote_runtime.cli.invocation import Invocation
from remote_runtime.cli.layout import Context
from remote_runtime.cli.signals import Received
from remote_runtime.cli.terminal import OutputClosed, Terminal
from remote_runtime.errors import RemoteRuntimeError, UsageError
from remote_runtime.settings import Settings

SECTIONS = {
    "Use a machine": ("connect", "url", "list", "status", "logs", "stop"),
    "The machines themselves": ("create", "start", "suspend", "resume", "reset", "delete", "uninstall"),
    "Prepared machines": ("startup-script",),
    "A Jupyter on this computer": ("extension",),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


class Group(click.Group):
    """The commands, each in a module of its name that is imported when the command is looked at."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """See click."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """See click."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"remote_runtime.cli.commands.{cmd_name.replace('-', '_')}")
        found: click.Command = module.command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; an unknown command is answered with the closest one."""
        if not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            alike = [name for name in COMMANDS if name[0] == args[0][:1]]  # who writes install means no uninstall
            close = difflib.get_close_matches(args[0], alike, n=1, cutoff=0.7)
            raise UsageError(
                f"There is no command {args[0]!a}",
                hint=f"Did you mean {close[0]}?" if close else f"The commands are: {', '.join(COMMANDS)}.",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click; the commands are shown by what they are for."""
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, found.get_short_help_str(60)) for name, found in commands if found])


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="remote-runtime COMMAND --help tells more about each of them.",
)
@click.version_option(package_name="remote-runtime", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """A notebook backend on a remote machine, at a localhost URL that keeps working.

    Start with:  remote-runtime connect --sandbox
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
    call: Invocation = ctx.obj
    call.settings = Settings.load()
    ctx.default_map = dict.fromkeys(COMMANDS, call.settings.profile)
    if call.settings.profile:
        call.remarks = tuple(_remarks(ctx, call.settings.profile))


def _remarks(ctx: click.Context, profile: Iterable[str]) -> Iterator[str]:
    """What is to be said about a profile: entries that no option reads."""
    commands = filter(None, (group.get_command(ctx, name) for name in COMMANDS))
    known = {str(one.name) for command in commands for one in command.params if not getattr(one, "per_call", True)}
    for name in sorted(set(profile) - known):
        close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
        guess = f"Did you mean {close[0]}?" if close else "Entries have the names of options, with underscores."
        yield f"The profile's entry {name!a} is no option, so it is not used. {guess}"


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; all that happens is reported here."""
    _share_trust()
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    call = Invocation(Terminal.standard(), json="--json" in before_dashes, verbose="-v" in before_dashes)
    try:
        try:
            status = group.main(list(arguments), prog_name="remote-runtime", standalone_mode=False, obj=call)
            return status if isinstance(status, int) else 0
        finally:
            call.close()
    except Received as end:
        return _ended(call, end)
    except Exception as error:
        return _failed(call, translate(error))


def _share_trust() -> None:
    """Let requests, by which Google's APIs are called, trust what OpenSSL trusts by SSL_CERT_FILE.

    It has a variable of its own for that, which goes first.
    """
    trusted = os.environ.get("SSL_CERT_FILE", "")
    if Path(trusted).is_file():
        os.environ.setdefault("REQUESTS_CA_BUNDLE", trusted)


def _failed(call: Invocation, error: RemoteRuntimeError) -> int:
    with suppress(OutputClosed, RemoteRuntimeError):  # nobody hears us: the exit status still says it
        call.failed(error)
    return error.exit_status


def _ended(call: Invocation, end: Received) -> int:
    if call.ready:
        return 0
    if not isinstance(end, OutputClosed):
        error = RemoteRuntimeError(f"Ended by {end.name}", code=INTERRUPTED, retryable=True)
        _failed(call, error)
    return 128 + end.number
