"""Processes that outlive us: starting one, recognising it later, ending it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from remote_runtime._threads import Deadline, timed_out

END_SECONDS = 3.0
"""How long a process may take to end when it is asked to, before it is killed."""
CommandLineTest = Callable[[Sequence[str]], bool]
"""Tells by a process's command line whether it is one that is meant."""

_CLOCK_SECONDS = 2.0
_LAUNCH_SECONDS = 20.0
_POLL_SECONDS = 0.01

_LAUNCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
print(child.pid, flush=True)
os._exit(0)
"""
"""Starts its arguments and goes away, so that the new process is nobody's child and leaves us no zombie."""


def start_detached(
    argv: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str], deadline: Deadline
) -> psutil.Process | None:
    """Start ``argv`` in a session of its own, with its output in the file ``log``, which is emptied.

    Returns None if it has ended already.  Raises :class:`TimedOut`, and :class:`OSError` if it can't be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    with os.fdopen(os.open(log, flags, 0o600), "wb") as output:
        if sys.platform == "win32":
            pid = _start_on_windows(argv, output.fileno(), cwd, env)
        else:
            seconds = deadline.bounded(_LAUNCH_SECONDS)
            try:
                launched = subprocess.run(
                    [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise timed_out(f"starting {argv[0]}", seconds) from error
            if launched.returncode != 0:
                return None
            pid = int(launched.stdout)
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _start_on_windows(argv: Sequence[str], output: int, cwd: Path, env: Mapping[str, str]) -> int:
    flags = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env=env, creationflags=flags
    )
    process.returncode = 0  # nobody will wait for it, and Windows keeps no zombies
    return process.pid


def recognise(pid: int, started: float, meant: CommandLineTest | None = None) -> psutil.Process | None:
    """The running process ``pid`` if it is the one that was started at ``started`` (unix seconds), else None.

    A clock that is set moves every start time: a process whose command line is ``meant``, if that is given, is taken
    for it as well.
    """
    if pid <= 0:
        return None
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        same = abs(process.create_time() - started) <= _CLOCK_SECONDS
        return process if same or (meant and meant(process.cmdline())) else None
    return None


def is_running(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """The process and all that descend from it, itself first."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return [process]


def having_home(home: Path) -> list[psutil.Process]:
    """The processes that were started with this ``HOME``, except us and those that we run under."""
    return _others(lambda process: process.environ().get("HOME") == str(home))


def running(meant: CommandLineTest) -> list[psutil.Process]:
    """The processes whose command line is ``meant``, except us and those that we run under."""
    return _others(lambda process: meant(process.cmdline()))


def _others(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended meanwhile, or is another user's
            if process.pid not in spared and wanted(process):
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], deadline: Deadline, *, seconds: float = END_SECONDS) -> bool:
    """Ask them to end, kill those that don't within ``seconds``; whether all of them are gone."""
    left = list(dict.fromkeys(processes))
    for kill in (False, True):
        for process in left:
            with suppress(psutil.Error):
                process.kill() if kill else process.terminate()
        # Killed processes get their time even when the deadline has passed: it is the kernel that we wait for.
        left = _still_running(left, Deadline(END_SECONDS) if kill else deadline.sooner(seconds))
        if not left:
            return True
    return False


def _still_running(processes: Iterable[psutil.Process], soon: Deadline) -> list[psutil.Process]:
    """Wait for them to end; those that have not done so in time.

    They are others' children, and where process 1 does not collect its dead they stay zombies for ever, for which
    psutil's own function would wait.
    """
    left = [process for process in processes if is_running(process)]
    while left and not soon.expired:
        time.sleep(_POLL_SECONDS)
        left = [process for process in left if is_running(process)]
    return left
