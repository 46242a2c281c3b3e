"""``remote-runtime extension``: the extension for a Jupyter that one already has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remote_runtime._threads import Deadline
from remote_runtime.cli.groups import Group
from remote_runtime.cli.invocation import Invocation
from remote_runtime.cli.options import option, output_options, verb
from remote_runtime.cli.values import SECONDS, TEXT
from remote_runtime.events import step

if TYPE_CHECKING:
    from remote_runtime.extension import Changed
    from remote_runtime.interpreters import Interpreter


@click.group(
    "extension",
    cls=Group,
    invoke_without_command=True,
    short_help="Put the extension for Colab into a Jupyter of yours.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Put the extension that Colab's local runtimes need into a Jupyter on this computer.

    `remote-runtime connect` needs none of this: what it starts has the extension. It takes the place of the package
    jupyter_http_over_ws, which current versions of Jupyter can't load any more.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def python_options(function: Callable[..., None]) -> Callable[..., None]:
    """``--python --timeout`` and the output options; the function gets the Python's path and a deadline."""

    @option(
        "--python",
        type=TEXT,
        per_call=True,
        metavar="PATH",
        section="Jupyter",
        help="The Python that has Jupyter. Without it: the one of the first jupyter on PATH, else the first python3.",
    )
    @option(
        "--timeout",
        type=SECONDS,
        per_call=True,
        metavar="SECONDS",
        default=120,
        show_default=True,
        section="Jupyter",
        help="Give up after that long.",
    )
    @output_options
    @functools.wraps(function)
    def wrapped(call: Invocation, python: str | None, timeout: float, **values: Any) -> None:
        from remote_runtime.interpreters import locate

        found, how = locate(python, call.settings.environ)
        if not python:
            call.say(f"Using {found}, {how}")
        function(call, found, Deadline(timeout), **values)

    return wrapped


@command.add_command
@verb("install", short_help="Install it, in place of any other copy, and enable it.")
@python_options
def install(call: Invocation, python: str, deadline: Deadline) -> None:
    """Install the extension, in place of any other copy of jupyter_http_over_ws, and enable it.

    Nothing else is installed or changed, and no package index is asked.
    """
    from remote_runtime import extension

    with step(call.on_event, "install", "Installing the extension"):
        done = extension.install(python, deadline)
    gone = "".join(f" in place of {copy.version}" for copy in done.removed)
    _report(call, "installed", f"{done.version} is installed{gone}, and enabled. Restart Jupyter to load it", done)


@command.add_command
@verb("enable", short_help="Let Jupyter load it.")
@python_options
def enable(call: Invocation, python: str, deadline: Deadline) -> None:
    """Let Jupyter load the extension, from its next start on."""
    from remote_runtime import extension

    done = extension.enable(python, deadline)
    _report(call, "enabled", f"{done.version} is enabled. Restart Jupyter to load it", done)


@command.add_command
@verb("disable", short_help="Let Jupyter do without it.")
@python_options
def disable(call: Invocation, python: str, deadline: Deadline) -> None:
    """Let Jupyter do without the extension, from its next start on. It stays installed."""
    from remote_runtime import extension

    done = extension.disable(python, deadline)
    _report(call, "disabled", f"{done.version} is disabled. Restart Jupyter to be without it", done)


@command.add_command
@verb("uninstall", short_help="Remove it.")
@python_options
def uninstall(call: Invocation, python: str, deadline: Deadline) -> None:
    """Remove the extension, with its settings. A copy that is not from remote-runtime stays."""
    from remote_runtime import extension

    with step(call.on_event, "uninstall", "Uninstalling the extension"):
        done = extension.uninstall(python, deadline)
    gone = ", ".join(copy.version for copy in done.removed)
    _report(call, "uninstalled", f"{gone} is removed" if gone else "Nothing to remove: it is not installed", done)


@command.add_command
@verb("wheel", short_help="Write it as a wheel, for pip.")
@click.argument("directory", type=click.Path(path_type=Path), default=Path(), metavar="[DIRECTORY]")
@output_options
def wheel(call: Invocation, directory: Path) -> None:
    """Write the extension as a wheel into DIRECTORY (without one: here), for pip to install anywhere.

    The wheel's path is printed.
    """
    from remote_runtime import extension

    call.reporting = True
    path = extension.write_wheel(directory)
    call.document({"wheel": str(path), "version": extension.available()}, [str(path)])


@command.add_command
@verb("status", short_help="Tell whether and how it is installed.")
@python_options
def status(call: Invocation, python: str, deadline: Deadline) -> None:
    """Tell which versions are there, whether the extension is enabled, and whether another copy is in its way."""
    from remote_runtime import extension, interpreters

    call.reporting = True
    found = interpreters.ask(python, deadline)
    available = extension.available()
    call.document(as_document(found, available), as_lines(found, available))


def as_document(found: Interpreter, available: str) -> dict[str, Any]:
    """The status as plain values; a version is null for what is not there."""
    ours = found.installed
    return {
        "python": found.python,
        "python_version": found.version,
        "jupyter_server": found.jupyter_server or None,
        "notebook": found.notebook or None,
        "tornado": found.tornado or None,
        "installed": ours.version if ours else None,
        "directory": ours.directory if ours else None,
        "available": available,
        "enabled": found.enabled and bool(found.copies),
        "shadowed_by": found.shadow or None,
        "other_copies": [{"version": c.version, "directory": c.directory} for c in found.copies if not c.ours],
    }


def as_lines(found: Interpreter, available: str) -> list[str]:
    """The status for people."""
    servers = (("jupyter_server", found.jupyter_server), ("notebook", found.notebook))
    ours = found.installed
    switched = "enabled" if found.enabled else "disabled"
    rows = [
        ("Python", f"{found.version}, {found.python}"),
        ("Jupyter", ", ".join(f"{name} {version}" for name, version in servers if version) or "none"),
        ("Extension", f"{ours.version}, {switched}" if ours else "not installed"),
    ]
    if ours is not None and ours.version != available:
        rows.append(("", f"remote-runtime extension install brings {available}"))
    if found.shadow:
        rows.append(("In its way", found.shadow))
    rows += [("Other copy", f"{copy.version} in {copy.directory}") for copy in found.copies if not copy.ours]
    return [f"{name:<10}  {text}" for name, text in rows]


def _report(call: Invocation, event: str, text: str, done: Changed) -> None:
    call.result(
        event,
        text,
        python=done.interpreter.python,
        version=done.version or None,
        removed=[copy.version for copy in done.removed],
    )
