"""The command ``remote-runtime``: its commands, found when they are needed, and the way from error to exit status."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from remote_runtime.cli.failure import INTERRUPTED, translate
from remote_runtime.cli.groups import Group
from remote_runtime.cli.invocation import Invocation
from remote_runtime.cli.options import Option
from remote_runtime.cli.signals import Received
from remote_runtime.cli.terminal import OutputClosed, Terminal
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.settings import LIBRARY_OPTIONS, PREFIX, Settings

SECTIONS = {
    "Use a machine": ("connect", "url", "list", "status", "logs", "exec", "stop"),
    "The machines themselves": ("create", "start", "suspend", "resume", "reset", "delete", "uninstall"),
    "Prepared machines": ("startup-script",),
    "A Jupyter on this computer": ("extension",),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


class Commands(Group):
    """All of them, each in a module of its name that is imported when the command is looked at."""

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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See click; the commands are shown by what they are for."""
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, found.get_short_help_str(60)) for name, found in commands if found])


@click.group(
    cls=Commands,
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
    if call.settings.profile:
        per_call = _options(ctx)
        ctx.default_map = _defaults(ctx, group, call.settings.profile)
        call.remarks = tuple(_remarks(call.settings.profile, per_call))


def _defaults(ctx: click.Context, command: click.Command, profile: Mapping[str, Any]) -> dict[str, Any]:
    """What of the profile is for this command, or for those below it, by their names."""
    if isinstance(command, click.Group):
        below = ((name, command.get_command(ctx, name)) for name in command.list_commands(ctx))
        return {name: _defaults(ctx, found, profile) for name, found in below if found}
    mine = {one.name for one in command.params if isinstance(one, Option) and not one.per_call}
    return {name: value for name, value in profile.items() if name in mine}


def _options(ctx: click.Context) -> Mapping[str, bool]:
    """The options of all commands, and whether each must be said for each call, wherever it is."""
    commands = filter(None, (group.get_command(ctx, name) for name in COMMANDS))
    per_call: dict[str, bool] = {}
    for one in (one for command in commands for one in command.params if isinstance(one, Option)):
        per_call[str(one.name)] = one.per_call and per_call.get(str(one.name), True)
    return per_call


def _remarks(profile: Mapping[str, object], per_call: Mapping[str, bool]) -> Iterator[str]:
    """What is to be said about a profile: entries that nothing reads."""
    known = {name for name, each_call in per_call.items() if not each_call} | LIBRARY_OPTIONS
    for name in sorted(set(profile) - known):
        if name in per_call:
            flag = f"--{name.replace('_', '-')}"
            yield f"The profile's entry {name!a} is not used: {flag} must be said for each call."
            continue
        close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
        guess = f"Did you mean {close[0]}?" if close else "Entries have the names of options, with underscores."
        yield f"The profile's entry {name!a} is no option, so it is not used. {guess}"


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; all that happens is reported here."""
    _share_trust()
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    json, verbose = "--json" in before_dashes or _always("json"), "-v" in before_dashes or _always("verbose")
    call = Invocation(Terminal.standard(), json=json, verbose=verbose)
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


def _always(flag: str) -> bool:
    """Whether the environment sets this flag: a call that can't be read is to be reported in the wanted form too."""
    with suppress(click.BadParameter):  # which is reported when the option itself is read
        return bool(click.BOOL.convert(os.environ.get(f"{PREFIX}{flag.upper()}") or "0", None, None))
    return False


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
