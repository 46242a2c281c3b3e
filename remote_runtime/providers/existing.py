"""Provider ``ssh``: a machine that one has already, reached as ssh_config says."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError
from remote_runtime.events import EventSink
from remote_runtime.model import Endpoint, Instance, InstanceSpec
from remote_runtime.settings import Settings


class ExistingProvider:
    """Machines that somebody else creates, starts and stops; a name is an address or an alias of ssh_config."""

    name = "ssh"

    def __init__(self, settings: Settings, lookup: Callable[..., Endpoint]) -> None:
        self._settings = settings
        self._lookup = lookup

    def ensure(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:  # noqa: ARG002
        """The machine; whether it is there shows when it is logged in to."""
        return self.find(name)

    def find(self, name: str) -> Instance:
        """The machine, whose ``resolve`` reads ssh_config anew each time."""
        return Instance(name, self.name, "unknown", partial(self._resolve, name))

    def list(self) -> builtins.list[Instance]:
        """None: ssh_config's aliases are not a list of machines."""
        return []

    def create(self, spec: InstanceSpec, deadline: Deadline) -> Instance:  # noqa: ARG002
        """Not supported."""
        self._refuse("create", spec.name, "Create it where it lives, or use --sandbox.")

    def start(self, name: str, deadline: Deadline) -> Instance:  # noqa: ARG002
        """Not supported."""
        self._refuse("start", name, "Start it where it lives.")

    def stop(self, name: str, deadline: Deadline) -> None:  # noqa: ARG002
        """Not supported."""
        self._refuse("stop", name, "Stop it where it lives; without --machine only its Jupyter server is stopped.")

    def delete(self, name: str, deadline: Deadline) -> None:  # noqa: ARG002
        """Not supported."""
        self._refuse("delete", name, f"To remove only what we put there: remote-runtime uninstall {name}")

    def _resolve(self, name: str, deadline: Deadline) -> Endpoint:
        return self._lookup(name, self._settings, deadline=deadline)

    def _refuse(self, verb: str, name: str, hint: str) -> NoReturn:
        raise InstanceError(
            f"Can't {verb} the machine {name}: it is known by its SSH address alone", hint=hint, code="not_supported"
        )
