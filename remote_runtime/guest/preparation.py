"""How far the startup script is with preparing this machine, as it says itself, and waiting for its end."""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections import namedtuple

from . import prepared, processes
from .loader import GuestFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .clock import Deadline
    from .wire import Wire

STATE_FILE = "/run/remote-runtime/preparation.json"
CLOUD_INITS = "/var/lib/cloud/scripts/per-boot/remote-runtime"  # the startup script, where it came as user data
UPTIME_FILE = "/proc/uptime"
FRESH_SECONDS = 60.0  # it gives a sign of life every few seconds
APPEAR_SECONDS = 60.0  # for a machine that has just booted
BOOT_SECONDS = 240.0  # for so long after its boot cloud-init may not have come to the script
POLL_SECONDS = 0.25
LOG_SHOWN = 3

Report = namedtuple("Report", "state step log")
"""``state``: ``silent`` (nothing is known), ``running``, ``ready`` or ``failed``; ``step`` is what was done last, and
``log`` the last lines of what failed."""

SILENT = Report("silent", "", ())


def parse(content: bytes, now: float, *, gone: bool) -> Report:
    """What the state file says.  ``now`` is in unix seconds; ``gone``: the process that wrote it has ended.

    A script that ended, or that was not heard of for a minute, without saying how it ended has failed.
    """
    try:
        said = json.loads(content.decode())
        state, step, log = said["state"], str(said["step"]), tuple(str(line) for line in said["log"])
        late = now - float(said["updated"]) > FRESH_SECONDS
    except (ValueError, KeyError, TypeError, RecursionError):
        return SILENT
    if state == "running" and (gone or late):
        return Report("failed", step, ("It ended in the middle." if gone else "It gave no sign of life for a minute.",))
    return Report(state, step, log) if state in ("running", "ready", "failed") else SILENT


def report() -> Report:
    """What is known now."""
    content = _read()
    return parse(content, time.time(), gone=_gone(content)) if content else SILENT


def _read() -> bytes:
    """The state file's content, if it is root's."""
    try:
        handle = os.open(STATE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        return file.read(1 << 20) if stat.S_ISREG(found.st_mode) and found.st_uid == 0 else b""


def _gone(content: bytes) -> bool:
    """Whether the process that wrote this has ended, as far as this user can see other users' processes."""
    try:
        said: dict[str, Any] = json.loads(content.decode())
        pid, when = int(said["pid"]), str(said["started"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    if not os.path.exists("/proc/1/stat"):  # hidepid
        return False
    return processes.started(pid) != when if when else not os.path.exists("/proc/%d" % pid)


def await_end(wire: Wire, deadline: Deadline, *, expected: bool) -> None:
    """Return when the machine is prepared, or when that is not to be waited for, which the host is told as a notice.

    ``expected``: it is known that a startup script of ours runs at this machine's boot, so it gets some time to begin,
    unless an earlier boot has brought already what servers need.
    GuestFailure ``preparation_running`` if it is still at work at the deadline.
    """
    expected = (expected or _cloud_init_may_begin()) and not prepared.facts()
    appears = deadline.sooner(APPEAR_SECONDS if expected else 0.0)
    told = ""
    while True:
        now = report()
        if now.state == "running":
            if deadline.passed:
                raise _too_long(now)
            if now.step != told:
                told = now.step
                wire.say("Preparing the VM: " + told)
        elif now.state == "silent" and not appears.passed:
            if not told:
                told = "waiting"
                wire.say("Waiting for the VM's startup script to begin")
        else:
            _conclude(wire, now, expected=expected)
            return
        time.sleep(deadline.bounded(POLL_SECONDS))


def _cloud_init_may_begin() -> bool:
    """Whether the script is user data, and the machine was booted so recently that it may yet be run."""
    return os.path.exists(CLOUD_INITS) and _uptime() < BOOT_SECONDS


def _uptime() -> float:
    """Seconds since the boot; infinite where the system does not tell."""
    try:
        with open(UPTIME_FILE, "rb") as file:
            return float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return math.inf


def _too_long(now: Report) -> GuestFailure:
    return GuestFailure(
        "preparation_running",
        "The VM's startup script is still at work (%s)" % now.step,
        "Connect again with a longer --timeout.",
        retryable=True,
    )


def _conclude(wire: Wire, now: Report, *, expected: bool) -> None:
    if now.state == "failed":
        why = " | ".join(now.log[-LOG_SHOWN:])
        text = "The VM's startup script failed at: %s (%s). Going on without it." % (now.step, why or "it said nothing")
        wire.notice("preparation_failed", text)
    elif now.state == "silent" and expected:
        text = "The VM's startup script gave no sign of life for %d seconds. Going on without it." % APPEAR_SECONDS
        wire.notice("preparation_silent", text)
