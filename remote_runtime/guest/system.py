"""What a prepared machine has outside ``/opt/remote-runtime``, and how it gets there and goes.

Everything is written beside its place and renamed: who kills us leaves the old file or the new one.
"""

from __future__ import annotations

import os
import pkgutil
import shutil
import subprocess
import sys
from contextlib import suppress

from . import prepared, processes
from .clock import Deadline
from .loader import PREPARED, GuestFailure
from .preparation import CLOUD_INITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd
    from typing import Sequence

UNITS = "/etc/systemd/system"
UNIT = UNITS + "/remote-runtime@.service"
WANTED = UNITS + "/multi-user.target.wants"
PROFILE = "/etc/profile.d/remote-runtime.sh"
URL_COMMAND = "/usr/local/bin/remote-runtime-url"
UNINSTALL = PREPARED + "/uninstall"
RUN_DIRECTORY = "/run/remote-runtime"
LOCK = RUN_DIRECTORY + "/lock"  # the startup script holds it while it is at work
LOGS = ("/var/log/remote-runtime.log", "/var/log/remote-runtime.log.1")
# The files, by their source in this program; what has a command's mode is one.
FILES = {
    "remote-runtime@.service": (UNIT, 0o644),
    "profile.sh": (PROFILE, 0o644),
    "url.sh": (URL_COMMAND, 0o755),
    "uninstall.sh": (UNINSTALL, 0o755),
}
LAUNCHER = """#!{python} -ISB
# Starts the program that the startup script of remote-runtime brought last.
import sys

sys.path.insert(0, {program!r})
from remote_runtime_guest.local import main

sys.exit(main(sys.argv[1:], {program!r}))
"""
UNFINISHED = ".new"
COMMAND_SECONDS = 30.0
JOURNAL_LINES = 20


