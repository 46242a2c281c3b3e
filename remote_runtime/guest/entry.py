"""Where the loader hands over: one request in, one result or error out."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import traceback

from .clock import Deadline
from .context import Context
from .loader import GuestFailure
from .paths import State, machine_key
from .wire import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

# The module of each verb is imported when it is needed: a warm connect imports little.
VERBS = {
    "ensure": "ensure",
    "stop": "verbs",
    "status": "verbs",
    "log": "verbs",
    "uninstall": "verbs",
    "run": "command",
    "put": "transfer",
    "get": "transfer",
}

# What a file system may refuse; where it was tried is of interest for other errors only.
FORESEEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def main(request: dict[str, Any], stream: BinaryIO, program: str, users_umask: int) -> int:
    """Do what the request says.  The exit status: 0 if a result was sent, else 1."""
    # A hang-up must not end us in the middle.  A handler, since a child would inherit that the signal is ignored.
    signal.signal(signal.SIGHUP, lambda *_: None)
    wire = Wire(request["nonce"], stream)
    wire.keep_secret(request.get("token", ""))
    context = Context(
        state=State(os.environ["HOME"], machine_key()),
        wire=wire,
        deadline=Deadline(request["deadline_seconds"]),
        program=program,
        environ=dict(os.environ),
        users_umask=users_umask,
    )
    try:
        verb = getattr(importlib.import_module("." + VERBS[request["verb"]], __package__), request["verb"])
        wire.result(verb(request, context))
    except GuestFailure as failure:
        wire.error(failure)
    except OSError as error:
        hint = "Check the home directory on the VM: its owner, its mode, its free space."
        log = () if error.errno in FORESEEN else _trace()
        wire.error(GuestFailure("guest_state_unusable", "The VM said: %s" % error, hint, log=log))
    except Exception:  # noqa: BLE001 - the host must hear of any defect of this program
        hint = "This is a defect in remote-runtime: please report it with the lines above."
        wire.error(GuestFailure("guest_failed", "The program on the VM failed", hint, log=_trace()))
    else:
        return 0
    return 1


def _trace() -> list[str]:
    return traceback.format_exc().splitlines()
