"""A VM as it is wanted, and the request that makes it.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from remote_runtime.errors import UsageError
from remote_runtime.guest.attributes import USER_KEY
from remote_runtime.model import InstanceSpec
from remote_runtime.providers.gce import gpus
from remote_runtime.providers.gce.gpus import Gpu

DAY_SECONDS = 24 * 3600
SHORTEST_RUN_SECONDS, LONGEST_RUN_SECONDS = 30, 120 * DAY_SECONDS
DEFAULT_MACHINE_TYPE = "e2-standard-4"
TOOL_LABEL, OWNER_LABEL = "created-by", "owner"
TOOL = "remote-runtime"
STARTUP_SCRIPT, PREPARED_USER = "startup-script", USER_KEY
"""Metadata entries: what Google's agent runs as root at each boot, and for whom our script then starts a server."""

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
_LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")


@dataclass(frozen=True)
class GceSpec(InstanceSpec):
    """A VM as it is wanted.

    ``machine_type`` and the image (``image``, or the newest of ``image_family``, both of ``image_project``) have
    defaults that depend on ``gpu``.  ``disk_gb``: the boot disk.  ``max_run_seconds``: how long the cloud lets it run,
    None for ever; ``at_end``: what happens then, and to a ``spot`` VM that is preempted.  ``service_account``: None for
    none.  ``startup_script``: the text of it; ``prepare``: it is ours, which has Jupyter ready before anybody connects.
    ``labels``, ``tags`` and ``metadata`` are added to ours.
    """

    machine_type: str | None = None
    gpu: Gpu | None = None
    image: str | None = None
    image_family: str | None = None
    image_project: str | None = None
    disk_gb: int = 50
    disk_type: str = "pd-balanced"
    spot: bool = False
    max_run_seconds: int | None = DAY_SECONDS
    at_end: Literal["stop", "delete"] = "stop"
    network: str | None = None
    subnet: str | None = None
    external_ip: bool = True
    service_account: str | None = None
    scopes: tuple[str, ...] = ("cloud-platform",)
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    startup_script: str | None = None
    prepare: bool = False
    secure_boot: bool = False


def check(spec: GceSpec) -> None:
    """Refuse what no VM can be.

    Raises :class:`UsageError` with code ``bad_spec``.
    """
    if not _NAME.fullmatch(spec.name):
        raise _bad(
            f"{spec.name!a} can't be the name of a VM",
            "Use lower-case letters, digits and hyphens, a letter first, at most 63.",
        )
    if spec.image and spec.image_family:
        raise _bad("An image and an image family were named", "Leave one of them out.")
    if spec.image_project and not (spec.image or spec.image_family):
        raise _bad("An image project was named, but no image", "Name the image or its family too.")
    if spec.max_run_seconds is not None and not SHORTEST_RUN_SECONDS <= spec.max_run_seconds <= LONGEST_RUN_SECONDS:
        raise _bad("A VM can't run that long or short", "The limit is between 30 s and 120 days, or none.")
    if spec.startup_script is not None and STARTUP_SCRIPT in spec.metadata:
        raise _bad("The startup script was given twice", "Leave it out of the metadata.")
    if spec.prepare and (spec.startup_script is not None or STARTUP_SCRIPT in spec.metadata):
        raise _bad(
            "A VM has one startup script, and preparing it takes that one",
            "Put yours into a bucket and name it by --metadata startup-script-url=gs://BUCKET/FILE: both are run then.",
        )
    for key, value in spec.labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise _bad(
                f"{key}={value} can't be a label",
                "Labels have lower-case letters, digits, _ and -, a letter first in the name, at most 63 each.",
            )
    machine_type(spec)


def machine_type(spec: GceSpec) -> str:
    """The machine type, chosen if none was named.

    Raises :class:`UsageError` with code ``bad_spec`` for a GPU that this type can't have.
    """
    if spec.gpu is None:
        return spec.machine_type or DEFAULT_MACHINE_TYPE
    return gpus.machine_type_for(spec.gpu, spec.machine_type)


def has_gpu(spec: GceSpec) -> bool:
    """Whether there will be a GPU, which a machine type may bring with it."""
    return spec.gpu is not None or gpus.brings(spec.machine_type or "")


