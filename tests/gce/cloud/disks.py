"""The disks of VMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.gce.cloud import judging
from tests.gce.cloud.operations import timestamp

if TYPE_CHECKING:
    from tests.gce.cloud.vm import Vm
    from tests.gce.cloud.world import World


def attach(world: World, vm: Vm, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make the disks that an insert asks for, and return how the Instance lists them."""
    return [_attach(world, vm, disk, index) for index, disk in enumerate(wanted)]


def let_go(world: World, vm: Vm) -> None:
    """Delete the disks that go with their VM; the others are nobody's then."""
    for disk in vm.disks:
        key = vm.zone, disk["source"].rpartition("/")[2]
        if disk["autoDelete"]:
            world.disks.pop(key, None)
        elif key in world.disks:
            world.disks[key].pop("users", None)


def _attach(world: World, vm: Vm, wanted: Mapping[str, Any], index: int) -> dict[str, Any]:
    initial = wanted.get("initializeParams", {})
    if wanted.get("source"):
        name = wanted["source"].rpartition("/")[2]
        size = world.disks.get((vm.zone, name), {}).get("sizeGb", "10")
    else:
        name = initial.get("diskName", vm.name if index == 0 else f"{vm.name}-{index}")
        world.disks[vm.zone, name] = _make(world, vm, name, initial)
        size = world.disks[vm.zone, name]["sizeGb"]
    return {
        "kind": "compute#attachedDisk",
        "type": wanted.get("type", "PERSISTENT"),
        "mode": wanted.get("mode", "READ_WRITE"),
        "source": world.link(world.zone_path(vm.zone, "disks", name)),
        "deviceName": wanted.get("deviceName", f"persistent-disk-{index}"),
        "index": index,
        "boot": wanted.get("boot", False),
        "autoDelete": wanted.get("autoDelete", False),
        "interface": wanted.get("interface", "SCSI"),
        "diskSizeGb": size,
    }


def _make(world: World, vm: Vm, name: str, initial: Mapping[str, Any]) -> dict[str, Any]:
    image = judging.find_image(initial["sourceImage"]) if initial.get("sourceImage") else None
    disk_type = initial.get("diskType", "pd-standard").rpartition("/")[2]
    disk: dict[str, Any] = {
        "kind": "compute#disk",
        "id": world.new_id(),
        "name": name,
        "status": "READY",
        "sizeGb": str(initial.get("diskSizeGb", image.disk_gb if image else 500)),
        "type": world.link(world.zone_path(vm.zone, "diskTypes", disk_type)),
        "zone": world.link(f"projects/{world.project}/zones/{vm.zone}"),
        "selfLink": world.link(world.zone_path(vm.zone, "disks", name)),
        "creationTimestamp": timestamp(),
        "users": [world.link(vm.path)],
    }
    if initial.get("labels"):
        disk["labels"] = dict(initial["labels"])
    if image:
        disk["sourceImage"] = world.link(f"projects/{image.project}/global/images/{image.name}")
    return disk
