"""The host's side of the guest program: one exec, a request on its input, frames on its output.

Every function takes an :class:`Executor` (an SSH connection is one), may raise
:class:`~remote_runtime.errors.GuestError` or its subclass :class:`~remote_runtime.errors.ServerError` with what the
guest says, and passes on the :class:`~remote_runtime.errors.NetworkError` of the connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from remote_runtime import frames, payload
from remote_runtime._threads import Deadline
from remote_runtime.errors import GuestError, NetworkError, RemoteRuntimeError, TimedOut
from remote_runtime.events import EventSink, Notice, StepProgress
from remote_runtime.frames import Frame
from remote_runtime.model import ServerInfo, ServerOptions
from remote_runtime.text import printable

COMMAND = payload.EXEC_LINE
"""What each of these functions has the executor run, whatever it is for."""

STEP = "server"
NOISE_LINES = 20
NOISE_LINE_BYTES = 1000
OUTPUT_LIMIT = 256 << 20
UNBOUNDED_VERBS = ("run", "put", "get")
"""What takes as long as it takes where the caller set no time; the guest ends it when the connection does."""
NO_DEADLINE_SECONDS = 24 * 3600.0
"""What the others get then."""
REPLY_SECONDS = 2.0
"""How much sooner the guest's deadline is than ours: it knows what it waits for, and needs the time to say so."""
NOT_FOUND_STATUS = 127
NO_PYTHON = "guest_python_missing"
HALF_A_PYTHON = ("guest_input_taken", "guest_failed")
"""What comes of a Python whose installer has yet to bring some of the standard library."""
STILL_PREPARED = (
    "What a startup script has put on the VM for all users is still there, and brings your server back at the next "
    "boot or login. To remove it, on the VM: sudo /opt/remote-runtime/uninstall"
)


class RemoteProcess(Protocol):
    """A command that runs on the VM."""

    def write(self, data: bytes) -> None:
        """Send all of ``data`` to its input."""

    def lines(self) -> Iterator[bytes]:
        """Its output and errors together, line by line."""

    def wait(self) -> int:
        """Its exit status; -1 if there is none."""

    def close(self) -> None:
        """Let go of it."""


class Executor(Protocol):
    """Runs one line in the login shell of the VM's user."""

    def execute(self, line: str, deadline: Deadline) -> RemoteProcess:
        """Start it; no later than ``deadline`` everything about it is over."""


def _ignore(_: object) -> None:
    """Nobody is told."""


def ensure_server(
    executor: Executor,
    options: ServerOptions,
    *,
    token: str,
    new_token: bool = False,
    restart: bool,
    expects_preparation: bool = False,
    on_event: EventSink,
    deadline: Deadline,
    cache_dir: Path | None = None,
) -> ServerInfo:
    """Make sure that our Jupyter server runs on the VM, and describe it.

    ``token`` is what the host remembers, or ``""``: the VM's own goes first, and ``new_token`` replaces both, at the
    price of a restart.  With ``restart=False`` (a reconnect) a server that was stopped on purpose stays so, and
    ServerError ``server_stopped`` is raised.  ``expects_preparation``: a startup script of ours is known to prepare the
    VM at its boot, so it is given a while to begin before all is done from here.  ``cache_dir`` keeps wheels that had
    to be sent (None: the settings' one).
    """
    request = {
        "verb": "ensure",
        "token": token,
        "new_token": new_token,
        "restart": restart,
        "upgrade": options.upgrade,
        "expects_preparation": expects_preparation,
        "options": _asked(options),
    }
    supply = _WheelSupply(cache_dir, on_event, deadline)
    value = converse(executor, request, deadline, on_event=on_event, supplies={"wheels": supply})
    differs = frames.lines(value.get("differs"))
    if differs:
        names = ", ".join("--" + name.replace("_", "-").replace("args", "arg") for name in differs)
        text = f"The server was already running with another {names}; stop it first to change that"
        on_event(Notice("server_options_differ", text, "warning"))
    died = frames.lines(value.get("died"))
    if died and not restart:
        text = f"Jupyter on the VM had died and was started again. Its last words: {' | '.join(died[-3:])}"
        on_event(Notice("server_restarted", text, "warning"))
    return frames.parse_server(value)


def stop_server(executor: Executor, deadline: Deadline) -> bool:
    """End the server and its kernels; whether it ran.  Reconnects leave it so, a new connect starts it again."""
    return converse(executor, {"verb": "stop"}, deadline).get("stopped") is True