def summary(spec: GceSpec, zones: Sequence[str]) -> str:
    """What it will be, in one line for people."""
    gpu = f" with {spec.gpu}" if spec.gpu else ""
    where = f"{zones[0]} (or {len(zones) - 1} other zones)" if len(zones) > 2 else " or ".join(zones)
    end = {"stop": "stopped", "delete": "deleted"}[spec.at_end]
    limit = f"{end} after {_span(spec.max_run_seconds)}" if spec.max_run_seconds else "running until it is stopped"
    kind = f"{'spot ' if spec.spot else ''}{machine_type(spec)}"
    return f"the VM {spec.name}: {kind}{gpu}, {spec.disk_gb} GB {spec.disk_type}, in {where}, {limit}"


def _span(seconds: int) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def request_body(
    spec: GceSpec, *, project: str, zone: str, source_image: str, owner: str, metadata: Mapping[str, str]
) -> dict[str, Any]:
    """The body of ``instances.insert``.

    ``source_image`` is a path such as ``projects/P/global/images/I``; ``owner`` who pays for it (made fit to be a
    label); ``metadata`` what we add to the user's.
    """
    nic: dict[str, Any] = {}
    if spec.subnet:
        region = zone.rpartition("-")[0]
        nic["subnetwork"] = spec.subnet if "/" in spec.subnet else f"regions/{region}/subnetworks/{spec.subnet}"
    if spec.network or not spec.subnet:
        network = spec.network or "default"
        nic["network"] = network if "/" in network else f"global/networks/{network}"
    if spec.external_ip:
        nic["accessConfigs"] = [{"name": "external-nat", "type": "ONE_TO_ONE_NAT"}]
    labels = {TOOL_LABEL: TOOL, OWNER_LABEL: label_value(owner), **spec.labels}
    body: dict[str, Any] = {
        "name": spec.name,
        "machineType": f"zones/{zone}/machineTypes/{machine_type(spec)}",
        "disks": [_boot_disk(spec, zone, source_image, labels)],
        "networkInterfaces": [nic],
        "scheduling": _scheduling(spec),
        "labels": labels,
        "metadata": {"items": [{"key": key, "value": value} for key, value in _metadata(spec, metadata).items()]},
        "shieldedInstanceConfig": {
            "enableSecureBoot": spec.secure_boot,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        },
    }
    if spec.gpu and gpus.attaches(machine_type(spec)):
        kind = f"projects/{project}/zones/{zone}/acceleratorTypes/{spec.gpu.kind}"
        body["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": spec.gpu.count}]
    if spec.service_account:
        scopes = [s if "/" in s else f"https://www.googleapis.com/auth/{s}" for s in spec.scopes]
        body["serviceAccounts"] = [{"email": spec.service_account, "scopes": scopes}]
    if spec.tags:
        body["tags"] = {"items": list(spec.tags)}
    return body


def label_value(text: str) -> str:
    """``text`` made fit to be a label's value."""
    return re.sub(r"[^-_a-z0-9]", "_", text.lower())[:63]


def _boot_disk(spec: GceSpec, zone: str, source_image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "boot": True,
        "autoDelete": True,
        "mode": "READ_WRITE",
        "type": "PERSISTENT",
        "initializeParams": {
            "sourceImage": source_image,
            "diskSizeGb": str(spec.disk_gb),
            "diskType": f"zones/{zone}/diskTypes/{spec.disk_type}",
            "labels": dict(labels),  # a disk may outlive its VM, and costs
        },
    }


def _scheduling(spec: GceSpec) -> dict[str, Any]:
    scheduling: dict[str, Any] = {
        "provisioningModel": "SPOT" if spec.spot else "STANDARD",
        "automaticRestart": not spec.spot,
    }
    if spec.spot or has_gpu(spec):
        scheduling["onHostMaintenance"] = "TERMINATE"  # neither can be moved to another host while it runs
    if spec.max_run_seconds is not None:
        scheduling["maxRunDuration"] = {"seconds": str(spec.max_run_seconds)}
    if spec.spot or spec.max_run_seconds is not None:
        scheduling["instanceTerminationAction"] = spec.at_end.upper()
    return scheduling


def _metadata(spec: GceSpec, ours: Mapping[str, str]) -> dict[str, str]:
    script = {} if spec.startup_script is None else {STARTUP_SCRIPT: spec.startup_script}
    merged = {"enable-guest-attributes": "TRUE", **script, **spec.metadata}
    for key, value in ours.items():  # keys are lines: the user's stay beside ours
        merged[key] = f"{merged[key]}\n{value}" if key == "ssh-keys" and key in merged else value
    return merged


def _bad(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code="bad_spec")
