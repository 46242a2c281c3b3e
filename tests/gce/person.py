"""Somebody who logs in to VMs of the stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_runtime import keys, ssh
from remote_runtime._threads import Deadline
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.model import Endpoint, Identity, Pinned
from tests.gce.cloud import Vm

PATIENCE = 20.0


class Person:
    """Somebody with a key."""

    def __init__(self, directory: Path) -> None:
        private, self.public = keys.generate("ada")
        self.key = directory / "ada"
        self.key.touch(mode=0o600)
        self.key.write_bytes(private)

    def metadata(self, **more: str) -> dict[str, str]:
        """Of a VM that lets her in and tells its host keys."""
        return {"ssh-keys": f"ada:{self.public}", "enable-guest-attributes": "TRUE", **more}

    def run(self, vm: Vm, command: str, *, user: str = "ada", host: str = "") -> str:
        """Log in, with the host key that the VM published, and run a command; its output."""
        pins = [f"{kind} {value}" for (space, kind), value in vm.guest_attributes.items() if space == "hostkeys"]
        trust = Pinned(tuple(pins), "guest attributes")
        endpoint = Endpoint(host or vm.address, user, trust, identities=(Identity(self.key),))
        deadline = Deadline(PATIENCE)
        with ssh.connect(endpoint, ask=None, on_event=lambda event: None, deadline=deadline) as connection:
            with connection.execute(command, deadline) as process:
                return b"\n".join(process.lines()).decode()

    def is_refused(self, vm: Vm, *, user: str = "ada") -> str:
        """The code of the error that a login ends with."""
        with pytest.raises(RemoteRuntimeError) as error:
            self.run(vm, "true", user=user)
        return error.value.code
