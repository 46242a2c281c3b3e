"""``put`` and ``get``: a file or a directory from the host, or to it."""

from __future__ import annotations

import base64
import os

from . import tree
from .loader import GuestFailure
from .paths import in_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context


def put(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Receive a tree; ``path`` is where it is now."""
    ours = os.umask(context.users_umask)  # for the directories above it that are missing
    receiver = tree.Receiver(in_home(context.state.home, request["path"]))
    context.wire.ask("tree")
    try:
        while not receiver.complete:
            receiver.take(context.wire.receive())
    except OSError as error:
        raise _failure(error) from error
    except tree.BadTree as error:
        raise GuestFailure("transfer_failed", str(error)) from error
    finally:
        receiver.close()
        os.umask(ours)
    return {"path": receiver.path}


def get(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Send a tree, each message as a piece of output."""
    try:
        for message in tree.pack(in_home(context.state.home, request["path"])):
            if context.wire.abandoned():
                break  # nobody would hear the rest
            context.wire.output("stdout", base64.b64encode(message).decode())
    except OSError as error:
        raise _failure(error) from error
    return {}


def _failure(error: OSError) -> GuestFailure:
    where = "%s on the VM: " % error.filename if error.filename else ""
    return GuestFailure(
        "transfer_failed", where + str(error.strerror or error), "Check the path, its owner, and the free space."
    )
