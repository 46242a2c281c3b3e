"""The methods of what is just there, projects, zones, types and images; and those of disks and firewalls."""

from __future__ import annotations

import zlib
from typing import Any

from tests.gce.cloud import catalog, judging
from tests.gce.cloud.answers import Request, answers, page
from tests.gce.cloud.operations import begin
from tests.gce.cloud.refusals import Refused, fingerprint_differs, not_found
from tests.gce.cloud.world import World, metadata_items, metadata_resource

_LONG_AGO = "2020-01-01T00:00:00.000+00:00"


@answers("projects.get")
def get_project(world: World, request: Request) -> dict[str, Any]:
    return {
        "kind": "compute#project",
        "id": "9" + world.project_number,
        "name": world.project,
        "creationTimestamp": _LONG_AGO,
        "selfLink": world.link(f"projects/{world.project}"),
        "commonInstanceMetadata": metadata_resource(world.common_metadata),
        "defaultServiceAccount": f"{world.project_number}-compute@developer.gserviceaccount.com",
        "defaultNetworkTier": "PREMIUM",
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
    }


@answers("projects.setCommonInstanceMetadata")
def set_common_instance_metadata(world: World, request: Request) -> dict[str, Any]:
    judging.check_metadata(request.body)
    if request.body.get("fingerprint") != metadata_resource(world.common_metadata)["fingerprint"]:
        raise fingerprint_differs("metadata")
    world.common_metadata = metadata_items(request.body)
    for vm in world.vms.values():
        if vm.guest:
            vm.guest.metadata_changed()
    return begin(world, request, "setMetadata", f"projects/{world.project}")


@answers("zones.list")
def list_zones(world: World, request: Request) -> dict[str, Any]:
    found = [_zone(world, zone) for zone in world.zones]
    return page(world, request, "compute#zoneList", f"projects/{world.project}/zones", found)


@answers("zones.get")
def get_zone(world: World, request: Request) -> dict[str, Any]:
    if request.zone not in world.zones:
        raise not_found(f"projects/{world.project}/zones/{request.zone}")
    return _zone(world, str(request.zone))


@answers("regions.list")
def list_regions(world: World, request: Request) -> dict[str, Any]:
    found = [_region(world, region) for region in sorted({catalog.region_of(zone) for zone in world.zones})]
    return page(world, request, "compute#regionList", f"projects/{world.project}/regions", found)


@answers("regions.get")
def get_region(world: World, request: Request) -> dict[str, Any]:
    region = request.path["region"]
    if region not in {catalog.region_of(zone) for zone in world.zones}:
        raise not_found(f"projects/{world.project}/regions/{region}")
    return _region(world, region)


@answers("machineTypes.list")
def list_machine_types(world: World, request: Request) -> dict[str, Any]:
    lacking = world.lacking.get(str(request.zone), ())
    types = {name: kind for name, kind in catalog.MACHINE_TYPES.items() if name not in lacking}
    found = [_machine_type(world, str(request.zone), name, kind) for name, kind in types.items()]
    path = f"projects/{world.project}/zones/{request.zone}/machineTypes"
    return page(world, request, "compute#machineTypeList", path, found)


@answers("machineTypes.get")
def get_machine_type(world: World, request: Request) -> dict[str, Any]:
    name, zone = request.path["machineType"], str(request.zone)
    kind = catalog.machine_type(name)
    if kind is None or name in world.lacking.get(zone, ()):
        raise not_found(world.zone_path(zone, "machineTypes", name))
    return _machine_type(world, zone, name, kind)


@answers("acceleratorTypes.list")
def list_accelerator_types(world: World, request: Request) -> dict[str, Any]:
    zone = str(request.zone)
    lacking = world.lacking.get(zone, ())
    found = [_accelerator_type(world, zone, name) for name in catalog.ACCELERATORS if name not in lacking]
    path = f"projects/{world.project}/zones/{zone}/acceleratorTypes"
    return page(world, request, "compute#acceleratorTypeList", path, found)


@answers("acceleratorTypes.get")
def get_accelerator_type(world: World, request: Request) -> dict[str, Any]:
    name, zone = request.path["acceleratorType"], str(request.zone)
    if name not in catalog.ACCELERATORS or name in world.lacking.get(zone, ()):
        raise not_found(world.zone_path(zone, "acceleratorTypes", name))
    return _accelerator_type(world, zone, name)


@answers("diskTypes.get")
def get_disk_type(world: World, request: Request) -> dict[str, Any]:
    name, zone = request.path["diskType"], str(request.zone)
    if name not in catalog.DISK_TYPES or name in world.lacking.get(zone, ()):
        raise not_found(world.zone_path(zone, "diskTypes", name))
    return {
        "kind": "compute#diskType",
        "id": str(6000 + catalog.DISK_TYPES.index(name)),
        "name": name,
        "zone": world.link(f"projects/{world.project}/zones/{zone}"),
        "selfLink": world.link(world.zone_path(zone, "diskTypes", name)),
    }


