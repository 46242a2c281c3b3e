"""A person at this host, who runs the command and reads what it says."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from remote_runtime.settings import Settings
from tests.cli.conftest import COMMAND, InTerminal, Running
from tests.faults.traces import Traces
from tests.leaks import strays
from tests.openssh import Sshd

TIMEOUT_SECONDS = 30.0
"""The --timeout of a command, unless the row gives its own."""

END_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended, as its user saw it; ``ready`` if its URL answered, ``told`` is all it said on the way.

    ``left`` is what it left behind where nothing of it belongs, on this computer and on the machines that are known.
    """

    status: int
    ready: bool
    code: str
    message: str
    hint: str
    told: str
    token: str
    seconds: float
    timeout: float
    left: tuple[str, ...] = ()


class Person:
    """Runs commands with a home and a state of their own; made by the fixture ``person``."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.home = settings.home
        self.through: tuple[str, ...] = ()  # a command that becomes each of ours, such as one that takes rights away
        self._directory = directory
        self._count = 0
        self._machines: dict[Path, None] = {}  # their homes, in order
        self._temporary = [directory / "tmp"]  # ours, then those of machines
        self._temporary[0].mkdir()

    def knows(self, sshd: Sshd, alias: str = "trainer", **options: str) -> str:
        """Have an entry for that server in ssh_config, and its host key in known_hosts; the alias.

        ``options`` are further lines of the entry, in ssh_config's spelling; an empty one leaves ours out.
        """
        self.watches(sshd.home, sshd.files.temporary)
        self.trusts(f"[127.0.0.1]:{sshd.port}", *sshd.files.host_keys)
        usual = {
            "HostName": "127.0.0.1",
            "Port": str(sshd.port),
            "IdentityFile": str(sshd.files.client_key),
            "IdentitiesOnly": "yes",
        }
        return self.configures(alias, **{**usual, **options})

    def configures(self, alias: str, **options: str) -> str:
        """Have an entry of these lines in ssh_config; the alias."""
        with self._ssh_file("config").open("a") as config:
            config.write(f"Host {alias}\n")
            config.writelines(f"  {name} {value}\n" for name, value in options.items() if value)
        return alias

    def trusts(self, name: str, *host_keys: str) -> None:
        """Have these keys in known_hosts, for the server of that name (``[host]:port``)."""
        with self._ssh_file("known_hosts").open("a") as known:
            known.writelines(f"{name} {key}\n" for key in host_keys)

    def _ssh_file(self, name: str) -> Path:
        directory = self.home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory / name

    def watches(self, home: Path, *temporary: Path) -> None:
        """Say what commands leave behind in that home of a machine, too, and in these temporary directories; ``knows``
        does so for its server's."""
        self._machines[home] = None
        self._temporary += temporary

    def connects(
        self,
        target: str,
        *arguments: str,
        timeout: float = TIMEOUT_SECONDS,
        clients: int = 1,
        **environment: str,
    ) -> Outcome:
        """What comes of ``connect``: when its URL has answered that many ``clients`` at once, Ctrl-C ends it.

        A name without ``@`` and ``:`` is an ssh_config alias.
        """
        named = [target] if "@" in target or ":" in target else ["--provider", "ssh", target]
        self._count += 1
        directory = self._directory / f"command-{self._count}"
        argv = ["connect", *named, "--port", "auto", "--timeout", f"{timeout:g}", "--json", *arguments]
        traces = self._traces()
        began = time.monotonic()
        with Running(directory, *argv, through=self.through, **self._environment(environment)) as running:
            ready = self._await(running, began + timeout + END_SECONDS)
            seconds = time.monotonic() - began
            if ready:
                with ThreadPoolExecutor(clients) as pool:
                    assert list(pool.map(_status, [ready["url"]] * clients)) == [200] * clients
                running.process.send_signal(signal.SIGINT)
            running.process.wait(END_SECONDS)
            outcome = _outcome(running.process.returncode, running.out, running.err, seconds, timeout)
        return dataclasses.replace(outcome, left=traces.left())

    def answers(self, alias: str, *dialogue: tuple[str, str], timeout: float = TIMEOUT_SECONDS) -> Outcome:
        """What comes of ``connect`` in a terminal, where the person waits for each prompt and types the answer."""
        argv = ["connect", "--provider", "ssh", alias, "--port", "auto", "--timeout", f"{timeout:g}", "--json"]
        traces = self._traces()
        began = time.monotonic()
        with InTerminal(*argv, **self._environment({"NO_COLOR": "1"})) as terminal:
            for number, (prompt, answer) in enumerate(dialogue):
                terminal.until(prompt)
                terminal.type(f"{answer}\r")
                terminal.shown = "" if number < len(dialogue) - 1 else terminal.shown
            status = terminal.ended(timeout + END_SECONDS)
            lines = terminal.shown.replace("\r\n", "\n").splitlines(keepends=True)
        out = "".join(line for line in lines if line.startswith("{"))
        err = "".join(line for line in lines if not line.startswith("{"))
        outcome = _outcome(status, out, err, time.monotonic() - began, timeout)
        return dataclasses.replace(outcome, left=traces.left())

    def runs(self, *arguments: str, timeout: float = TIMEOUT_SECONDS, **environment: str) -> Outcome:
        """What comes of any other command, or of a wrong one; it is run with ``--json``."""
        traces = self._traces()
        began = time.monotonic()
        done = subprocess.run(
            [*self.through, *COMMAND, *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **self._environment(environment)},
            timeout=timeout + END_SECONDS,
            check=False,
        )
        outcome = _outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - began, timeout)
        return dataclasses.replace(outcome, left=traces.left())

    def _environment(self, wanted: Mapping[str, str]) -> dict[str, str]:
        return {"TMPDIR": str(self._temporary[0]), **wanted}

    def _traces(self) -> Traces:
        return Traces(self.home, self._directory / "remote-runtime", self._machines, self._temporary)

    @staticmethod
    def _await(running: Running, end: float) -> dict[str, Any]:
        """The ready line; empty when the command ended without one."""
        while time.monotonic() < end:
            ended = running.process.poll() is not None
            for event in _events(running.out):
                if event["event"] == "ready":
                    return event
            if ended:
                return {}
            time.sleep(0.02)
        raise AssertionError(f"neither ready nor ended: {running.out}{running.err}")


