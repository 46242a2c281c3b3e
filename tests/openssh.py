"""Real OpenSSH servers for tests, as the account that runs them: a daemon on loopback, or ``sshd -i`` on a socket pair.

Neither isolates anything.  A server's own log is printed at its end, so that pytest shows it when the test fails.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from remote_runtime import keys
from remote_runtime._threads import Deadline
from remote_runtime.guest.processes import any_port
from remote_runtime.model import Dial, Endpoint, Identity, Pinned
from tests.tools import need

START_SECONDS = 10.0
USER = pwd.getpwuid(os.getuid()).pw_name

Option = str | Sequence[str] | None


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[StartSshd]:
    """Start any number of daemons, each in a directory of its own; they end with the test.

    ``start_sshd(host_keys=("ed25519", "rsa"), environment={...}, MaxSessions="1", AllowTcpForwarding=None)``: options
    in sshd_config's own spelling replace ours, None leaves ours out, a list repeats the line.
    """
    with ExitStack() as running:

        def start(
            *, host_keys: Sequence[str] = ("ed25519",), environment: Mapping[str, str] | None = None, **options: Option
        ) -> Sshd:
            directory = tmp_path / f"sshd-{len(list(tmp_path.glob('sshd-*')))}"
            return running.enter_context(run_sshd(directory, host_keys=host_keys, environment=environment, **options))

        yield start


@pytest.fixture
def sshd(start_sshd: StartSshd) -> Sshd:
    """One daemon with the usual options."""
    return start_sshd()


@pytest.fixture
def sshd_pair(tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint whose every connection is an ``sshd -i`` of its own, without a port: the quickest real server."""
    files = prepare(tmp_path / "sshd-pair")
    started: list[subprocess.Popen[bytes]] = []

    def dial(deadline: Deadline) -> socket.socket:
        deadline.check("starting sshd")
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [files.program, "-i", "-f", str(files.config), "-E", str(files.log)]
            started.append(
                subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL)
            )
        return ours

    yield files.endpoint(via=Dial(dial, "sshd on a socket pair"))
    for process in started:
        _end([psutil.Process(process.pid), *_descendants(process.pid)] if process.poll() is None else [])
        process.wait(START_SECONDS)
    files.show_log()


class StartSshd(Protocol):
    """What the fixture ``start_sshd`` gives."""

    def __call__(
        self, *, host_keys: Sequence[str] = ..., environment: Mapping[str, str] | None = ..., **options: Option
    ) -> Sshd: ...


@dataclasses.dataclass(frozen=True)
class Files:
    """A server's directory: its configuration and keys, the client's key, and a scratch home for who logs in."""

    program: str
    directory: Path
    host_keys: tuple[str, ...]
    """The public lines, ``"type base64"``, in the order they were asked for."""

    @property
    def config(self) -> Path:
        return self.directory / "sshd_config"

    @property
    def log(self) -> Path:
        return self.directory / "sshd.log"

    @property
    def client_key(self) -> Path:
        return self.directory / "client"

    @property
    def home(self) -> Path:
        """``$HOME`` of every command; they start in the account's real home all the same, as sshd does it."""
        return self.directory / "home"

    @property
    def temporary(self) -> Path:
        """``$TMPDIR`` of every command."""
        return self.directory / "tmp"

    def endpoint(self, **changes: Any) -> Endpoint:
        """How to log in: the host keys pinned, the client's key, this account."""
        usual = Endpoint("127.0.0.1", USER, Pinned(self.host_keys, "the test"), identities=(Identity(self.client_key),))
        return dataclasses.replace(usual, **changes)

    def show_log(self) -> None:
        """Print the log; pytest captures it, and shows it if the test failed."""
        if self.log.exists():
            print(f"--- {self.log}\n{self.log.read_text(errors='replace')}")


