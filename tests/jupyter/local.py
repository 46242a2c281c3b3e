"""A VM that is this machine: commands run in a local shell, in a home of the test's own."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from remote_runtime._threads import Deadline
from remote_runtime.errors import NetworkError, TimedOut

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class LocalShell:
    """An Executor: ``shell -c line`` with this environment, as sshd would run it."""

    def __init__(self, home: Path, *, path: str = SYSTEM_PATH, shell: str = "/bin/sh", **environ: str) -> None:
        self.environ: Mapping[str, str] = {
            "HOME": str(home),
            "PATH": path,
            "SHELL": shell,
            "LANG": "C.UTF-8",
            **environ,
        }
        self.home = home
        self.shell = shell

    def execute(self, line: str, deadline: Deadline) -> LocalProcess:
        return LocalProcess([self.shell, "-c", line], self, deadline)


class LocalProcess:
    """A RemoteProcess: merged output, and every wait bounded by the deadline."""

    def __init__(self, argv: list[str], machine: LocalShell, deadline: Deadline) -> None:
        self._deadline = deadline
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(machine.environ),
            cwd=machine.home,
        )

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise NetworkError("the command ended", code="connection_lost") from error

    def lines(self) -> Iterator[bytes]:
        assert self.process.stdout
        pending = b""
        while True:
            if not select.select([self.process.stdout], [], [], self._deadline.remaining())[0]:
                raise TimedOut("too late")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                break
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole
        if pending:
            yield pending

    def wait(self) -> int:
        return self.process.wait(self._deadline.remaining())

    def hang_up(self) -> None:
        """Close the pipes and leave the program to itself, as a connection that broke does."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()

    def close(self) -> None:
        self.hang_up()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
