"""The guest agent at work on a running system: accounts for whom metadata or OS Login names, with their keys."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.gce.cloud import agent, oslogin

if TYPE_CHECKING:
    from tests.gce.cloud.vm import Vm
    from tests.gce.cloud.world import World


FIRST_NUMBER = 64200
"""The uid of the first account that is not root's."""


class Accounts:
    """The accounts that the agent manages below ``root``, the system's root directory as seen from outside."""

    def __init__(self, world: World, vm: Vm, root: Path) -> None:
        self._world = world
        self._vm = vm
        self._root = root
        self._managed: set[str] = set()

    def apply(self) -> float | None:
        """Make the accounts what they should be now; seconds until a key expires.  The world's lock is held."""
        expiry = None
        if self._vm.enabled("enable-oslogin"):
            wanted = oslogin.accounts(self._world)
        else:
            now = time.time()
            keys = agent.keys(self._vm.metadata, self._world.common_metadata)
            wanted = agent.per_user(keys, now)
            expiry = agent.next_expiry(keys, now)
        for user in {*wanted, *self._managed}:
            with suppress(FileNotFoundError):  # it was switched off this moment
                self._set_keys(user, wanted.get(user, ()))
        self._managed |= set(wanted)
        return expiry

    def _set_keys(self, user: str, lines: tuple[str, ...]) -> None:
        passwd = self._root / "etc" / "passwd"
        known = passwd.read_text()
        if f"\n{user}:" not in "\n" + known:
            number = FIRST_NUMBER + known.count("\n") if self._world.own_rights else 0
            known = f"{known}{user}:x:{number}:{number}::/home/{user}:/bin/bash\n"
            passwd.write_text(known)
        home = self._root / "home" / user
        home.mkdir(mode=0o755, exist_ok=True)
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        file_name = directory / "authorized_keys"
        before = file_name.read_text() if file_name.exists() else ""
        after = agent.authorized_keys(before, lines)
        if after:
            file_name.write_text(after)
            file_name.chmod(0o600)
        else:
            file_name.unlink(missing_ok=True)
        number = next(int(line.split(":")[2]) for line in known.splitlines() if line.startswith(f"{user}:"))
        for path in (home, directory, *directory.iterdir()):
            os.chown(path, number, number)
