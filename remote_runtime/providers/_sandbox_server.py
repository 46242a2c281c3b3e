"""Starting and ending a sandbox's SSH server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil

from remote_runtime import processes
from remote_runtime._threads import Deadline, timed_out
from remote_runtime.errors import InstanceError
from remote_runtime.providers import _sandbox_openssh as _openssh
from remote_runtime.providers._sandbox_files import SandboxFiles, own_directory
from remote_runtime.providers._sandbox_plan import (
    ASYNCSSH_MODULE,
    SEARCH_PATH,
    Kind,
    State,
    Unusable,
    is_server,
    version_of,
)
from remote_runtime.text import printable

START_SECONDS = 20.0
TEST_SECONDS = 10.0
BANNER_SECONDS = 5.0
_POLL_SECONDS = 0.01
_PORTS_TO_TRY = 5
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "SYSTEMROOT", "TEMP")
"""What our own processes need of our environment; what runs in the sandbox gets none of it."""


def start(files: SandboxFiles, kinds: tuple[Kind, ...], environ: Mapping[str, str], deadline: Deadline) -> State:
    """Start the first of ``kinds`` that works, and remember it.  The caller holds the lock.

    Raises :class:`InstanceError` with code ``sandbox_unavailable`` if none works.
    """
    _end_forgotten(files, deadline)
    reasons = []
    for kind in kinds:
        try:
            state = _start(kind, files, environ, deadline)
        except Unusable as reason:
            reasons.append(str(reason))
            continue
        files.save(state)
        return state
    raise InstanceError(
        f"No SSH server for the sandbox: {'; '.join(reasons)}",
        hint="Install OpenSSH's server (apt-get install openssh-server, say), "
        "or the one in Python: pip install 'remote-runtime[sandbox]'",
        code="sandbox_unavailable",
    )


def running(files: SandboxFiles, state: State) -> psutil.Process | None:
    """The server's process, or None if it has ended."""
    return processes.recognise(state.pid, state.started, lambda argv: is_server(argv, files.server))


def answers(port: int, deadline: Deadline) -> str | None:
    """Name and version of the SSH server on that port of loopback; None if none answers soon."""
    end = time.monotonic() + deadline.bounded(BANNER_SECONDS)
    banner = b""
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=max(0.01, end - time.monotonic())) as peer,
    ):
        while b"\n" not in banner and len(banner) < 255:
            peer.settimeout(max(0.01, end - time.monotonic()))
            chunk = peer.recv(255)
            if not chunk:
                break
            banner += chunk
    return version_of(banner)


def end(files: SandboxFiles, process: psutil.Process, deadline: Deadline) -> None:
    """End the server and its connections, but not what was started in the sandbox and detached.

    The caller holds the lock.  Raises :class:`InstanceError` with code ``stop_failed`` if something does not end.
    """
    if not processes.end(processes.with_descendants(process), deadline):
        raise _does_not_end(files)


def stop(files: SandboxFiles, deadline: Deadline) -> None:
    """End the server and all that was started in the sandbox; remember that this was on purpose.

    The caller holds the lock.  Raises :class:`InstanceError` with code ``stop_failed`` if something does not end.
    """
    state = files.load()
    listener = running(files, state)
    doomed = processes.with_descendants(listener) if listener else []
    ended = processes.end([*doomed, *_servers(files), *processes.having_home(files.home)], deadline)
    # What was being started a moment ago is not in that list; there is nothing that could start more by now.
    if not processes.end(processes.having_home(files.home), deadline) or not ended:
        raise _does_not_end(files)
    files.save(State(kind=state.kind, version=state.version, port=state.port))


def _servers(files: SandboxFiles) -> list[psutil.Process]:
    """The sandbox's servers; one may not be written down, if who started it was killed before that."""
    return processes.running(lambda argv: is_server(argv, files.server))


def _end_forgotten(files: SandboxFiles, deadline: Deadline) -> None:
    """End such servers.  The caller holds the lock, and knows that the one that is written down has ended."""
    if not processes.end(_servers(files), deadline):
        raise _does_not_end(files)


