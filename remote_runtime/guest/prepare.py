"""Preparing a machine, as its root, at every boot: what servers need, for all users to read and for none to change.

What takes long is done once; a later boot finds it done.  Everything appears whole or not at all, so that this program
may be killed at any moment and started again.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import threading
import time

from . import console, parts, plan, preparation, prepared, probe, processes, system
from .attributes import Metadata
from .loader import GuestFailure, forget_old_programs
from .wheel import build_wheel, extension_files, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .console import Console
    from .context import Context

LIFE_SECONDS = 10.0  # between two signs of life
COMPILE_SECONDS = 120.0
COMPLETE = ".complete"  # in an environment that nothing is left to be done to
UI = "lab"  # what has more serves those too who want less
NOWHERE = "/nonexistent"
# What lies about on the machine may be any user's, and asking a Python runs what its owner has put there: that must not
# be done as root.  Nobody also sees what every user sees, and no more.
NOBODY = 65534
ASKED_BY_NOBODY = probe.Asker(
    tuple(system.becoming(NOBODY, NOBODY, "--clear-groups", "--no-new-privs")),
    {"PATH": "/usr/bin:/bin", "HOME": NOWHERE, "LANG": "C.UTF-8"},
    "/",
)


def prepare(context: Context, wire: Console, arguments: list[str]) -> int:
    """Prepare the machine; ``--user NAME`` has a server from now on.  0 if it is ready, else 1."""
    os.umask(0o022)  # what is made here is for all
    named = arguments[1] if arguments[:1] == ["--user"] else ""
    with _Progress(wire, Metadata()) as progress:
        try:
            _do(context, progress, named)
        except GuestFailure as failure:
            wire.error(failure)
            progress.end("failed", console.explained(failure))
        except Exception as error:
            wire.say("%s: %s" % (type(error).__name__, error))
            progress.end("failed", "%s: %s" % (type(error).__name__, error))
            if not isinstance(error, OSError):
                raise
        else:
            progress.end("ready", "")
            return 0
    return 1


def _do(context: Context, progress: _Progress, named: str) -> None:
    progress.step("Unpacking the extension")
    extension = _place_extension()
    progress.step("Looking for Jupyter")
    environment = "" if _common_jupyter(context) else _place_environment(context, progress)
    progress.step("Setting up the system")
    system.place_files(context.program)
    facts = {"extension": extension, "environment": environment}
    system.write(prepared.FACTS, json.dumps(facts).encode(), 0o644)
    _forget_old(context, environment)
    name = named or progress.metadata.named_user()
    if name:
        _start_server_of(name, context, progress)


def _start_server_of(name: str, context: Context, progress: _Progress) -> None:
    """Have that user's server run from now on, unless the first login has yet to bring the user or the home."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        context.wire.say("The user %s does not exist yet: the first login starts the server" % name)
        return
    if not os.path.isdir(account.pw_dir):
        context.wire.say("The user %s has no home yet: the first login starts the server" % name)
        return
    progress.step("Starting the Jupyter server of " + name)
    system.start_server(account, context.deadline)


# -- the parts --------------------------------------------------------------------------------------------------------


def _place_extension() -> str:
    """Unpack the extension for all users; its key."""
    key = parts.extension_key()
    directory = os.path.join(prepared.EXTENSIONS, key)
    if prepared.extension(key):
        return key
    os.makedirs(prepared.EXTENSIONS, mode=0o755, exist_ok=True)
    beside = "%s.%s" % (directory, os.urandom(4).hex())
    try:
        unpack(build_wheel(extension_files())[1], beside)
        open_to_all(beside)
        if os.path.lexists(directory):  # not as it should be
            os.rename(directory, beside + ".old")
        os.rename(beside, directory)
    finally:
        for path in (beside, beside + ".old"):
            shutil.rmtree(path, ignore_errors=True)
    return key


def _common_jupyter(context: Context) -> bool:
    """Whether the machine has a Jupyter that every user's server would find, as Deep Learning VMs may."""
    for found in probe.find(context.environ, NOWHERE, context.deadline, ASKED_BY_NOBODY):
        if plan.usable(found) and found.ipykernel:
            context.wire.say("Found Jupyter Server %s in %s" % (found.server, found.executable))
            return probe.can_serve(found.executable, context.deadline, ASKED_BY_NOBODY)
    return False


