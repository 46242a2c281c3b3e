"""The guest program as it is started on the machine itself: by a startup script, systemd, a login, or a person."""

from __future__ import annotations

import importlib
import os
import signal

from . import console
from .clock import Deadline
from .console import Console
from .context import Context
from .loader import GuestFailure
from .paths import State, machine_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

# The module of each verb; the function has the verb's name, takes the context and the arguments left, and returns the
# exit status.
VERBS = {
    "prepare": "prepare",
    "remove": "remove",
    "serve": "serve",
    "start": "serve",
    "url": "serve",
    "forget": "serve",
}
SECONDS = {"prepare": 1500.0, "remove": 300.0, "forget": 60.0}
SERVER_SECONDS = 540.0
# What systemd says to its service alone; kernels would inherit it.
SYSTEMDS = ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MAINPID", "MEMORY_PRESSURE_WATCH")


def main(arguments: Sequence[str], program: str) -> int:
    """Do what the first argument says; the exit status.  ``program`` is the path of the guest program's file."""
    if not arguments or arguments[0] not in VERBS:
        console.write(2, "usage: %s" % "|".join(VERBS))
        return 2
    verb = arguments[0]
    # A login that ends must not end us.  A handler, since a child would inherit that the signal is ignored.
    signal.signal(signal.SIGHUP, lambda *_: None)
    if os.environ.get("NOTIFY_SOCKET"):
        for name in SYSTEMDS:
            os.environ.pop(name, None)
    users_umask = os.umask(0o077)
    wire = Console(lambda line: console.write(2, line))
    try:
        context = Context(
            state=State(os.environ.get("HOME") or "/nonexistent", machine_key()),
            wire=wire,
            deadline=Deadline(SECONDS.get(verb, SERVER_SECONDS)),
            program=program,
            environ={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
            users_umask=users_umask,
        )
        function = getattr(importlib.import_module("." + VERBS[verb], __package__), verb)
        status: int = function(context, wire, list(arguments[1:]))
        return status
    except GuestFailure as failure:
        wire.error(failure)
    except OSError as error:
        console.write(2, "remote-runtime: %s" % error)
    return 1
