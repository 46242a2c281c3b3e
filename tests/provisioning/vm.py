"""A VM of the stand-in that is prepared by hand: the script run as the agent does it, users with their own rights."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from tests.gce.cloud import Cloud, Vm
from tests.gce.runtime import give_jupyter
from tests.jupyter.local import LocalProcess, LocalShell

SECONDS = 240
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPT = "/var/tmp/startup-script"
PLACES = ("/etc", "/home", "/opt", "/root", "/run", "/tmp", "/usr/local", "/var/log")
"""Where a preparation may leave something."""


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when it holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


class Prepared:
    """The VM, its root, and its users."""

    def __init__(self, cloud: Cloud, vm: Vm) -> None:
        self.cloud = cloud
        self.vm = vm
        self.uids: set[int] = set()
        cloud.wait_for_boot(vm)

    @property
    def root(self) -> Path:
        """Its root directory, from outside."""
        assert self.vm.guest
        return self.vm.guest.root

    def enter(self, user: str = "root", **environ: str) -> list[str]:
        """The command that becomes what follows it in there, as that user, with nothing else in the environment."""
        init = self.root.parent.name
        enter = ["nsenter", "--target", init, "--mount", "--pid", "--uts", "--net", "--root", "--wd", "--"]
        if user == "root":
            return [*enter, "env", "-i", f"PATH={PATH}", *(f"{name}={value}" for name, value in environ.items())]
        environ = {"HOME": f"/home/{user}", "USER": user, "SHELL": "/bin/bash", **environ}
        changing = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [*enter, *changing, "env", "-i", f"PATH={PATH}", *(f"{name}={value}" for name, value in environ.items())]

    def give_jupyter(self) -> None:
        """Put the tests' own Jupyter where all users find it, and let them read it."""
        give_jupyter(self.vm)
        for directory in Path(sys.executable).resolve().parents:
            if directory.stat().st_mode & 0o005 == 0o005:
                continue
            if directory.stat().st_dev != Path("/").stat().st_dev:
                pytest.skip(f"{directory} is not copied on write in there")
            self.run("chmod", "a+rx", str(directory))

    def run(
        self, *argv: str, user: str = "root", check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in there to its end."""
        command = [*self.enter(user, **environ), *argv]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout
        return done

    def begin(self, script: str) -> subprocess.Popen[str]:
        """Start the startup script: as root, without HOME, its output in a pipe."""
        path = self.root / SCRIPT.lstrip("/")
        path.write_text(script)
        path.chmod(0o755)
        argv = [*self.enter(), SCRIPT]
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/"
        )

    def prepare(self, script: str, status: int = 0) -> str:
        """Run the startup script to its end; what it said."""
        with self.begin(script) as process:
            said, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == status, f"{said}\n{self.log()}"
        return said

    def log(self) -> str:
        """What the script did."""
        return (self.root / "var/log/remote-runtime.log").read_text()

    def add_user(self, name: str, uid: int) -> None:
        """An ordinary user."""
        self.uids.add(uid)
        self.run("groupadd", "--gid", str(uid), name)
        self.run("useradd", "--create-home", "--uid", str(uid), "--gid", str(uid), "--shell", "/bin/bash", name)

    def state(self) -> tuple[str, str]:
        """The guest attributes that tell how far it is: state and step."""
        with self.cloud.world.lock:
            found = self.vm.guest_attributes
            return found.get(("remote-runtime", "state"), ""), found.get(("remote-runtime", "step"), "")

    def report(self) -> dict[str, Any]:
        """What the script itself says of its state."""
        found: dict[str, Any] = json.loads((self.root / "run/remote-runtime/preparation.json").read_text())
        return found

    def listeners(self) -> set[tuple[str, int]]:
        """Where the machine's ordinary users listen."""
        table = Path(f"/proc/{self.root.parent.name}/net/tcp").read_text().splitlines()[1:]
        table += Path(f"/proc/{self.root.parent.name}/net/tcp6").read_text().splitlines()[1:]
        found = set()
        for row in (line.split() for line in table):
            address, port = row[1].split(":")
            if row[3] == "0A" and int(row[7]) in self.uids:
                number = bytes.fromhex(address)
                ip = socket.inet_ntoa(number[::-1]) if len(number) == 4 else f"[{address}]"
                found.add((ip, int(port, 16)))
        return found

    def record(self, user: str) -> dict[str, Any]:
        """What is written down of that user's server; empty if nothing is."""
        for path in self.root.glob(f"home/{user}/.remote-runtime/machines/*/server.json"):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        return {}

    @contextmanager
    def start(self, *argv: str, user: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a program in there as systemd does: :meth:`word_to_systemd` is what it tells."""
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with self._words:
            self._words.bind(str(self.root / "tmp" / "notify"))
            self.run("chmod", "666", "/tmp/notify")
            command = [*self.enter(user, NOTIFY_SOCKET="/tmp/notify"), *argv]
            try:
                with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
                    yield process
            finally:
                self.run("rm", "/tmp/notify")

    def word_to_systemd(self) -> str:
        self._words.settimeout(SECONDS)
        return self._words.recv(100).decode()

    def inventory(self) -> set[str]:
        """All files where a preparation may leave some; what belongs to the test itself left out."""
        found = self.run("find", *PLACES, "-xdev", "-not", "-path", "/tmp/.*").stdout.splitlines()
        return {path for path in found if not path.startswith("/root/.cache")}

    def executor(self, user: str, **environ: str) -> InVm:
        """What a connection of that user is to the bootstrap."""
        return InVm(self.enter(user, **environ))


class InVm:
    """An Executor: the user's login shell in there."""

    def __init__(self, enter: list[str]) -> None:
        self._shell = LocalShell(Path("/"), path=PATH)
        self._enter = enter

    def execute(self, line: str, deadline: Deadline) -> LocalProcess:
        return LocalProcess([*self._enter, "/bin/sh", "-c", line], self._shell, deadline)
