"""The Jupyter server as a process: look at it, start it, wait for it, end it, read its log."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress

from . import loopback, processes
from .clock import Deadline
from .loader import GuestFailure, write_private
from .paths import State
from .plan import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import Any, Mapping, Sequence

    Record = Mapping[str, Any]

LOOK_SECONDS = 3.0
START_SECONDS = 120.0
POLL_SECONDS = 0.05
GENTLE_SECONDS = 10.0
KILL_SECONDS = 5.0
LOG_KEPT = 1 << 20  # bytes that stay of a log that grew too long, in server.log.1
LOG_LIMIT = 16 << 20
LOG_SHOWN = 128 << 10

# Waits for a word and becomes its arguments; without one, since its parent has died, it ends.
LAUNCHER = """
import os, sys
if os.read(0, 1):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execvp(sys.argv[1], sys.argv[1:])
sys.exit(1)
"""


def look(record: Record, token: str, deadline: Deadline) -> Running:
    """What the recorded server does now."""
    if not alive(record):
        return Running(alive=False, answers=False, proves=False)
    try:
        proves = _is_ours(record) and loopback.proves(
            int(record["port"]), record["base_url"], token, deadline.sooner(LOOK_SECONDS)
        )
        return Running(alive=True, answers=_is_ours(record), proves=proves)
    except OSError:
        return Running(alive=True, answers=False, proves=False)


def alive(record: Record) -> bool:
    """Whether the process that the record means still runs: pids are used again, so its start time is compared."""
    return bool(record) and processes.started(record["pid"]) == record["started"]


def _is_ours(record: Record) -> bool:
    """Whether this user's socket listens on the record's port; true where the system does not tell."""
    return processes.listener_uid(int(record["port"])) in (None, os.geteuid())


def spawn(state: State, command: Sequence[str], environ: Mapping[str, str], users_umask: int) -> Popen[bytes]:
    """Bring a process to the brink of being the server, detached from us: :func:`release` makes it go on.

    If this program is killed before it could write down which process that is, the process ends by itself: there is
    never a server of ours that nobody knows of.
    """
    import subprocess

    if os.path.lexists(state.log):
        os.replace(state.log, state.log + ".1")
    log = os.open(state.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    ours = os.umask(users_umask)  # what a notebook writes is the user's
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=state.machine,  # Python's -m looks for modules in here, so it must not be a directory of the user's
            env=dict(environ),
            start_new_session=True,
        )
    finally:
        os.umask(ours)
        os.close(log)


def release(child: Popen[bytes]) -> None:
    """Let the process that :func:`spawn` started become the server, under the same number."""
    if child.stdin:
        with suppress(OSError):  # it is dead already, as await_ready will see
            child.stdin.write(b"!")
            child.stdin.close()


def await_ready(
    state: State, record: Record, token: str, deadline: Deadline, child: Popen[bytes] | None = None
) -> None:
    """Return when the server has proved itself and answered.

    GuestFailure ``server_died`` as soon as it ended, ``server_not_answering`` at the deadline.
    """
    problem = ""
    while True:
        if (child.poll() is not None) if child else not alive(record):
            raise GuestFailure(
                "server_died",
                "The Jupyter server ended while it started" + _status(child),
                "Its last lines say why; remote-runtime logs shows them again.",
                log=log_tail(state, 40),
            )
        try:
            return _check_answer(record, token, deadline)
        except (OSError, ValueError) as error:
            if not problem or not deadline.passed:  # what the deadline itself cuts short says nothing
                problem = getattr(error, "strerror", None) or str(error)
        if deadline.passed:
            raise GuestFailure(
                "server_not_answering",
                "The Jupyter server runs (pid %s) but does not answer as it should: %s" % (record.get("pid"), problem),
                "Its log may say why: remote-runtime logs. To start it anew: remote-runtime stop, then connect again.",
                retryable=True,
                log=log_tail(state, 40),
            )
        time.sleep(deadline.bounded(POLL_SECONDS))


def _status(child: Popen[bytes] | None) -> str:
    return " (exit status %d)" % child.returncode if child and child.returncode is not None else ""


def _check_answer(record: Record, token: str, deadline: Deadline) -> None:
    """Return if the server proves itself and then accepts the token, which it does not see before.

    OSError or ValueError, which say what is wrong with the answer.
    """
    port, base_url = int(record["port"]), record["base_url"]
    part = deadline.sooner(LOOK_SECONDS)
    if not _is_ours(record):
        raise OSError("it does not listen on port %d" % port)
    if not loopback.proves(port, base_url, token, part):
        raise OSError("what listens on port %d is not this server" % port)
    status, body = loopback.get(port, base_url + "api/status", token=token, deadline=part)
    if status != 200:
        raise OSError("it answered with status %d" % status)
    if not isinstance(json.loads(body.decode()), dict):
        raise ValueError("its answer makes no sense")


def stop(record: Record, deadline: Deadline) -> bool:
    """End the recorded server and its kernels.  Whether it ran.

    GuestFailure ``server_not_stopped`` if it is still there at the deadline.
    """
    if not alive(record):
        return False
    gentle = deadline.sooner(GENTLE_SECONDS)
    if not processes.end_tree(record["pid"], record["started"], gentle=gentle, hard=Deadline(KILL_SECONDS)):
        raise GuestFailure(
            "server_not_stopped",
            "The Jupyter server (pid %d) can't be ended" % record["pid"],
            "End it on the VM.",
            retryable=True,
        )
    return True


def log_tail(state: State, lines: int) -> list[str]:
    """The last lines of the server's log, without an end that was not written yet."""
    try:
        with open(os.open(state.log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_SHOWN))
            found = file.read(LOG_SHOWN).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return found[1 if size > LOG_SHOWN else 0 :][-lines:] if lines > 0 else []


def bound_log(state: State) -> None:
    """Cut a log that grew too long while its server runs: the end moves to server.log.1.

    The server appends, so it goes on at the new end.
    """
    try:
        if os.stat(state.log, follow_symlinks=False).st_size <= LOG_LIMIT:
            return
        with open(os.open(state.log, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            file.seek(-LOG_KEPT, os.SEEK_END)
            kept = file.read(LOG_KEPT)
            file.truncate(0)
    except FileNotFoundError:
        return
    write_private(state.log + ".1", kept)
