"""One user's server on a prepared machine, without a host: kept by systemd, started at a login, or asked for."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

from . import console, server
from .clock import Deadline
from .ensure import ensure
from .loader import GuestFailure
from .locks import exclusive
from .verbs import uninstall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .console import Console
    from .context import Context

LOOK_SECONDS = 1.0
STOP_SECONDS = 20.0
ENDS = (signal.SIGTERM, signal.SIGINT)


def serve(context: Context, wire: Console, _: list[str]) -> int:
    """Make the server run and stay while it does, as the main process of a unit of systemd.

    0 if it was stopped on purpose, or ended together with this process; 1 if it died.
    """
    try:
        ensure(request(restart=False, await_preparation=False), context)
    except GuestFailure as failure:
        if failure.code != "server_stopped":
            raise
        wire.say("The server was stopped on purpose: remote-runtime-url, or a connect, starts it again")
        notify("READY=1")
        return 0
    # Only now: the server would have inherited it.  A signal that comes earlier ends us, and systemd the rest.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    notify("READY=1")
    return _watch(context)


def _watch(context: Context) -> int:
    state = context.state
    while True:
        while server.alive(state.record()):
            # macOS lacks it, and has no systemd either.
            if signal.sigtimedwait(ENDS, LOOK_SECONDS):  # type: ignore[attr-defined, unused-ignore]
                return _end_with_us(context)
        # Somebody may be at work on another one: a connect that asked for a new token, say.
        with exclusive(state.root, Deadline(STOP_SECONDS), context.wire.say):
            if not server.alive(state.record()):
                wanted_so = state.stopped or not state.record()  # the second is what an uninstallation leaves
                return 0 if wanted_so else 1


def _end_with_us(context: Context) -> int:
    """End the server with the system, or with its unit: the next start brings it back as it was."""
    state = context.state
    with exclusive(state.root, Deadline(STOP_SECONDS), context.wire.say):
        record = state.record()
        if server.stop(record, Deadline(STOP_SECONDS)):
            state.write_record({**record, "ended": True})
    return 0


def start(context: Context, _: Console, arguments: list[str]) -> int:
    """Make the server run, unless it was stopped on purpose; quick if it does already.

    ``--now``: who prepares the machine asks, so that is not waited for.
    """
    ensure(request(restart=False, await_preparation="--now" not in arguments), context)
    return 0


def url(context: Context, _: Console, __: list[str]) -> int:
    """Print the URL of this user's server, which is started if it does not run.

    It holds the token, so it goes to who asks and nowhere else.
    """
    found = ensure(request(restart=True, await_preparation=True), context)
    console.write(1, "http://localhost:%d%s?token=%s" % (found["port"], found["base_url"], found["token"]))
    return 0


def forget(context: Context, _: Console, __: list[str]) -> int:
    """End this user's server, and remove all that is ours in the home."""
    uninstall({}, context)
    return 0


def request(*, restart: bool, await_preparation: bool) -> dict[str, Any]:
    """What a host would ask for that has no wishes of its own."""
    return {
        "token": "",
        "new_token": False,
        "restart": restart,
        "upgrade": False,
        "await_preparation": await_preparation,
        "options": {},
    }


def notify(message: str) -> None:
    """Tell systemd, if it started us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())
