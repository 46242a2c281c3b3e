"""The command as its users run it: a process of its own, with real machines to talk to."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from remote_runtime.settings import Settings
from tests.openssh import Sshd, StartSshd

COMMAND = (sys.executable, "-m", "remote_runtime")
READY_SECONDS = 60.0


def run(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished command, with its output; it has no terminal."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=timeout,
        check=False,
    )


def json_lines(text: str) -> list[dict[str, Any]]:
    """The objects of an output with one per line."""
    return [json.loads(line) for line in text.splitlines()]


class Running:
    """A command that goes on, its output in files so that no pipe can fill up.

    ``through`` is a command that becomes it, such as one that takes rights away.
    """

    def __init__(self, directory: Path, *arguments: str, through: Sequence[str] = (), **environment: str) -> None:
        self.out_file, self.err_file = directory / "stdout", directory / "stderr"
        directory.mkdir()
        with self.out_file.open("wb") as out, self.err_file.open("wb") as err:
            self.process = subprocess.Popen(
                [*through, *COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
            )

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    def until(self, text: str, *, where: str = "out", seconds: float = READY_SECONDS) -> None:
        """Wait for the output to have ``text``."""
        end = time.monotonic() + seconds
        while text not in getattr(self, where):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.out}{self.err}"
            assert time.monotonic() < end, f"no {text!r} in: {self.out}{self.err}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT, seconds: float = 20) -> int:
        """Its exit status after that signal."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.TimeoutExpired):
            if self.process.poll() is None:
                self.end(signal.SIGTERM)
        self.process.kill()
        self.process.wait(20)
        print(f"--- stdout\n{self.out}\n--- stderr\n{self.err}")


class Start(Protocol):
    """What the fixture ``start`` gives."""

    def __call__(self, *arguments: str, **environment: str) -> Running: ...


@pytest.fixture
def start(tmp_path: Path, settings: Settings) -> Iterator[Start]:
    """Start commands that go on; they end with the test."""
    with ExitStack() as running:
        count = iter(range(100))

        def start_one(*arguments: str, **environment: str) -> Running:
            return running.enter_context(Running(tmp_path / f"command-{next(count)}", *arguments, **environment))

        yield start_one


@pytest.fixture
def trainer(start_sshd: StartSshd, settings: Settings) -> Sshd:
    """A machine that has Jupyter, known to ssh_config as ``trainer``."""
    sshd = start_sshd(environment={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    add_to_ssh_config(settings, "trainer", sshd)
    return sshd


@pytest.fixture
def connected(trainer: Sshd, start: Start) -> Iterator[Running]:
    """``trainer``, connected by a process in plain mode; its Jupyter is stopped after the test."""
    running = start("connect", "--provider", "ssh", "trainer", "--port", "auto")
    running.until("\n")
    yield running
    run("stop", "trainer")


def add_to_ssh_config(settings: Settings, alias: str, sshd: Sshd) -> None:
    """Let ``ssh alias`` mean that server, whose host key is known."""
    directory = settings.home / ".ssh"
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / "known_hosts").open("a") as known:
        known.writelines(f"[127.0.0.1]:{sshd.port} {key}\n" for key in sshd.files.host_keys)
    with (directory / "config").open("a") as config:
        config.write(f"Host {alias}\n  HostName 127.0.0.1\n  Port {sshd.port}\n")
        config.write(f"  IdentityFile {sshd.files.client_key}\n  IdentitiesOnly yes\n")


class InTerminal:
    """A command in a terminal of its own, ``columns`` wide; ``shown`` is all that it ever wrote there."""

    def __init__(self, *arguments: str, columns: int = 80, **environment: str) -> None:
        import fcntl
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        usual = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "COLUMNS": "", "LINES": ""}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
            env={**os.environ, **usual, **environment},
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str, seconds: float = READY_SECONDS) -> str:
        """Read until ``text`` has been shown; all that was shown."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert self._read(end - time.monotonic()), f"no {text!r} in: {self.shown!r}"
        return self.shown

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._ours, text.encode())

    def ended(self, seconds: float = 20) -> int:
        """Read to the end; the exit status."""
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, seconds))[0]:
            return False
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # Linux's way to say that nobody has the terminal open any more
            return False
        self.shown += chunk.decode("utf-8", "replace")
        return bool(chunk)

    def __enter__(self) -> InTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.TimeoutExpired):
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(20)
        self.process.kill()
        self.process.wait(20)
        os.close(self._ours)
        print(f"--- terminal\n{self.shown!r}")