def server_status(executor: Executor, deadline: Deadline) -> ServerInfo | None:
    """The running server, or None."""
    server = converse(executor, {"verb": "status"}, deadline).get("server")
    return frames.parse_server(server) if isinstance(server, dict) else None


def server_log(executor: Executor, deadline: Deadline, *, lines: int = 200) -> list[str]:
    """The last lines of the server's log, fit to be shown."""
    value = converse(executor, {"verb": "log", "lines": lines}, deadline)
    return list(frames.lines(value.get("lines")))


def uninstall(executor: Executor, deadline: Deadline, *, on_event: EventSink = _ignore) -> list[str]:
    """Stop the server and remove all of ours from the user's home on the VM; what was removed."""
    value = converse(executor, {"verb": "uninstall"}, deadline)
    if value.get("prepared") is True:
        on_event(Notice("still_prepared", STILL_PREPARED, "warning"))
    return list(frames.lines(value.get("removed")))


def run(
    executor: Executor,
    argv: Sequence[str],
    *,
    input: bytes = b"",
    cwd: str = "~",
    env: Mapping[str, str] | None = None,
    on_output: Callable[[str, bytes], None] | None = None,
    deadline: Deadline,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command on the VM without a shell, and collect what it writes, or tell ``on_output`` of it piece by piece.

    A command that is not there gives exit status 127, as in a shell.  Raises GuestError ``command_timeout`` if it does
    not end in time, and ``output_too_long`` above 256 MiB that are collected.
    """
    written: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    size = 0

    def collect(stream: str, data: bytes) -> None:
        nonlocal size
        size += len(data)
        if size > OUTPUT_LIMIT:
            raise GuestError("The command wrote too much", hint="Write to a file on the VM.", code="output_too_long")
        written[stream].append(data)

    sent = base64.b64encode(input).decode()
    request = {"verb": "run", "argv": list(argv), "input": sent, "cwd": cwd, "env": dict(env or {})}
    value = converse(executor, request, deadline, collect=on_output or collect)
    code = frames.integer(value, "code", -255, 255)
    return subprocess.CompletedProcess(list(argv), code, b"".join(written["stdout"]), b"".join(written["stderr"]))


def _asked(options: ServerOptions) -> dict[str, Any]:
    """The options that the user chose: what is left at its default is no wish, and the VM keeps what it has."""
    chosen, default = asdict(options), asdict(ServerOptions())
    return {name: value for name, value in chosen.items() if name != "upgrade" and value != default[name]}


def _no_output(_: str, __: bytes) -> None:
    raise frames.malformed("output")


def converse(
    executor: Executor,
    request: Mapping[str, Any],
    deadline: Deadline,
    *,
    on_event: EventSink = _ignore,
    collect: Callable[[str, bytes], None] = _no_output,
    supplies: Mapping[str, Callable[[Frame], Iterable[bytes]]] = MappingProxyType({}),
) -> Frame:
    """Run the guest program once; the value of its result.

    ``collect`` is told of output, ``supplies`` give the blocks that the guest may need, by its word for them.
    """
    nonce = secrets.token_hex(16)
    program = payload.program()
    seconds = deadline.remaining(None if request["verb"] in UNBOUNDED_VERBS else NO_DEADLINE_SECONDS)
    theirs = None if seconds is None else seconds - min(REPLY_SECONDS, seconds / 5)
    full = {**request, "nonce": nonce, "guest": program.sha256, "deadline_seconds": theirs}
    noise: deque[bytes] = deque(maxlen=NOISE_LINES)
    heard = False
    process = executor.execute(COMMAND, deadline)
    try:
        _send(process, [payload.block(payload.loader()) + payload.block(json.dumps(full).encode())])
        for line in process.lines():
            frame = frames.parse_line(line, nonce)
            heard = heard or frame is not None
            if frame is None and nonce.encode() in line:
                continue  # a start-up file that echoes its input shows the request, and the token with it
            if frame is None:
                noise.append(line[:NOISE_LINE_BYTES])
            elif frame["type"] == "progress":
                on_event(StepProgress(STEP, frames.text(frame.get("text"))))
            elif frame["type"] == "notice":
                on_event(frames.parse_notice(frame))
            elif frame["type"] == "output":
                collect(*frames.parse_output(frame))
            elif frame["type"] == "need" and frame.get("what") == "guest":
                _send(process, [payload.block(program.content)])
            elif frame["type"] == "need" and (supply := supplies.get(str(frame.get("what")))):
                _send(process, supply(frame))
            elif frame["type"] == "error":
                raise frames.parse_error(frame)
            elif frame["type"] == "result":
                return frames.parse_result(frame)
        said = (printable(line.decode("utf-8", "replace")) for line in noise)
        raise explain_end(process.wait(), tuple(filter(None, said)))
    except TimedOut as error:
        if heard:
            raise
        raise TimedOut(
            "The login shell on the VM did not start our program in time",
            hint="A start-up file of that shell (as .bashrc) may wait for something: see whether `ssh` to it with the "
            "command `python3 --version` comes back. Or give it longer with --timeout SECONDS.",
        ) from error
    finally:
        process.close()


def _send(process: RemoteProcess, blocks: Iterable[bytes]) -> None:
    """Write to the guest.  That it takes no more is no error here: what it said, or the connection, will say why."""
    try:
        for content in blocks:
            process.write(content)
    except TimedOut:
        raise
    except NetworkError:
        return


def explain_end(status: int, noise: tuple[str, ...]) -> RemoteRuntimeError:
    """Why the exec ended without an answer, from its exit status and the last lines of its output."""
    if status == -1:
        return NetworkError(
            "The connection ended while the VM was being prepared",
            hint="Connect again: what was done so far is used.",
            code="connection_lost",
        )
    if status == payload.TOO_OLD_STATUS:
        found = re.findall(r"\b[23]\.\d+\.\d+\b", " ".join(noise[-2:]))
        return GuestError(
            f"Python on the VM is too old{': ' + found[-1] if found else ''}",
            hint="Install Python 3.8 or newer there, so that `python3` starts it.",
            code="guest_python_too_old",
        )
    # csh and its kin say so in words alone, with the status of any other failure.
    if status == NOT_FOUND_STATUS or any("python3" in line and "not found" in line for line in noise[-1:]):
        return GuestError(
            "There is no python3 on the VM",
            hint="Install Python 3.8 or newer there (on Debian: sudo apt-get install python3).",
            code=NO_PYTHON,
            log=noise,
        )
    if any('File "<string>", line 1,' in line for line in noise):  # the exec line itself, which had no loader to run
        return GuestError(
            "The VM did not get what was sent to it",
            hint="A start-up file of the login shell there reads its input: let it do so in terminals alone.",
            code="guest_input_taken",
        )
    return GuestError(
        f"The login to the VM ended with status {status} before it ran anything of ours",
        hint="See what `ssh` to it with the command `python3 --version` says. A start-up file of the shell may end it, "
        "the shell may be nologin, or the login may be for one command only (ForceCommand).",
        code="guest_failed",
        log=noise,
    )


def python_may_come(code: str, *, was_missing: bool) -> bool:
    """Whether such a failure is to be expected of a machine while a startup script installs its Python.

    ``was_missing``: there was none a moment ago.
    """
    return code == NO_PYTHON or (was_missing and code in HALF_A_PYTHON)


class _WheelSupply:
    """Answers the guest's need for wheels: resolved for its interpreter, fetched here, sent with their hashes."""

    def __init__(self, cache_dir: Path | None, on_event: EventSink, deadline: Deadline) -> None:
        self._cache_dir = cache_dir
        self._on_event = on_event
        self._deadline = deadline

    def __call__(self, frame: Frame) -> list[bytes]:
        from remote_runtime.settings import Settings
        from remote_runtime.wheelhouse import wheels_for

        target, ui = frame.get("target"), frame.get("ui")
        if not isinstance(target, dict) or ui not in ("lab", "none"):
            raise frames.malformed("need")
        try:
            paths = wheels_for(
                target,
                ui=ui,
                cache_dir=self._cache_dir or Settings.load().cache_dir,
                say=lambda text: self._on_event(StepProgress(STEP, text)),
                deadline=self._deadline,
            )
        except RemoteRuntimeError as error:
            self._on_event(Notice("wheels_unavailable", error.message, "warning"))
            return [payload.block(b'{"files": null}')]
        contents = [path.read_bytes() for path in paths]
        header = [
            {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in zip(paths, contents, strict=True)
        ]
        return [payload.block(json.dumps({"files": header}).encode()), *map(payload.block, contents)]