class Sshd:
    """A running daemon on 127.0.0.1.  Made by :func:`run_sshd` or the fixtures.

    ``enter`` is a command that goes before its own, and becomes it: the way into a namespace, say.
    """

    def __init__(self, files: Files, port: int, enter: Sequence[str] = ()) -> None:
        self.files = files
        self.port = port
        self._enter = tuple(enter)
        self.home = files.home
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def endpoint(self, **changes: Any) -> Endpoint:
        """How to log in to it; ``changes`` replace fields of the Endpoint."""
        return self.files.endpoint(**{"port": self.port, **changes})

    def start(self) -> None:
        """Listen (again); returns when it does."""
        seen = self.files.log.stat().st_size if self.files.log.exists() else 0
        with self.files.log.open("ab") as log:
            argv = [*self._enter, self.files.program, "-D", "-e", "-f", str(self.files.config), "-p", str(self.port)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while b"Server listening on" not in (text := self.files.log.read_bytes()[seen:]):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise SshdDidNotStart(text.decode(errors="replace"))
            time.sleep(0.005)

    def stop(self) -> None:
        """End the listener, every connection, and every command that still runs under one."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # or who comes now would be served by a process that nobody ends
        _end(_descendants(self._process.pid))
        self._process.kill()
        self._process.wait(START_SECONDS)
        self._process = None

    def restart(self) -> None:
        """Stop, and listen on the same port with the same keys."""
        self.stop()
        self.start()

    def kill_connections(self) -> int:
        """Cut every connection at once, as a lost network does; commands go on, the listener too.  Returns how many."""
        assert self._process is not None, "it does not run"
        connections = [process for process in _descendants(self._process.pid) if _is_sshd(process)]
        _end(connections)
        return len(connections)

    def signal(self, number: int, *, connections_only: bool = False) -> None:
        """Send a signal to the processes that serve its connections, and to the listener unless told not to."""
        assert self._process is not None, "it does not run"
        for process in filter(_is_sshd, _descendants(self._process.pid)):
            process.send_signal(number)
        if not connections_only:
            self._process.send_signal(number)

    @property
    def root(self) -> Path:
        """Its root directory, as it sees it; another one than ours if it is in a mount namespace."""
        assert self._process is not None, "it does not run"
        return Path(f"/proc/{self._process.pid}/root")

    @property
    def log(self) -> str:
        """What it logged until now."""
        return self.files.log.read_text(errors="replace")


class SshdDidNotStart(Exception):
    """sshd ended, or did not listen in time; the text is its log."""


@contextmanager
def run_sshd(
    directory: Path,
    *,
    host_keys: Sequence[str] = ("ed25519",),
    environment: Mapping[str, str] | None = None,
    enter: Sequence[str] = (),
    **options: Option,
) -> Iterator[Sshd]:
    """A daemon for as long as the block lasts, for fixtures of any scope."""
    files = prepare(directory, host_keys=host_keys, environment=environment, **options)
    server = _on_a_free_port(files, enter)
    try:
        yield server
    finally:
        server.stop()
        files.show_log()


def prepare(
    directory: Path,
    *,
    host_keys: Sequence[str] = ("ed25519",),
    environment: Mapping[str, str] | None = None,
    **options: Option,
) -> Files:
    """Write keys and configuration of a server into ``directory``, which is made."""
    program = need("sshd", "openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # root's sshd drops its privileges into it
    directory.mkdir(mode=0o700)
    (directory / "home").mkdir(mode=0o700)
    (directory / "tmp").mkdir(mode=0o700)
    public = tuple(make_key(directory / f"host_{kind}", kind) for kind in host_keys)
    files = Files(program, directory, public)
    environ = {"HOME": str(files.home), "TMPDIR": str(files.temporary), **(environment or {})}
    authorized = make_key(files.client_key, "ed25519")
    (directory / "authorized_keys").write_text(authorized + "\n")
    usual: dict[str, Option] = {
        "ListenAddress": "127.0.0.1",
        "HostKey": [str(directory / f"host_{kind}") for kind in host_keys],
        "PidFile": "none",
        "AuthorizedKeysFile": str(directory / "authorized_keys"),
        "StrictModes": "no",  # the temporary directory is world-writable, which it would not forgive
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "MaxStartups": "100",
        "LogLevel": "VERBOSE",
        "SetEnv": " ".join(f'"{name}={value}"' for name, value in environ.items()),
        "Subsystem": "sftp internal-sftp",
    }
    if _knows(program, "PerSourcePenalties no"):
        usual["PerSourcePenalties"] = "no"  # many tests in a row look like an attack
    files.config.write_text("".join(_lines({**usual, **options})))
    return files


def _lines(options: Mapping[str, Option]) -> Iterator[str]:
    for name, value in options.items():
        for one in [value] if isinstance(value, str) else value or ():
            yield f"{name} {one}\n"


def _knows(program: str, line: str) -> bool:
    """Whether this version of sshd takes that line: the test mode complains about unknown names before all else."""
    name, _, value = line.partition(" ")
    argv = [program, "-t", "-f", os.devnull, "-o", f"{name}={value}"]
    answer = subprocess.run(argv, capture_output=True, timeout=START_SECONDS, check=False)
    return b"Bad configuration option" not in answer.stderr


def make_key(path: Path, kind: str) -> str:
    """Write a private key of 0600 and return its public line without the comment."""
    if kind == "ed25519":
        private, public = keys.generate("test")
        path.touch(mode=0o600)
        path.write_bytes(private)
    else:
        program = need("ssh-keygen", "openssh-client")
        argv = [program, "-q", "-t", kind, "-N", "", "-f", str(path)]
        subprocess.run(argv, check=True, timeout=60, stdin=subprocess.DEVNULL)
        public = path.with_suffix(".pub").read_text()
    return " ".join(public.split()[:2])


def _on_a_free_port(files: Files, enter: Sequence[str]) -> Sshd:
    """sshd can't be told to take any port, so between our look and its bind somebody else may have taken ours."""
    for attempts_left in range(4, -1, -1):
        with suppress(*() if attempts_left == 0 else (SshdDidNotStart,)):
            return Sshd(files, any_port(), enter)
    raise AssertionError("not reached: the last attempt returns or raises")


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_sshd(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.name().startswith("sshd")
    return False


def _end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    end = time.monotonic() + START_SECONDS
    while any(map(_lives, processes)) and time.monotonic() < end:
        time.sleep(0.005)


def _lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that nobody has waited for is none that lives: a stopped sshd waits for nobody."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
