"""Connecting to a machine whose startup script has yet to install Python."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from remote_runtime import bootstrap, preparation
from remote_runtime._threads import Deadline
from remote_runtime.errors import GuestError, TimedOut
from remote_runtime.events import Event, StepProgress
from remote_runtime.model import ServerInfo, ServerOptions
from remote_runtime.ssh import Connection, connect
from tests.openssh import StartSshd

WAITING = StepProgress(bootstrap.STEP, "Waiting for the VM's startup script to install Python")
PYTHON = shlex.quote(sys.executable)

WHOLE = f"""#!/bin/sh
exec {PYTHON} "$@"
"""
# As when the interpreter has been unpacked, and not yet all of its library.  The next who runs it finds the whole.
HALF = f"""#!/bin/sh
/bin/mv "$0.whole" "$0"
exec {PYTHON} -I -S -c 'import sys; sys.modules["json"] = None; exec(sys.argv[1])' "$4"
"""


class Machine:
    """One that is logged in to: its Jupyter is in the home, and ``python3`` where the PATH leads, once it is there.

    ``on_wait`` is called when somebody is told of waiting.
    """

    def __init__(self, connection: Connection, commands: Path) -> None:
        self.connection = connection
        self.told: list[Event] = []
        self.on_wait: Callable[[], None] = lambda: None
        self._python = commands / "python3"

    def install(self, *, by_halves: bool = False) -> None:
        """Bring a Python; ``by_halves``: the first who runs it finds half of it."""
        for path, text in ((self._python.with_suffix(".whole"), WHOLE), (self._python, HALF if by_halves else WHOLE)):
            path.write_text(text)
            path.chmod(0o755)

    def prepare(self, deadline: Deadline, *, looks: int) -> ServerInfo:
        """Do what a link does with its connection; a startup script is expected at the first ``looks`` of it alone."""
        expected = iter([True] * looks)
        prepare = preparation.Preparation(ServerOptions(), "", False, lambda: next(expected, False), self._hear)
        return prepare(self.connection, deadline)

    def _hear(self, event: Event) -> None:
        self.told.append(event)
        if event == WAITING:
            self.on_wait()


@pytest.fixture
def machine(start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Without Python at first."""
    monkeypatch.setattr(preparation, "LOOK_SECONDS", 0.05)
    commands = tmp_path / "commands"
    commands.mkdir()
    sshd = start_sshd(environment={"PATH": str(commands)})
    (sshd.home / "venv").symlink_to(Path(sys.executable).parent.parent)
    with connect(sshd.endpoint(), ask=None, on_event=print, deadline=Deadline(30)) as connection:
        yield Machine(connection, commands)
        with suppress(GuestError):
            bootstrap.stop_server(connection, Deadline(60))


@pytest.mark.parametrize("by_halves", [False, True])
def test_python_that_a_startup_script_installs_is_waited_for(machine: Machine, by_halves: bool) -> None:
    machine.on_wait = lambda: machine.install(by_halves=by_halves)
    server = machine.prepare(Deadline(60), looks=2 if by_halves else 1)
    assert server.port
    assert machine.told.count(WAITING) == 1


def test_no_longer_than_the_script_may_take_to_begin(machine: Machine) -> None:
    with pytest.raises(GuestError) as caught:
        machine.prepare(Deadline(60), looks=3)
    assert caught.value.code == "guest_python_missing"
    assert machine.told.count(WAITING) == 1


def test_without_such_a_script_it_is_an_error_at_once(machine: Machine) -> None:
    with pytest.raises(GuestError) as caught:
        machine.prepare(Deadline(60), looks=0)
    assert caught.value.code == "guest_python_missing"
    assert WAITING not in machine.told


def test_half_a_python_that_was_there_from_the_first_is_not_waited_for(machine: Machine) -> None:
    """Nothing says that more of it is to come."""
    machine.install(by_halves=True)
    with pytest.raises(GuestError) as caught:
        machine.prepare(Deadline(60), looks=1000)
    assert caught.value.code in bootstrap.HALF_A_PYTHON


@pytest.mark.parametrize("closed", [False, True])
def test_who_waits_keeps_to_the_deadline_and_can_be_interrupted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    monkeypatch.setattr(preparation, "LOOK_SECONDS", 60.0)
    deadline = Deadline(60 if closed else 2)
    closing = threading.Timer(0.2, deadline.cancel)
    machine.on_wait = closing.start if closed else machine.on_wait
    began = time.monotonic()
    with pytest.raises(TimedOut, match="install Python"):
        machine.prepare(deadline, looks=1000)
    assert time.monotonic() - began < 30
