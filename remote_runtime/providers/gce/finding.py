"""Which VM is meant, how it is, and what comes next for it.  Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from remote_runtime.errors import InstanceError, RemoteRuntimeError, UsageError
from remote_runtime.model import InstanceState, Question
from remote_runtime.providers.gce import metadata
from remote_runtime.providers.gce.spec import OWNER_LABEL
from remote_runtime.text import printable

Step = Literal["use", "wait", "start", "resume"]
AtEnd = Literal["stop", "delete"]

STEPS: Mapping[str, Step] = {
    "RUNNING": "use",
    "PENDING": "wait",
    "PROVISIONING": "wait",
    "STAGING": "wait",
    "REPAIRING": "wait",
    "STOPPING": "wait",
    "PENDING_STOP": "wait",
    "SUSPENDING": "wait",
    "DEPROVISIONING": "wait",
    "TERMINATED": "start",
    "STOPPED": "start",
    "SUSPENDED": "resume",
}
"""What has to be done in each state to have the machine running; a state that is new to us is waited out."""

_STATES: Mapping[str, InstanceState] = {
    "RUNNING": "running",
    "PENDING": "starting",
    "PROVISIONING": "starting",
    "STAGING": "starting",
    "STOPPING": "stopping",
    "PENDING_STOP": "stopping",
    "SUSPENDING": "stopping",
    "DEPROVISIONING": "stopping",
    "TERMINATED": "stopped",
    "STOPPED": "stopped",
    "SUSPENDED": "stopped",
}


@dataclass(frozen=True)
class Vm:
    """A VM as the API describes it (``raw``)."""

    project: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Its name, which is unique in its zone."""
        return str(self.raw.get("name", ""))

    @property
    def zone(self) -> str:
        """The name of its zone."""
        return str(self.raw.get("zone", "")).rpartition("/")[2]

    @property
    def id(self) -> str:
        """The numeric id: a VM made anew under the same name has another one."""
        return str(self.raw.get("id", ""))

    @property
    def status(self) -> str:
        """The API's word for its state: a key of :data:`STEPS`, unless it is new to us."""
        return str(self.raw.get("status", ""))

    @property
    def state(self) -> InstanceState:
        """The status in the words that all providers share."""
        return _STATES.get(self.status, "unknown")

    @property
    def metadata(self) -> dict[str, str]:
        """Its own metadata, without the project's."""
        return metadata.items(self.raw)

    @property
    def nic(self) -> Mapping[str, Any]:
        """The first network interface."""
        return next(iter(self.raw.get("networkInterfaces") or [{}]))

    @property
    def external(self) -> str:
        """The first external address; empty if there is none (now)."""
        for nic in self.raw.get("networkInterfaces") or []:
            for config in nic.get("accessConfigs") or []:
                if config.get("natIP"):
                    return str(config["natIP"])
            for config in nic.get("ipv6AccessConfigs") or []:
                if config.get("externalIpv6"):
                    return str(config["externalIpv6"])
        return ""

    @property
    def internal(self) -> str:
        """The address of the first network interface in its network; empty if there is none (now)."""
        return str(self.nic.get("networkIP") or self.nic.get("ipv6Address") or "")

    @property
    def owner(self) -> str:
        """Who had it made, if its label says so."""
        return str((self.raw.get("labels") or {}).get(OWNER_LABEL, ""))

    @property
    def started(self) -> float | None:
        """When it was last started (or made), in seconds since 1970; None if that can't be told."""
        return moment(self.raw.get("lastStartTimestamp") or self.raw.get("creationTimestamp"))

    @property
    def created(self) -> float | None:
        """When it was made, in seconds since 1970; None if that can't be told."""
        return moment(self.raw.get("creationTimestamp"))

    @property
    def detail(self) -> str:
        """One line for people."""
        kind = str(self.raw.get("machineType", "")).rpartition("/")[2]
        return ", ".join(filter(None, [kind, self.zone, self.external or self.internal]))

    @property
    def run_limit(self) -> int | None:
        """For how many seconds after a start the cloud lets it run; None: for ever."""
        limit = ((self.raw.get("scheduling") or {}).get("maxRunDuration") or {}).get("seconds")
        return int(limit) if limit else None

    @property
    def ends(self) -> float:
        """When the cloud ends the run that began last, in seconds since 1970; 0.0: never, or that can't be told."""
        if self.run_limit is None or self.started is None:
            return 0.0
        planned = (self.raw.get("resourceStatus") or {}).get("scheduling") or {}
        at = moment(planned.get("terminationTimestamp")) or 0.0
        return at if at > self.started else self.started + self.run_limit

    @property
    def at_end(self) -> AtEnd:
        """What the cloud does with it when that time is over."""
        action = (self.raw.get("scheduling") or {}).get("instanceTerminationAction")
        return "delete" if action == "DELETE" else "stop"