def _place_environment(context: Context, progress: _Progress) -> str:
    """Build an environment with Jupyter for all users, as far as that is not done; its key."""
    key = parts.environment_key(UI, context)
    directory = os.path.join(prepared.ENVIRONMENTS, key)
    found = probe.ask(parts.python_of(directory), context.deadline)
    complete = os.path.join(directory, COMPLETE)
    if not (found and parts.serves(found, UI)):
        progress.step("Installing Jupyter")
        os.makedirs(prepared.ENVIRONMENTS, mode=0o755, exist_ok=True)
        parts.build(directory, UI, context)
    elif os.path.exists(complete):
        return key
    progress.step("Compiling Jupyter")
    _compile(directory, context)
    open_to_all(directory)
    system.write(complete, b"", 0o644)
    return key


def _compile(directory: str, context: Context) -> None:
    # Its users may not write there, so that every start would compile all anew.  Some packages hold files that are
    # meant for another Python, so that it does not matter how this ends.
    argv = [parts.python_of(directory), "-m", "compileall", "-q", os.path.join(directory, "lib")]
    quiet = subprocess.DEVNULL
    try:
        seconds = context.deadline.bounded(COMPILE_SECONDS)
        subprocess.run(argv, stdin=quiet, stdout=quiet, stderr=quiet, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        context.wire.say("That took too long, and was left")


def open_to_all(directory: str) -> None:
    """Let every user read what is below, and nobody but root change it."""
    for parent, _, files in os.walk(directory):
        for path in [parent, *(os.path.join(parent, name) for name in files)]:
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                runs = 0o111 if stat.S_ISDIR(mode) or mode & 0o100 else 0
                os.chmod(path, stat.S_IMODE(mode) & ~0o022 | 0o444 | runs)


def _forget_old(context: Context, environment: str) -> None:
    """Remove what an earlier script brought, or an earlier run left, and what nothing runs with."""
    forget_old_programs(os.path.dirname(context.program))
    for entry in _entries(prepared.EXTENSIONS):
        if "." in entry:  # was not finished; whole ones are small, and a server may still read its own
            shutil.rmtree(os.path.join(prepared.EXTENSIONS, entry), ignore_errors=True)
    for entry in _entries(prepared.ENVIRONMENTS):
        directory = os.path.join(prepared.ENVIRONMENTS, entry)
        if entry not in (environment, "tools") and not processes.running_from(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _entries(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


# -- telling ----------------------------------------------------------------------------------------------------------


class _Progress:
    """Tells how far the preparation is: in a file, as guest attributes, and one line per step on standard output."""

    def __init__(self, wire: Console, metadata: Metadata) -> None:
        self.metadata = metadata
        self._wire = wire
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._report: dict[str, Any] = {
            "state": "running",
            "step": "Beginning",
            "log": [],
            "pid": os.getpid(),
            "started": processes.started(os.getpid()),
            "begun": time.time(),
        }
        self._pulse = threading.Thread(target=self._live, name="signs of life")

    def __enter__(self) -> _Progress:
        os.makedirs(system.RUN_DIRECTORY, mode=0o755, exist_ok=True)
        self._write()
        self._pulse.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._pulse.join()

    def step(self, text: str) -> None:
        """The next thing is begun."""
        self._wire.say("== " + text)
        console.write(1, "remote-runtime: " + text)
        self._tell(step=text)

    def end(self, state: str, why: str) -> None:
        """``ready``, or ``failed`` with the reason in one line."""
        step = self._report["step"]
        if state == "failed":
            why = console.CREDENTIALS.sub("", why)  # everybody may read what follows
            console.write(1, "remote-runtime: failed: %s: %s" % (step, why))
            console.write(1, "remote-runtime: all that was said is in " + system.LOGS[0])
            self._tell(state=state, log=[*self._wire.lines, why])
        else:
            console.write(1, "remote-runtime: ready")
            self._tell(state=state, step="Ready")

    def _tell(self, **changes: Any) -> None:
        with self._writing:
            self._report.update(changes)
        self._write()
        ended = self._report["state"] != "running"
        for key in ("step", "state"):  # the state last: who sees it end sees the right step
            self.metadata.publish(key, str(self._report[key]), lasting=ended)

    def _write(self) -> None:
        with self._writing:
            content = json.dumps({**self._report, "updated": time.time()}).encode()
            system.write(preparation.STATE_FILE, content, 0o644)

    def _live(self) -> None:
        while not self._over.wait(LIFE_SECONDS):
            self._write()
