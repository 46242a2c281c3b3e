"""What a zone lacks: it is none at all, or has no such machine.

Google says that in words for people only, with the code of any bad request.  So what there is in the zone is asked
for, once a VM or a look at one was refused there.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.failures import CloudError, Fault


@dataclass(frozen=True)
class Kind:
    """A kind of thing that some zones have: in words, as the library's service and parameter, and gcloud's group."""

    words: str
    service: str
    parameter: str
    group: str


KINDS = {
    "machineTypes": Kind("machine type", "machine_types", "machine_type", "machine-types"),
    "acceleratorTypes": Kind("GPU", "accelerator_types", "accelerator_type", "accelerator-types"),
    "diskTypes": Kind("disk type", "disk_types", "disk_type", "disk-types"),
}
"""By their names in URLs."""


class UnknownZone(CloudError):
    """There is no zone of that name."""

    code = "unknown_zone"


class NotInZone(CloudError):
    """The zone has no such machine type, GPU or disk type, now or ever; ``what`` is it, ``zone`` where."""

    code = "not_in_zone"

    def __init__(self, kind: Kind, name: str, zone: str, project: str, fault: Fault) -> None:
        self.what, self.zone = f"{kind.words} {name}", zone
        hint = (
            f"`gcloud compute {kind.group} list --filter=name={name} --project={project}` shows where it is: "
            "name such a zone with --zone, or ask for another one."
        )
        super().__init__(nowhere([self]), hint=hint, fault=fault)


def nowhere(errors: Iterable[NotInZone]) -> str:
    """The message for what several zones lack."""
    zones: dict[str, list[str]] = {}
    for error in errors:
        zones.setdefault(error.what, []).append(error.zone)
    return "; ".join(f"There is no {what} in {', '.join(where)}" for what, where in zones.items())


def wanted(body: Mapping[str, Any]) -> list[tuple[Kind, str]]:
    """What a VM with this request's body needs of its zone, by name."""
    disks = [disk.get("initializeParams") or {} for disk in body.get("disks") or []]
    urls = [
        body.get("machineType"),
        *(gpu.get("acceleratorType") for gpu in body.get("guestAccelerators") or []),
        *(disk.get("diskType") for disk in disks),
    ]
    parts = [str(url).rpartition("/") for url in urls if url]
    return [(KINDS[group.rpartition("/")[2]], name) for group, _, name in parts]


def why_refused(
    cloud: Cloud, zone: str, body: Mapping[str, Any], refusal: CloudError, deadline: Deadline
) -> CloudError | None:
    """The error that says what this zone lacks for a VM that was refused there; None if that is not the reason."""
    if not _may_lack(refusal):
        return None
    unknown = no_zone(cloud, zone, refusal, deadline)
    if unknown:
        return unknown
    for kind, name in wanted(body):
        where: dict[str, Any] = {"zone": zone, kind.parameter: name}
        try:
            cloud.call(kind.service, "get", deadline, **where)
        except CloudError as error:
            if error.fault.status == 404:
                return NotInZone(kind, name, zone, cloud.project, refusal.fault)
        except RemoteRuntimeError:  # no time to find out
            break
    return None


def no_zone(cloud: Cloud, zone: str, refusal: CloudError, deadline: Deadline) -> UnknownZone | None:
    """The error for a zone that is none, if that is why something was refused in it."""
    if not _may_lack(refusal):
        return None
    with suppress(RemoteRuntimeError):
        names = [one["name"] for page in cloud.pages("zones", "list", deadline) for one in page.get("items") or []]
        if names and zone not in names:
            return UnknownZone(f"There is no zone {zone}", hint=_meant(zone, names), fault=refusal.fault)
    return None


def _may_lack(refusal: CloudError) -> bool:
    """Whether what was refused may be so because the zone, or something in it, is not there."""
    return refusal.fault.status in (400, 404) and not refusal.fault.busy


def _meant(zone: str, names: Sequence[str]) -> str:
    """What the name of no zone may stand for."""
    within = [name for name in names if name.rpartition("-")[0] == zone]
    if within:
        return f"{zone} is a region: its zones are {', '.join(sorted(within))}."
    close = difflib.get_close_matches(zone, names, 1)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"{guess}`gcloud compute zones list` shows them."