@dataclass(frozen=True)
class Found:
    """What a look through zones gave: the VMs, and the zones that could not be asked."""

    vms: tuple[Vm, ...] = ()
    unreachable: tuple[str, ...] = ()


def read_page(project: str, page: Mapping[str, Any]) -> Found:
    """One page of ``aggregatedList``."""
    vms: list[Vm] = []
    silent: list[str] = []
    for scope, content in sorted((page.get("items") or {}).items()):
        vms += [Vm(project, raw) for raw in content.get("instances") or []]
        if (content.get("warning") or {}).get("code") == "UNREACHABLE":
            silent.append(scope.removeprefix("zones/"))
    return Found(tuple(vms), tuple(silent))


def joined(pages: Iterable[Found]) -> Found:
    """All pages as one."""
    found = list(pages)
    return Found(
        tuple(vm for page in found for vm in page.vms),
        tuple(dict.fromkeys(zone for page in found for zone in page.unreachable)),
    )


def choose(name: str, found: Found, zones: Sequence[str], *, last_zone: str = "", ask: Question | None) -> Vm | None:
    """The VM called ``name``, or None if there surely is none.

    ``zones``: only these count, if there are any.  ``last_zone``: where it was the last time, which decides between
    several.  Raises :class:`InstanceError` (``zones_unreachable``) if it may be where nobody could look, and
    :class:`UsageError` (``ambiguous_name``) if there are several and nobody says which.
    """
    hits = [vm for vm in found.vms if vm.name == name and (not zones or vm.zone in zones)]
    silent = [zone for zone in found.unreachable if not zones or zone in zones]
    if not hits and silent:
        raise InstanceError(
            f"{name} was not found, but {len(silent)} zones could not be asked: {', '.join(silent[:8])}",
            hint="Try again later: this is an outage at Google's.",
            code="zones_unreachable",
            retryable=True,
        )
    if len(hits) > 1:
        last = [vm for vm in hits if vm.zone == last_zone]
        hits = last or [_ask_which(name, hits, ask)]
    return hits[0] if hits else None


def not_sure(vm: Vm, found: Found) -> str:
    """What to say of a VM that was found while others of its name may be where nobody could look; empty: nothing."""
    zones = ", ".join(found.unreachable[:8])
    doubt = "but there may be another one of that name, since these zones could not be asked"
    return f"{vm.name} was found in {vm.zone}, {doubt}: {zones}" if zones else ""


def not_found(name: str, found: Found, *, project: str, zones: Sequence[str]) -> InstanceError:
    """The error for a name that no VM has; with the closest one that a VM has."""
    where = f"in {', '.join(zones)}" if zones else "in any zone"
    close = difflib.get_close_matches(name, [vm.name for vm in found.vms], 1)
    zone = zones[0] if zones else "ZONE"
    guess = f"Did you mean {close[0]}? " if close and close[0] != name else ""
    return InstanceError(
        f"There is no VM {name} {where} of the project {project}",
        hint=f"{guess}{to_make_it(name, zone)}",
    )


def to_make_it(name: str, zone: str) -> str:
    """The hint for who wants a VM of that name that is not there."""
    return f"To make it: remote-runtime connect --create --zone {zone} {name}"


def taken(vm: Vm) -> InstanceError:
    """The error for a VM that was to be made, and is there already."""
    return InstanceError(
        f"There is a VM {vm.name} in {vm.zone} already ({vm.status.lower()})",
        hint=f"Connect to it: remote-runtime connect {vm.name}",
        code="instance_exists",
    )


def next_step(vm: Vm) -> Step:
    """What has to be done to have it running."""
    return STEPS.get(vm.status, "wait")


def is_about(vm: Vm, now: float) -> str:
    """How long it has been running or there, for people: ``"3 h"``."""
    since = vm.started if vm.state == "running" else vm.created
    if since is None:
        return ""
    seconds = max(0.0, now - since)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def _ask_which(name: str, hits: list[Vm], ask: Question | None) -> Vm:
    listing = "\n".join(f"  {n}. {vm.zone}: {printable(vm.status)}, {vm.detail}" for n, vm in enumerate(hits, 1))
    if ask is None:
        raise UsageError(
            f"{len(hits)} VMs are called {name}: in {', '.join(vm.zone for vm in hits)}",
            hint=f"Say which with --zone:\n{listing}",
            code="ambiguous_name",
        )
    answer = ask(f"{len(hits)} VMs are called {name}:\n{listing}\nWhich one (1-{len(hits)})?", True).strip()
    if answer.isdecimal() and 1 <= int(answer) <= len(hits):
        return hits[int(answer) - 1]
    chosen = [vm for vm in hits if vm.zone == answer]
    if not chosen:
        raise RemoteRuntimeError("Nothing was done: none of them was chosen", hint="Use --zone.", code="declined")
    return chosen[0]


def moment(text: Any) -> float | None:
    """A timestamp of the API in seconds since 1970; None if it is none."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
