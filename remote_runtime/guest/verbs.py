"""The verbs besides ``ensure``."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from . import prepared, server
from .ensure import describe
from .locks import exclusive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context


def stop(_: dict[str, Any], context: Context) -> dict[str, Any]:
    """End the server, and remember that it was wanted so: ``stopped`` tells whether it ran."""
    state = context.state
    state.make()
    with exclusive(state.root, context.deadline, context.wire.say):
        ran = server.stop(state.record(), context.deadline)
        state.stopped = True
    return {"stopped": ran}


def status(_: dict[str, Any], context: Context) -> dict[str, Any]:
    """The running server under ``server``, or None there."""
    state = context.state
    record = state.record()
    running = server.look(record, state.token(), context.deadline)
    usable = running.alive and (running.proves or not running.answers)
    return {"server": describe(state, record, adopted=True) if usable else None, "answers": running.answers}


def log(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """The last lines of the server's log."""
    context.wire.keep_secret(context.state.token())
    lines = int(request["lines"])
    return {"lines": context.wire.clean_lines(server.log_tail(context.state, lines), lines)}


def uninstall(_: dict[str, Any], context: Context) -> dict[str, Any]:
    """End the server and remove all that is ours; ``removed`` lists the paths.

    Where several machines share the home, what the others use stays.  ``prepared`` tells whether a startup script has
    put things there for all users, which need root to be removed.
    """
    state = context.state
    with exclusive(state.root, context.deadline, context.wire.say) as lock:
        server.stop(state.record(), context.deadline)
        others = _others(state.machines, os.path.basename(state.machine))
        removed = [state.machine] if others else [state.root]
        removed = [path for path in removed if os.path.lexists(path)]
        for path in removed:
            shutil.rmtree(path)
        with suppress(FileNotFoundError):  # it went with the rest
            os.unlink(lock)
    with suppress(OSError):  # another home of this user may have its lock there
        os.rmdir(os.path.dirname(lock))
    return {"removed": removed, "shared_with": others, "prepared": bool(prepared.facts())}


def _others(directory: str, own: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name != own)
    except FileNotFoundError:
        return []
