"""What is remembered of a VM between two connects: where it is, its address, its pinned host keys, our key on it.

One file of mode 0600 per name.  All of it can be asked for again, so a damaged file counts as none.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from remote_runtime.errors import StateError
from remote_runtime.providers.gce.finding import AtEnd, Vm
from remote_runtime.providers.gce.reach import Route
from remote_runtime.store import write_private


@dataclass(frozen=True)
class Known:
    """A VM as it was at the last login.

    ``host_keys`` are pinned for this numeric ``id``, vouched for by ``source``; empty: nothing vouched for them.
    ``key_until``: when our key on it expires; ``stops_at``: when the cloud stops it, or deletes it if ``at_end`` says
    so (0: never, or that is unknown).  Seconds since 1970.
    ``jump``: the jump host by way of which its internal address is reached, as it was named; empty: none.
    """

    project: str
    zone: str
    id: str
    user: str
    route: Route
    address: str
    key: str
    key_until: float
    host_keys: tuple[str, ...] = ()
    source: str = ""
    stops_at: float = 0.0
    jump: str = ""
    at_end: AtEnd = "stop"


class Memory:
    """The VMs of this user of this host.  Writing may raise :class:`StateError`."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "gce"

    @property
    def key(self) -> Path:
        """Our own private key; the public part is beside it."""
        return self._directory / "key"

    @property
    def accepted_host_keys(self) -> Path:
        """The known_hosts file of the keys that a person accepted."""
        return self._directory / "known_hosts"

    def load(self, name: str) -> Known | None:
        """What is known of the VM of that name, or None."""
        try:
            return parse(self._path(name).read_bytes())
        except (OSError, ValueError):
            return None

    def save(self, name: str, known: Known) -> None:
        """Remember this in place of what was known."""
        write_private(self._path(name), json.dumps(dataclasses.asdict(known), indent=1).encode())

    def note_end(self, vm: Vm, *, over: bool = False) -> None:
        """Remember when the cloud ends this VM, if it is the one that is known; ``over``: it does not run any more."""
        known = self.load(vm.name)
        ends = 0.0 if over or vm.status != "RUNNING" else vm.ends
        if known and known.id == vm.id and (known.stops_at, known.at_end) != (ends, vm.at_end):
            self.save(vm.name, dataclasses.replace(known, stops_at=ends, at_end=vm.at_end))

    def forget(self, name: str) -> None:
        """Forget the VM of that name, if it is known."""
        with suppress(FileNotFoundError):
            try:
                self._path(name).unlink()
            except PermissionError as error:
                raise StateError(
                    f"Can't remove {self._path(name)}: {error.strerror}", hint="Check its owner and mode."
                ) from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{quote(name, safe='')}.json"


def parse(content: bytes) -> Known:
    """Read what :meth:`Memory.save` wrote.

    Raises :class:`ValueError` if it is damaged, or of another version.
    """
    values: Any = json.loads(content)
    fields = {field.name: field for field in dataclasses.fields(Known)}
    if not isinstance(values, dict) or not values.keys() <= fields.keys():
        raise ValueError("not a description of a VM")
    for name, value in values.items():
        wanted = {"float": (int, float), "tuple[str, ...]": list}.get(str(fields[name].type), str)
        if not isinstance(value, cast(type, wanted)):
            raise ValueError(f"{name} has the wrong type")
    if values.get("route") not in ("external", "internal", "iap"):
        raise ValueError("no such route")
    if values.get("at_end", "stop") not in ("stop", "delete"):
        raise ValueError("no such end")
    values["host_keys"] = tuple(map(str, values.get("host_keys", ())))
    try:
        return Known(**values)
    except TypeError as error:
        raise ValueError("something is missing") from error