def _does_not_end(files: SandboxFiles) -> InstanceError:
    return InstanceError(
        f"Some processes of the sandbox {files.name} don't end",
        hint=f"Look for processes whose HOME is {files.home}.",
        code="stop_failed",
    )


# -- both kinds -------------------------------------------------------------------------------------------------


def _start(kind: Kind, files: SandboxFiles, environ: Mapping[str, str], deadline: Deadline) -> State:
    path = _commands_path(files)
    env = {"PATH": path, **{name: environ[name] for name in _KEPT_ENVIRONMENT if name in environ}}
    wanted = files.load().port
    for _ in range(_PORTS_TO_TRY):
        port = _free_port(wanted)
        argv = _openssh.prepare(files, port, path) if kind == "openssh" else _prepare_asyncssh(files, port)
        try:
            process = processes.start_detached(argv, log=files.log, cwd=files.server, env=env, deadline=deadline)
        except OSError as error:
            raise Unusable(f"{argv[0]} can't be started ({error.strerror})") from error
        state = _await_state(kind, process, port, files, deadline) if process else None
        if state:
            return state
        wanted = 0  # it ended at once: most likely somebody took the port in between
    raise Unusable(f"{kind} ends as soon as it is started ({printable(files.last_words())})")


def _await_state(
    kind: Kind, process: psutil.Process, port: int, files: SandboxFiles, deadline: Deadline
) -> State | None:
    """The state once the server lets us in; None if it ended.  On any error it is ended."""
    try:
        version = _await_banner(process, port, deadline)
        if version and kind == "openssh":
            _openssh.try_login(files, port, deadline)
        return State(kind, version, process.pid, process.create_time(), port) if version else None
    except psutil.NoSuchProcess:
        return None
    except BaseException:
        processes.end(processes.with_descendants(process), deadline)
        raise


def _await_banner(process: psutil.Process, port: int, deadline: Deadline) -> str | None:
    """Wait until the new server answers; None if it ends instead."""
    soon = deadline.sooner(START_SECONDS)
    while processes.is_running(process):
        version = answers(port, soon)
        if version and processes.is_running(process):
            return version
        if soon.expired:
            raise timed_out("starting the sandbox's SSH server", soon.seconds)
        time.sleep(_POLL_SECONDS)
    return None


def _free_port(wanted: int) -> int:
    """``wanted`` if nobody listens there, else another one."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            if sys.platform != "win32":  # where the option means something else
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unusable("no port of 127.0.0.1 is free")


def _commands_path(files: SandboxFiles) -> str:
    """PATH for commands: the system's, and if that has no recent python3, in front a directory with only ours."""
    path = os.pathsep.join(SEARCH_PATH)
    python = shutil.which("python3", path=path)
    if os.name == "nt" or (python and _is_recent(python)):
        return path
    directory = files.server / "bin"
    own_directory(directory)
    link = directory / "python3"
    link.unlink(missing_ok=True)
    # Not our virtual environment's: what is installed there is no business of the sandbox.
    link.symlink_to(getattr(sys, "_base_executable", None) or sys.executable)
    return f"{directory}{os.pathsep}{path}"


def _is_recent(python: str) -> bool:
    code = "import sys; sys.exit(sys.version_info < (3, 8))"
    with suppress(OSError, subprocess.TimeoutExpired):
        argv = [python, "-I", "-S", "-c", code]
        quiet = subprocess.DEVNULL
        return (
            subprocess.run(argv, stdin=quiet, stdout=quiet, stderr=quiet, timeout=TEST_SECONDS, check=False).returncode
            == 0
        )
    return False


# -- asyncssh ---------------------------------------------------------------------------------------------------


def _prepare_asyncssh(files: SandboxFiles, port: int) -> list[str]:
    if importlib.util.find_spec("asyncssh") is None:
        raise Unusable("asyncssh is not installed")
    return [sys.executable, "-m", ASYNCSSH_MODULE, str(files.server), str(files.home), str(port)]