def write(path: str, content: bytes, mode: int) -> bool:
    """Make the file, and the directory that it is in, hold this; whether it was different."""
    with suppress(OSError), open(path, "rb") as file:
        if file.read() == content and os.fstat(file.fileno()).st_mode & 0o7777 == mode:
            return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    # One name for all times, since one preparation runs at a time: nothing is left of those that were killed.
    with open(os.open(path + UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as out:
        os.fchmod(out.fileno(), mode)
        out.write(content)
    os.replace(path + UNFINISHED, path)
    return True


def place_files(program: str) -> None:
    """Write everything but the parts that servers use."""
    launcher = LAUNCHER.format(python=sys.executable, program=program)
    write(prepared.RUN, launcher.encode(), 0o755)
    changed = False
    for source, (path, mode) in FILES.items():
        content = pkgutil.get_data(__package__ or "", "files/" + source)
        if content is None:
            raise FileNotFoundError(source)
        changed = write(path, content, mode) or changed
    if changed and has_systemd():
        command(["systemctl", "daemon-reload"], Deadline(COMMAND_SECONDS))


def has_systemd() -> bool:
    """Whether systemd runs this machine."""
    return os.path.isdir("/run/systemd/system")


def unit_of(user: str) -> str:
    """The name of that user's unit."""
    return "remote-runtime@%s.service" % user


def wanted_units() -> list[str]:
    """The units of ours that start with the system."""
    try:
        return sorted(name for name in os.listdir(WANTED) if name.startswith("remote-runtime@"))
    except FileNotFoundError:
        return []


def start_server(account: struct_passwd, deadline: Deadline) -> None:
    """Make the user's server run now, and from every boot on where systemd is.  GuestFailure if it does not."""
    if has_systemd():
        unit = unit_of(account.pw_name)
        for other in wanted_units():
            if other != unit:
                command(["systemctl", "disable", other], deadline.sooner(COMMAND_SECONDS))
        command(["systemctl", "enable", unit], deadline.sooner(COMMAND_SECONDS))
        command(["systemctl", "reset-failed", unit], deadline.sooner(COMMAND_SECONDS), must=False)
        _start_unit(unit, deadline)
    else:
        run_as(account, ["start", "--now"], deadline)


def _start_unit(unit: str, deadline: Deadline) -> None:
    """Start it; a GuestFailure ends with what its processes said, since systemctl tells only that it failed."""
    try:
        command(["systemctl", "start", unit], deadline)
    except GuestFailure as failure:
        failure.log = [*failure.log, *_journal_of(unit)]
        raise


def _journal_of(unit: str) -> list[str]:
    """The last lines of the unit's own processes in this boot, fit to be shown; none if the journal can't be read.

    Not those of systemd about it: they repeat what systemctl says, and would be the last, which a host is told.
    """
    show = ["journalctl", "--quiet", "--no-pager", "--boot", "--output=cat", "--lines=%d" % JOURNAL_LINES]
    patience = Deadline(COMMAND_SECONDS)  # the start may have used up all the time there was
    command(["journalctl", "--sync"], patience, must=False)  # what was said a moment ago may not be in it yet
    lines = command([*show, "_SYSTEMD_UNIT=" + unit], patience, must=False)
    return ["".join(filter(str.isprintable, line)) for line in lines[-JOURNAL_LINES:]]


def run_as(account: struct_passwd, arguments: Sequence[str], deadline: Deadline) -> None:
    """Run a verb of this program as that user, in an environment as after a login."""
    environ = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }
    groups = "--init-groups" if _known(account.pw_name) else "--clear-groups"
    changing = becoming(account.pw_uid, account.pw_gid, groups)
    command([*changing, prepared.RUN, *arguments], deadline, environ=environ, cwd=account.pw_dir)


def becoming(uid: int, gid: int, *options: str) -> list[str]:
    """The command that becomes what follows it, as that user; ``options`` are further ones of setpriv."""
    return ["setpriv", "--reuid=%d" % uid, "--regid=%d" % gid, *options, "--"]


def _known(name: str) -> bool:
    import pwd

    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def command(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    must: bool = True,
    environ: dict[str, str] | None = None,
    cwd: str = "/",
) -> list[str]:
    """Run it; the lines that it wrote.  GuestFailure with them if it fails, unless it need not: then there are none."""
    text, log = "", []
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=cwd,
            timeout=max(1.0, deadline.left()),
            start_new_session=True,  # what runs as a user must not reach the terminal that root has
            check=False,
        )
        text = "ended with status %d" % done.returncode if done.returncode else ""
        log = done.stdout.decode("utf-8", "replace").splitlines()
    except subprocess.TimeoutExpired:
        text = "did not end in time"
    except OSError as error:
        text = "could not be started: %s" % error
    if text and must:
        shown = "%s %s" % (os.path.basename(argv[0]), text)
        raise GuestFailure("command_failed", shown, log=log)
    return [] if text else log


def remove_files(*, again: bool) -> list[str]:
    """Remove all that this program has placed on the machine; the paths that there were.

    ``again``: some user's part is still there, so what it takes to run this again stays, and what servers use.  The
    directory with the lock stays in any case.
    """
    wanted = [os.path.join(WANTED, name) for name in wanted_units()]
    placed = [path for path, _ in FILES.values() if path != UNINSTALL]
    unfinished = [path + UNFINISHED for path in [*placed, UNINSTALL]]
    paths = [*wanted, *placed, *unfinished, *LOGS, CLOUD_INITS, prepared.FACTS]
    # The program and its command last: who is stopped in the middle can run it again.
    paths += _idle_environments() if again else [prepared.ENVIRONMENTS, prepared.EXTENSIONS, PREPARED]
    return [path for path in paths if remove(path)]


def _idle_environments() -> list[str]:
    names = os.listdir(prepared.ENVIRONMENTS) if os.path.isdir(prepared.ENVIRONMENTS) else []
    directories = [os.path.join(prepared.ENVIRONMENTS, name) for name in sorted(names)]
    return [directory for directory in directories if not processes.running_from(directory)]


def remove(path: str) -> bool:
    """Remove a file, or a directory with all below; whether there was one."""
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    else:
        return False
    return True
