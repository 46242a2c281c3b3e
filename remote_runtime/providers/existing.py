"""Provider ``ssh``: a machine that one has already, reached as ssh_config says."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import partial
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError
from remote_runtime.events import EventSink, log_event
from remote_runtime.model import Endpoint, Instance, InstanceSpec
from remote_runtime.settings import Settings

HINTS = {
    "create": "Create it where it lives, or use --sandbox.",
    "start": "Start it where it lives.",
    "stop": "Stop it where it lives; without --machine only its Jupyter server is stopped.",
    "suspend": "Suspend it where it lives.",
    "resume": "Resume it where it lives.",
    "reset": "Reset it where it lives.",
    "delete": "To remove only what we put there: remote-runtime uninstall --provider ssh {name}",
}


class ExistingProvider:
    """Machines that somebody else creates, starts and stops; a name is an address or an alias of ssh_config."""

    name = "ssh"

    def __init__(self, settings: Settings, lookup: Callable[..., Endpoint]) -> None:
        self._settings = settings
        self._lookup = lookup

    def ensure(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:  # noqa: ARG002
        """The machine; whether it is there shows when it is logged in to."""
        return self.find(name)

    def find(
        self,
        name: str,
        deadline: Deadline | None = None,  # noqa: ARG002
        on_event: EventSink = log_event,  # noqa: ARG002
    ) -> Instance:
        """The machine, whose ``resolve`` reads ssh_config anew each time."""
        return Instance(name, self.name, "unknown", partial(self._resolve, name))

    def list(self, deadline: Deadline | None = None) -> builtins.list[Instance]:  # noqa: ARG002
        """None: ssh_config's aliases are not a list of machines."""
        return []

    def create(self, spec: InstanceSpec, deadline: Deadline, on_event: EventSink) -> Instance:  # noqa: ARG002
        """Not supported."""
        raise self.refusal("create", spec.name)

    def creation_request(self, spec: InstanceSpec, deadline: Deadline) -> dict[str, Any]:  # noqa: ARG002
        """Not supported."""
        raise self.refusal("create", spec.name)

    def start(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:  # noqa: ARG002
        """Not supported."""
        raise self.refusal("start", name)

    def stop(self, name: str, deadline: Deadline) -> None:  # noqa: ARG002
        """Not supported."""
        raise self.refusal("stop", name)

    def change(self, verb: str, name: str, deadline: Deadline) -> Instance:  # noqa: ARG002
        """Not supported."""
        raise self.refusal(verb, name)

    def delete(self, name: str, deadline: Deadline, *, keep_disks: bool = False) -> None:  # noqa: ARG002
        """Not supported."""
        raise self.refusal("delete", name)

    def forget(self, name: str, deadline: Deadline) -> None:
        """Nothing: who is let in is its owner's business."""

    def refusal(self, verb: str, name: str) -> InstanceError:
        """Why it can't do any of these."""
        hint = HINTS[verb].format(name=name)
        return InstanceError(
            f"Can't {verb} the machine {name}: it is known by its SSH address alone", hint=hint, code="not_supported"
        )

    def _resolve(self, name: str, deadline: Deadline) -> Endpoint:
        return self._lookup(name, self._settings, deadline=deadline)
