"""Providers find, create, start, stop and delete machines.

There are two: ``ssh`` for a machine that one has, and ``sandbox`` for a scratch home on this very machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Protocol

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, UsageError
from remote_runtime.events import EventSink
from remote_runtime.model import Endpoint, Instance, InstanceSpec
from remote_runtime.settings import Settings

PROVIDERS = ("sandbox", "ssh")


class Provider(Protocol):
    """What every provider can be asked.  A verb that it can't do raises InstanceError with code ``not_supported``."""

    name: str

    def ensure(self, name: str, deadline: Deadline, on_event: EventSink) -> Instance:
        """Find the machine; make or start it where that costs nothing.  It can be logged in to when this returns."""

    def find(self, name: str) -> Instance | None:
        """The machine as it is now, or None if there is none of that name."""

    def list(self) -> list[Instance]:
        """All machines that this provider can enumerate, by name."""

    def create(self, spec: InstanceSpec, deadline: Deadline) -> Instance:
        """Make a machine and start it; InstanceError with code ``instance_exists`` if the name is taken."""

    def start(self, name: str, deadline: Deadline) -> Instance:
        """Start the machine; nothing happens if it runs."""

    def stop(self, name: str, deadline: Deadline) -> None:
        """Stop the machine and all that runs on it; what it keeps on disk stays."""

    def delete(self, name: str, deadline: Deadline) -> None:
        """Stop the machine and remove it with all that it holds."""


def load_provider(name: str, settings: Settings, *, lookup: Callable[..., Endpoint]) -> Provider:
    """The provider called ``name``.

    ``lookup`` is called as ``lookup(target, settings, deadline=deadline)`` by the provider ``ssh``: it is
    :func:`remote_runtime.ssh.config.lookup`, perhaps with the user or the host key bound to it.
    Raises :class:`UsageError` for a name that is none, and :class:`InstanceError` with code ``provider_unavailable``
    for ``gce``, which this version lacks.
    """
    if name == "sandbox":
        from remote_runtime.providers.sandbox import SandboxProvider

        return SandboxProvider(settings)
    if name == "ssh":
        from remote_runtime.providers.existing import ExistingProvider

        return ExistingProvider(settings, lookup)
    if name == "gce":
        raise InstanceError(
            "Google Compute Engine is not in this version of remote-runtime",
            hint="Use a machine that you can log in to (user@host, or --provider ssh ALIAS), or --sandbox.",
            code="provider_unavailable",
        )
    close = difflib.get_close_matches(name, PROVIDERS, 1)
    raise UsageError(
        f"There is no provider {name!r}",
        hint=f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(PROVIDERS)}.",
        code="unknown_provider",
    )
