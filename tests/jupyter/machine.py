"""A machine one has: a real sshd whose commands find the test environment's Jupyter, known by an ssh_config alias."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from remote_runtime import bootstrap
from remote_runtime._threads import Deadline
from remote_runtime.events import Event
from remote_runtime.model import ServerOptions
from remote_runtime.settings import Settings
from remote_runtime.ssh import connect
from tests.openssh import Sshd, run_sshd

ALIAS = "trainer"
PATH_WITH_JUPYTER = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])


@dataclass(frozen=True)
class Machine:
    """The machine, and how a user of this host knows it."""

    sshd: Sshd

    @property
    def home(self) -> Path:
        return self.sshd.home

    def introduce(self, home: Path) -> None:
        """Write the ``~/.ssh`` of a user who has logged in to this machine before."""
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        endpoint = self.sshd.endpoint()
        (directory / "config").write_text(
            f"Host {ALIAS}\n"
            f"  HostName {endpoint.host}\n"
            f"  Port {endpoint.port}\n"
            f"  User {endpoint.user}\n"
            f"  IdentityFile {endpoint.identities[0].key}\n"
            f"  UserKnownHostsFile {directory / 'known_hosts'}\n"
        )
        known = (f"[{endpoint.host}]:{endpoint.port} {key}\n" for key in self.sshd.files.host_keys)
        (directory / "known_hosts").write_text("".join(known))

    def start_jupyter(self) -> None:
        """Let the server run there: whoever logs in to this home adopts it."""
        with connect(self.sshd.endpoint(), ask=None, on_event=_ignore, deadline=Deadline(60)) as connection:
            bootstrap.ensure_server(
                connection, ServerOptions(), token="", restart=True, on_event=_ignore, deadline=Deadline(60)
            )

    def stop_jupyter(self) -> None:
        """Stop the server that runs there, if one does."""
        with connect(self.sshd.endpoint(), ask=None, on_event=_ignore, deadline=Deadline(30)) as connection:
            bootstrap.stop_server(connection, Deadline(30))


def _ignore(event: Event) -> None:
    """Nobody listens."""


@contextmanager
def machine_with_jupyter(directory: Path, path: str = PATH_WITH_JUPYTER) -> Iterator[Machine]:
    """Such a machine, for as long as the block lasts; its Jupyter, found on ``path``, is stopped at the end."""
    with run_sshd(directory, environment={"PATH": path}) as sshd:
        machine = Machine(sshd)
        try:
            yield machine
        finally:
            machine.stop_jupyter()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One for all tests of a module: its Jupyter goes on from test to test, as a VM's does from connect to connect."""
    with machine_with_jupyter(tmp_path_factory.mktemp("machine") / "sshd") as machine:
        yield machine


@pytest.fixture
def user(machine: Machine, settings: Settings) -> Settings:
    """The settings of somebody who has logged in to it before."""
    machine.introduce(settings.home)
    return settings
