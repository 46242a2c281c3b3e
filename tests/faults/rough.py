"""Machines that are not as they should be: SSH servers in a mount namespace, with accounts and file systems of its own.

Nothing of it is seen outside, and all of it is gone with the last process in there.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.jupyter.machine import PATH_WITH_JUPYTER
from tests.openssh import USER, Option, Sshd, run_sshd
from tests.tools import need

UID = 64123
"""The number of the account ``ada``."""

Mount = Sequence[str]
"""The arguments of one call of ``mount``."""


@dataclass(frozen=True)
class Accounts:
    """The system's accounts with one changed, or added: ``name``, with that home and login shell.

    The account ``ada`` is not root.  ``password`` is as in ``/etc/shadow``.
    """

    name: str = USER
    home: str = ""
    shell: str = "/bin/sh"
    password: str = "*"

    def write(self, directory: Path) -> list[Mount]:
        """Write them into ``directory``; the mounts by which they are the system's."""
        uid = 0 if self.name == "root" else UID
        others = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[0] != self.name]
        written = {
            "passwd": [f"{self.name}:x:{uid}:{uid}::{self.home}:{self.shell}", *others],
            "shadow": [f"{self.name}:{self.password}:20000:0:99999:7:::", "sshd:*:20000:0:99999:7:::"],
        }
        for name, lines in written.items():
            (directory / name).touch(mode=0o600 if name == "shadow" else 0o644)
            (directory / name).write_text("\n".join(lines) + "\n")
        return [("--bind", str(directory / name), f"/etc/{name}") for name in written]


class StartRough(Protocol):
    """What the fixture ``rough`` gives.

    The account is described as in :class:`Accounts`, ``shell`` by its path, or by the name
    of a program and of its package.  Its home
    is the server's scratch home; ``home`` is another place where that appears.  The ``mounts`` are made before the
    server starts, in their order.
    """

    def __call__(
        self,
        *mounts: Mount,
        account: str = USER,
        shell: str = "sh",
        password: str = "*",
        home: str = "",
        environment: Mapping[str, str] | None = None,
        **options: Option,
    ) -> Sshd: ...


@pytest.fixture
def rough(tmp_path: Path) -> Iterator[StartRough]:
    """Start any number of such servers, which end with the test."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root can make mount namespaces")
    with ExitStack() as running:

        def start(
            *mounts: Mount,
            account: str = USER,
            shell: str = "sh",
            password: str = "*",
            home: str = "",
            environment: Mapping[str, str] | None = None,
            **options: Option,
        ) -> Sshd:
            count = len(list(tmp_path.glob("rough-*")))
            directory, etc = tmp_path / f"rough-{count}", tmp_path / f"etc-{count}"
            etc.mkdir()
            scratch = str(directory / "home")
            program = shell if shell.startswith("/") else need(shell, shell)
            accounts = Accounts(account, home or scratch, program, password)
            moved = [("--bind", scratch, home)] if home else []
            server = run_sshd(
                directory,
                environment={"PATH": PATH_WITH_JUPYTER, "HOME": home or scratch, **(environment or {})},
                enter=entering([*moved, *accounts.write(etc), *mounts]),
                **{**(_keys_by_root(directory) if account != USER else {}), **options},
            )
            return running.enter_context(server)

        yield start


def _keys_by_root(directory: Path) -> dict[str, Option]:
    """Options for accounts that can't read in ``directory``."""
    return {
        "AuthorizedKeysFile": "none",
        "AuthorizedKeysCommand": f"/bin/cat {directory / 'authorized_keys'}",
        "AuthorizedKeysCommandUser": "root",
    }


def entering(mounts: Sequence[Mount]) -> tuple[str, ...]:
    """The command that makes these mounts in a namespace of its own, and becomes what follows it."""
    need("unshare", "util-linux")
    lines = [f"{shlex.join(['mount', *mount])} || exit" for mount in mounts]
    return ("unshare", "--mount", "sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh")