@answers("images.list")
def list_images(world: World, request: Request) -> dict[str, Any]:
    project = request.path["project"]
    found = [_image(world, image) for image in catalog.IMAGES if image.project == project]
    return page(world, request, "compute#imageList", f"projects/{project}/global/images", found)


@answers("images.get")
def get_image(world: World, request: Request) -> dict[str, Any]:
    return _image(
        world, judging.find_image(f"projects/{request.path['project']}/global/images/{request.path['image']}")
    )


@answers("images.getFromFamily")
def get_image_from_family(world: World, request: Request) -> dict[str, Any]:
    path = f"projects/{request.path['project']}/global/images/family/{request.path['family']}"
    return _image(world, judging.find_image(path))


@answers("disks.list")
def list_disks(world: World, request: Request) -> dict[str, Any]:
    found = [disk for (zone, _), disk in world.disks.items() if zone == request.zone]
    return page(world, request, "compute#diskList", f"projects/{world.project}/zones/{request.zone}/disks", found)


@answers("disks.get")
def get_disk(world: World, request: Request) -> dict[str, Any]:
    return _disk(world, request)


@answers("disks.delete")
def delete_disk(world: World, request: Request) -> dict[str, Any]:
    disk, zone = _disk(world, request), str(request.zone)
    path = world.zone_path(zone, "disks", disk["name"])
    if disk.get("users"):
        text = f"The disk resource '{path}' is already being used by '{disk['users'][0]}'"
        raise Refused(400, text, reason="resourceInUseByAnotherResource")

    def remove() -> None:
        world.disks.pop((zone, disk["name"]), None)

    return begin(world, request, "delete", path, finish=remove)


@answers("firewalls.list")
def list_firewalls(world: World, request: Request) -> dict[str, Any]:
    path = f"projects/{world.project}/global/firewalls"
    return page(world, request, "compute#firewallList", path, world.firewalls)


def _disk(world: World, request: Request) -> dict[str, Any]:
    found = world.disks.get((str(request.zone), request.path["disk"]))
    if found is None:
        raise not_found(world.zone_path(str(request.zone), "disks", request.path["disk"]))
    return found


def _zone(world: World, zone: str) -> dict[str, Any]:
    return {
        "kind": "compute#zone",
        "id": str(2000 + world.zones.index(zone)),
        "name": zone,
        "description": zone,
        "status": "UP",
        "creationTimestamp": _LONG_AGO,
        "region": world.link(f"projects/{world.project}/regions/{catalog.region_of(zone)}"),
        "selfLink": world.link(f"projects/{world.project}/zones/{zone}"),
    }


def _region(world: World, region: str) -> dict[str, Any]:
    zones = [world.link(f"projects/{world.project}/zones/{z}") for z in world.zones if catalog.region_of(z) == region]
    return {
        "kind": "compute#region",
        "id": "1000",
        "name": region,
        "description": region,
        "status": "UP",
        "zones": zones,
        "selfLink": world.link(f"projects/{world.project}/regions/{region}"),
    }


def _machine_type(world: World, zone: str, name: str, kind: catalog.MachineType) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "kind": "compute#machineType",
        "id": str(4000 + zlib.crc32(name.encode())),
        "name": name,
        "guestCpus": kind.cpus,
        "memoryMb": kind.memory_mb,
        "isSharedCpu": name.startswith(("e2-micro", "e2-medium")),
        "zone": zone,
        "selfLink": world.link(world.zone_path(zone, "machineTypes", name)),
    }
    if kind.accelerator:
        gpu, count = kind.accelerator
        resource["accelerators"] = [{"guestAcceleratorType": gpu, "guestAcceleratorCount": count}]
    return resource


def _accelerator_type(world: World, zone: str, name: str) -> dict[str, Any]:
    return {
        "kind": "compute#acceleratorType",
        "id": str(7000 + list(catalog.ACCELERATORS).index(name)),
        "name": name,
        "description": name.replace("-", " "),
        "maximumCardsPerInstance": catalog.ACCELERATORS[name],
        "zone": world.link(f"projects/{world.project}/zones/{zone}"),
        "selfLink": world.link(world.zone_path(zone, "acceleratorTypes", name)),
    }


def _image(world: World, image: catalog.Image) -> dict[str, Any]:
    path = f"projects/{image.project}/global/images/{image.name}"
    resource: dict[str, Any] = {
        "kind": "compute#image",
        "id": str(5000 + catalog.IMAGES.index(image)),
        "name": image.name,
        "family": image.family,
        "status": "READY",
        "architecture": "X86_64",
        "diskSizeGb": str(image.disk_gb),
        "creationTimestamp": f"{image.created}T10:00:00.000-08:00",
        "selfLink": world.link(path),
    }
    if image.deprecated:
        resource["deprecated"] = {"state": image.deprecated}
    return resource
