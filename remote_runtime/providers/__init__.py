"""Providers find, create, start, stop and delete machines.

There are three: ``gce`` for VMs of Google Compute Engine, ``ssh`` for a machine that one has, and ``sandbox`` for a
scratch home on this very machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, UsageError
from remote_runtime.events import EventSink, log_event
from remote_runtime.model import Endpoint, Instance, InstanceSpec
from remote_runtime.settings import Settings

if TYPE_CHECKING:
    from remote_runtime.providers.gce.options import GceOptions

PROVIDERS = ("gce", "ssh", "sandbox")
USUAL_PROVIDER = "gce"
"""Whose machine a bare name means."""

Change = Literal["suspend", "resume", "reset"]


class Provider(Protocol):
    """What every provider can be asked.  A verb that it can't do raises InstanceError with code ``not_supported``."""

    name: str

    def ensure(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:
        """Find the machine; make or start it where that costs nothing.  It can be logged in to when this returns."""

    def find(self, name: str, deadline: Deadline | None = None, on_event: EventSink = log_event) -> Instance | None:
        """The machine as it is now, or None if there is none of that name.

        ``on_event`` hears what happens when it is then logged in to.
        """

    def list(self, deadline: Deadline | None = None) -> list[Instance]:
        """All machines that this provider can enumerate, by name."""

    def create(self, spec: InstanceSpec, deadline: Deadline, on_event: EventSink) -> Instance:
        """Make a machine and start it; InstanceError with code ``instance_exists`` if the name is taken.

        Its progress is told as that of the step ``machine``, as is that of :meth:`start`.
        """

    def creation_request(self, spec: InstanceSpec, deadline: Deadline) -> dict[str, Any]:
        """The request by which :meth:`create` would make the machine, as plain values; nothing is made."""

    def start(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:
        """Start the machine; nothing happens if it runs."""

    def stop(self, name: str, deadline: Deadline) -> None:
        """Stop the machine and all that runs on it; what it keeps on disk stays."""

    def change(self, verb: Change, name: str, deadline: Deadline) -> Instance:
        """Suspend the machine, resume it, or reset it as by its reset button."""

    def delete(self, name: str, deadline: Deadline, *, keep_disks: bool = False) -> None:
        """Stop the machine and remove it, with all that it holds unless ``keep_disks``."""

    def forget(self, name: str, deadline: Deadline) -> None:
        """Take back what this provider did to have us let in, and what it remembers of the machine."""

    def refusal(self, verb: str, name: str) -> InstanceError | None:
        """The error of one of the verbs above, by its name, if this provider can't do it with any machine."""


def load_provider(
    name: str, settings: Settings, *, lookup: Callable[..., Endpoint], gce: GceOptions | None = None
) -> Provider:
    """The provider called ``name``.

    ``lookup`` is called as ``lookup(target, settings, deadline=deadline)`` by the provider ``ssh``: it is
    :func:`remote_runtime.ssh.config.lookup`, perhaps with the user or the host key bound to it.  ``gce`` is for the
    provider of that name.
    Raises :class:`UsageError` for a name that is none.
    """
    if name == "sandbox":
        from remote_runtime.providers.sandbox import SandboxProvider

        return SandboxProvider(settings)
    if name == "ssh":
        from remote_runtime.providers.existing import ExistingProvider

        return ExistingProvider(settings, lookup)
    if name == "gce":
        from remote_runtime.providers.gce import GceOptions, GceProvider

        return GceProvider(settings, gce or GceOptions())
    close = difflib.get_close_matches(name, PROVIDERS, 1)
    raise UsageError(
        f"There is no provider {name!r}",
        hint=f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(PROVIDERS)}.",
        code="unknown_provider",
    )
