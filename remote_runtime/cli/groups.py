"""Commands that have commands below them: the closest one is named for what is no command."""

from __future__ import annotations

import difflib

import click

from remote_runtime.cli.layout import Context
from remote_runtime.errors import UsageError


class Group(click.Group):
    """A command with commands below it."""

    context_class = Context

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; an unknown command is answered with the closest one."""
        names = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in names and not args[0].startswith("-"):
            alike = [name for name in names if name[0] == args[0][:1]]  # who writes install means no uninstall
            close = difflib.get_close_matches(args[0], alike, n=1, cutoff=0.7)
            raise UsageError(
                f"There is no command {' '.join([*ctx.command_path.split()[1:], args[0]])!a}",
                hint=f"Did you mean {close[0]}?" if close else f"The commands are: {', '.join(names)}.",
            )
        return super().resolve_command(ctx, args)
