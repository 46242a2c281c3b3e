"""Leaving a prepared machine as it was: every user's server and state, and all that the startup script made."""

from __future__ import annotations

import glob
import os
import pwd

from . import console, processes, system
from .attributes import Metadata
from .loader import STATE, GuestFailure
from .locks import held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .console import Console
    from .context import Context

ATTRIBUTES = ("step", "state")
USER_SECONDS = 60.0
LOCK_SECONDS = 60.0
HINT = (
    "Remove the startup-script from the VM's metadata too, or the next boot brings all of it back "
    "(gcloud compute instances remove-metadata VM --keys=startup-script,remote-runtime-user; and user-data, if that is "
    "how it came). Python, if it was missing, stays."
)
INSIDE = (
    "remote-runtime: this runs inside a Jupyter server that it would end, and itself with it: "
    "log in by SSH, and run it there: sudo " + system.UNINSTALL
)


def remove(context: Context, wire: Console, _: list[str]) -> int:
    """Remove everything; 1 if something had to stay."""
    if os.geteuid() != 0:
        console.write(2, "remote-runtime: this needs root: sudo " + system.UNINSTALL)
        return 1
    if _inside():
        console.write(2, INSIDE)
        return 1
    busy = "This machine's startup script is still at work"
    waiting = context.deadline.sooner(LOCK_SECONDS)
    with held(_lock, waiting, lambda: console.write(1, "waiting for the startup script to end"), busy):
        status = 0 if _remove(context, wire) else 1
        if system.remove(system.RUN_DIRECTORY):  # last, since the lock is in it
            console.write(1, "removed " + system.RUN_DIRECTORY)
    console.write(1, HINT)
    if status:
        console.write(2, "remote-runtime: not all could be removed; run it again: sudo " + system.UNINSTALL)
    return status


def _inside() -> bool:
    """Whether this was started in a terminal or a kernel of a server of ours, which would not live to see the end."""
    environs = (_content("/proc/%d/environ" % pid) for pid in processes.ancestors(os.getpid()))
    return in_unit(_content("/proc/self/cgroup")) or any(is_server(environ) for environ in environs)


def in_unit(groups: bytes) -> bool:
    """Whether a process is in a unit of ours: systemd ends all that is.  ``groups`` is its ``/proc/PID/cgroup``."""
    return any(b"/remote-runtime@" in line for line in groups.splitlines())


def is_server(environ: bytes) -> bool:
    """Whether a process is a server of ours, by its ``/proc/PID/environ``: what it starts gets no settings of ours."""
    name, machines = b"JUPYTER_CONFIG_PATH=", os.fsencode("/%s/machines/" % STATE)
    return any(entry.startswith(name) and machines in entry for entry in environ.split(b"\0"))


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it ended meanwhile, or there is no such thing here
        return b""


def _lock() -> str:
    os.makedirs(system.RUN_DIRECTORY, mode=0o755, exist_ok=True)
    return system.LOCK


def _remove(context: Context, wire: Console) -> bool:
    """Remove the users' parts, then what is common; False if some user's part is still there."""
    whole = True
    if system.has_systemd():
        for unit in system.wanted_units():
            system.command(["systemctl", "disable", unit], context.deadline, must=False)
        system.command(["systemctl", "stop", "remote-runtime@*.service"], context.deadline, must=False)
    for account in _users():
        try:
            system.run_as(account, ["forget"], context.deadline.sooner(USER_SECONDS))
            console.write(1, "removed the server of %s, with its token and settings" % account.pw_name)
        except GuestFailure as failure:
            wire.error(failure)
            console.write(2, "could not remove what %s has" % account.pw_name)
            whole = False
    for path in system.remove_files(again=not whole):
        console.write(1, "removed " + path)
    if system.has_systemd():
        system.command(["systemctl", "daemon-reload"], context.deadline, must=False)
        system.command(["systemctl", "reset-failed", "remote-runtime@*.service"], context.deadline, must=False)
    metadata = Metadata()
    for key in ATTRIBUTES:
        metadata.withdraw(key)
    return whole


def _users() -> list[pwd.struct_passwd]:
    """Who has state of ours, and where.

    Under OS Login an account may be known only while its user is logged in: then the home's owner tells.
    """
    homes = {account.pw_dir: account for account in pwd.getpwall()}
    found = []
    for home in sorted({*homes, *glob.glob("/home/*")}):
        state = os.path.join(home, STATE)
        if not os.path.isdir(state) or os.path.islink(state):
            continue
        owner = os.lstat(home)
        account = homes.get(home)
        if account is None or account.pw_uid != owner.st_uid:
            name = str(owner.st_uid) if account is None else account.pw_name
            account = pwd.struct_passwd((name, "x", owner.st_uid, owner.st_gid, "", home, "/bin/sh"))
        found.append(account)
    return found
