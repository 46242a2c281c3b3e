"""How a failure is said: one form for people, one for programs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click
from click.core import ParameterSource

from remote_runtime.cli.terminal import Style, visible
from remote_runtime.errors import AlreadyConnected, GuestError, RemoteRuntimeError, UsageError
from remote_runtime.text import printable

INTERRUPTED = "interrupted"
LOG_LINES = 15


def translate(error: Exception) -> RemoteRuntimeError:
    """``error`` as one of ours: what click found wrong is a usage error, what nobody foresaw is a defect."""
    if isinstance(error, RemoteRuntimeError):
        return error
    if isinstance(error, click.ClickException):
        ours: RemoteRuntimeError = UsageError(
            printable(_click_message(error), 500).rstrip("."), hint=_click_hint(error)
        )
    else:
        ours = RemoteRuntimeError(
            f"Internal error: {type(error).__name__}: {printable(str(error))}",
            hint="This is a defect in remote-runtime: please report it, with what -v shows.",
            code="internal",
        )
    ours.__cause__ = error
    return ours


def explain(error: RemoteRuntimeError) -> list[tuple[str, Style]]:
    """The lines that tell a person what is wrong and what to do about it."""
    if error.code == INTERRUPTED:  # by the person, most likely, who needs no error to know it
        return [("Cancelled." if error.message.endswith("SIGINT") else f"{error.message}.", "plain")]
    lines: list[tuple[str, Style]] = [(f"error: {printable(error.message, 1000)}", "bad")]
    if isinstance(error, GuestError) and error.log:
        lines.append(("  The last that was heard of it:", "plain"))
        lines += [(f"  | {printable(line)}", "faint") for line in error.log[-LOG_LINES:]]
    if isinstance(error, AlreadyConnected) and error.url:
        lines.append((f"  Its URL: {printable(error.url)}", "plain"))
    lines += [(f"  {visible(line)[:500]}", "plain") for line in error.hint.splitlines()]
    return lines


def as_event(error: RemoteRuntimeError) -> dict[str, object]:
    """The last line of ``--json`` when something failed."""
    event: dict[str, object] = {"event": "error", **error.to_dict()}
    if isinstance(error, AlreadyConnected):
        event.update(url=error.url or None, pid=error.pid or None)
    return event


def _closest(wrong: str, names: Iterable[str]) -> str:
    """The name that is most like the wrong one; of several the one that begins as it does."""

    def likeness(name: str) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, wrong, name).ratio(), name[:3] == wrong[:3]

    return max(names, key=likeness)


def _click_message(error: click.ClickException) -> str:
    # format_message() says which parameter is meant; for an unknown option it adds guesses, which are our hint.
    return error.message if isinstance(error, click.NoSuchOption) else error.format_message()


def _click_hint(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return f"Did you mean {_closest(error.option_name, error.possibilities)}?"
    context = getattr(error, "ctx", None)
    parameter = getattr(error, "param", None)
    if context is not None and parameter is not None and parameter.name:
        source = context.get_parameter_source(parameter.name)
        if source == ParameterSource.ENVIRONMENT:
            return f"The value comes from the environment variable {parameter.envvar}."
        if source == ParameterSource.DEFAULT_MAP:
            return f"The value comes from the profile, its entry {parameter.name}."
    return f"See {context.command_path if context else 'remote-runtime'} --help"