def _status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=END_SECONDS) as answer:
        return int(answer.status)


def _outcome(status: int, out: str, err: str, seconds: float, timeout: float) -> Outcome:
    events = list(_events(out))
    ready: dict[str, Any] = next((event for event in events if event["event"] == "ready"), {})
    error: dict[str, Any] = next((event for event in events if event["event"] == "error"), {})
    on_the_way = [json.dumps(event, ensure_ascii=False) for event in events if event["event"] not in ("ready", "error")]
    return Outcome(
        status=status,
        ready=bool(ready) and not error,
        code=error.get("code", ""),
        message=error.get("message", ""),
        hint=error.get("hint", ""),
        told="\n".join([*on_the_way, err]),
        token=ready.get("token", ""),
        seconds=seconds,
        timeout=timeout,
    )


def _events(out: str) -> Iterator[dict[str, Any]]:
    whole, _, _ = out.rpartition("\n")
    for line in whole.splitlines():
        if line:
            yield json.loads(line)


@pytest.fixture
def person(settings: Settings, tmp_path: Path) -> Iterator[Person]:
    """Somebody with an empty home.  Jupyter servers in homes that the test made end with it."""
    yield Person(settings, tmp_path)
    for process in strays(tmp_path):
        with suppress(psutil.NoSuchProcess):
            if "jupyter_server" in process.cmdline():
                for one in [process, *process.children(recursive=True)]:
                    one.kill()
