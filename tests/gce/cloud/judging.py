"""What the API refuses although the schema allows it: instances that contradict themselves or the catalog.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tests.gce.cloud import catalog
from tests.gce.cloud.refusals import Refused, invalid, not_found

NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
_LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")
_DAYS_120 = 120 * 86400


def check_instance(body: Mapping[str, Any], zone: str, lacking: Collection[str] = ()) -> None:
    """Raise :class:`Refused` for an instance that can't be made in this zone, which lacks some types of the catalog."""
    if not NAME.fullmatch(body["name"]):
        raise invalid("resource.name", body["name"], f"Must be a match of regex '{NAME.pattern}'")
    machine_type = _check_machine_type(body.get("machineType", ""), zone, lacking)
    if not body.get("disks") and not body.get("sourceMachineImage"):
        raise invalid("resource.disks", "", "At least one disk is required.")
    for index, disk in enumerate(body.get("disks", ())):
        _check_disk(disk, index, zone, lacking)
    if not body.get("networkInterfaces"):
        raise invalid("resource.networkInterfaces", "", "At least one network interface is required.")
    _check_accelerators(body, machine_type, zone, lacking)
    _check_scheduling(body, machine_type)
    check_metadata(body.get("metadata", {}))
    check_labels(body.get("labels", {}))


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """The limits on keys and sizes, and each key once."""
    seen: set[str] = set()
    total = 0
    for item in metadata.get("items", ()):
        key, value = item.get("key", ""), item.get("value", "")
        if not re.fullmatch(r"[a-zA-Z0-9\-_]{1,128}", key):
            raise invalid("resource.metadata.items.key", key, "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'")
        if key in seen:
            raise Refused(400, f"Invalid value for field 'metadata.items': duplicate metadata key: {key}.")
        if len(value.encode()) > 262144:
            raise Refused(400, f"Metadata value of '{key}' is too large: at most 262144 bytes are allowed.")
        seen.add(key)
        total += len(key) + len(value.encode())
    if total > 512 * 1024:
        raise Refused(400, "Metadata is too large: at most 512 KB are allowed in total.")


def check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise invalid("resource.labels", key, "Label key is not allowed.")
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid("resource.labels", value, f"Label value of '{key}' violates format constraints.")
    if len(labels) > 64:
        raise Refused(400, "At most 64 labels are allowed.")


def _check_machine_type(value: str, zone: str, lacking: Collection[str]) -> catalog.MachineType:
    match = re.search(r"(?:^|/)zones/([^/]+)/machineTypes/([^/]+)$", value)
    if not match:
        raise invalid("resource.machineType", value, "The URL is malformed.")
    if match[1] != zone:
        raise invalid("resource.machineType", value, "The resource is in another zone.")
    machine_type = catalog.machine_type(match[2])
    if machine_type is None or match[2] in lacking:
        why = f"Machine type with name '{match[2]}' does not exist in zone '{zone}'."
        raise invalid("resource.machineType", value, why)
    return machine_type


def _check_disk(disk: Mapping[str, Any], index: int, zone: str, lacking: Collection[str]) -> None:
    at = f"resource.disks[{index}]"
    wanted = disk.get("initializeParams", {})
    if not wanted and not disk.get("source"):
        raise invalid(at, "", "Must specify a source or initializeParams.")
    disk_type = wanted.get("diskType", "")
    types = "|".join(set(catalog.DISK_TYPES).difference(lacking))
    if disk_type and not re.search(rf"(^|/)zones/{zone}/diskTypes/({types})$", disk_type):
        raise invalid(f"{at}.initializeParams.diskType", disk_type, "The referenced disk type cannot be found.")
    if wanted.get("sourceImage"):
        image = find_image(wanted["sourceImage"])
        if int(wanted.get("diskSizeGb", image.disk_gb)) < image.disk_gb:
            why = f"Requested disk size cannot be smaller than the image size ({image.disk_gb} GB)"
            raise invalid(f"{at}.initializeParams.diskSizeGb", wanted["diskSizeGb"], why)


def find_image(url: str) -> catalog.Image:
    """The image that a full or partial URL of an image, a family or a family's view names."""
    match = re.search(r"projects/([^/]+)/(?:global/images/(family/)?|zones/[^/]+/(imageFamilyViews)/)([^/]+)$", url)
    if not match:
        raise invalid("resource.disks[0].initializeParams.sourceImage", url, "The URL is malformed.")
    project, family, view, name = match.groups()
    if family or view:
        image = catalog.newest(project, name)
    else:
        image = next((i for i in catalog.IMAGES if (i.project, i.name) == (project, name)), None)
    if image is None:
        raise not_found(f"projects/{project}/global/images/{'family/' if family or view else ''}{name}")
    return image


def _check_accelerators(
    body: Mapping[str, Any], machine_type: catalog.MachineType, zone: str, lacking: Collection[str]
) -> None:
    for accelerator in body.get("guestAccelerators", ()):
        url, count = accelerator.get("acceleratorType", ""), accelerator.get("acceleratorCount", 0)
        name = url.rpartition("/")[2]
        if not re.search(rf"(^|/)zones/{zone}/acceleratorTypes/[^/]+$", url) or name not in catalog.ACCELERATORS:
            raise invalid(
                "resource.guestAccelerators[0].acceleratorType", url, "The referenced resource cannot be found."
            )
        if name in lacking:
            raise not_found(url)
        built_in = machine_type.accelerator is not None
        attachable = name.startswith("nvidia-tesla-") and "a100" not in name
        if not built_in and not (attachable and "/n1-" in body["machineType"]):
            text = (
                f"[{body['machineType'].rpartition('/')[2]}, {name}] features are not compatible for creating instance."
            )
            raise Refused(400, text, reason="badRequest")
        if not 1 <= count <= catalog.ACCELERATORS[name]:
            raise invalid("resource.guestAccelerators[0].acceleratorCount", count, "Invalid number of accelerators.")


def _check_scheduling(body: Mapping[str, Any], machine_type: catalog.MachineType) -> None:
    scheduling = body.get("scheduling", {})
    has_gpu = bool(body.get("guestAccelerators")) or machine_type.accelerator is not None
    spot = scheduling.get("provisioningModel") == "SPOT" or scheduling.get("preemptible", False)
    if has_gpu and not spot and scheduling.get("onHostMaintenance") != "TERMINATE":
        raise Refused(400, "Instances with guest accelerators do not support live migration.", reason="badRequest")
    if spot and scheduling.get("automaticRestart", False):
        raise Refused(400, "Scheduling must have automatic restart be false when preemptible is true.")
    if spot and scheduling.get("onHostMaintenance", "TERMINATE") != "TERMINATE":
        raise Refused(400, "Scheduling must have onHostMaintenance be TERMINATE when preemptible is true.")
    limited = "maxRunDuration" in scheduling or "terminationTime" in scheduling
    if "maxRunDuration" in scheduling:
        seconds = int(scheduling["maxRunDuration"].get("seconds", 0))
        if not 30 <= seconds <= _DAYS_120:
            raise invalid("resource.scheduling.maxRunDuration", seconds, "Must be between 30 seconds and 120 days.")
    if limited and "instanceTerminationAction" not in scheduling:
        raise Refused(400, "Instance termination action must be specified when the run time is limited.")
    if "instanceTerminationAction" in scheduling and not (limited or spot):
        raise Refused(400, "Instance termination action can be specified for Spot or time-limited VMs only.")
