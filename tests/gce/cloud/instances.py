"""The methods of instances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.gce.cloud import judging
from tests.gce.cloud.answers import Request, answers, cut, page
from tests.gce.cloud.operations import begin
from tests.gce.cloud.refusals import Refused, already_exists, fingerprint_differs, not_found, not_ready
from tests.gce.cloud.vm import Vm
from tests.gce.cloud.world import World, fingerprint, metadata_items, metadata_resource


@answers("instances.insert")
def insert(world: World, request: Request) -> dict[str, Any]:
    zone = _zone(world, request)
    judging.check_instance(request.body, zone, world.lacking.get(zone, ()))
    path = world.zone_path(zone, "instances", request.body["name"])
    if (zone, request.body["name"]) in world.vms:
        raise already_exists(path)
    vm = Vm(world, zone, request.body, request.user)
    world.vms[zone, vm.name] = vm
    return begin(
        world,
        request,
        "insert",
        path,
        target_id=vm.id,
        halfway=lambda: _set_status(vm, "STAGING"),
        finish=vm.power_on,
        undo=vm.vanish,
    )


@answers("instances.get")
def get(world: World, request: Request) -> dict[str, Any]:
    return find(world, request).resource


@answers("instances.list")
def list_in_zone(world: World, request: Request) -> dict[str, Any]:
    zone = _zone(world, request)
    found = [vm.resource for vm in _by_name(world) if vm.zone == zone]
    return page(world, request, "compute#instanceList", f"projects/{world.project}/zones/{zone}/instances", found)


@answers("instances.aggregatedList")
def aggregated_list(world: World, request: Request) -> dict[str, Any]:
    """Zones without a hit say so; a zone that can't be asked is a warning, and no word about its instances."""
    reachable = [vm.resource for vm in _by_name(world) if vm.zone not in world.unreachable_zones]
    some, token = cut(request, reachable)
    items: dict[str, Any] = {}
    for zone in world.zones:
        scope = f"zones/{zone}"
        here = [resource for resource in some if resource["zone"].endswith(f"/{scope}")]
        items[scope] = {"instances": here} if here else {"warning": _empty(scope, zone in world.unreachable_zones)}
    path = f"projects/{world.project}/aggregated/instances"
    answer: dict[str, Any] = {"kind": "compute#instanceAggregatedList", "id": path, "selfLink": world.link(path)}
    answer["items"] = items
    if world.unreachable_zones:
        answer["unreachables"] = [world.link(f"projects/{world.project}/zones/{z}") for z in world.unreachable_zones]
    if token:
        answer["nextPageToken"] = token
    return answer


def _empty(scope: str, unreachable: bool) -> dict[str, Any]:
    if unreachable:
        code, message = "UNREACHABLE", f"The zone '{scope}' could not be reached."
    else:
        code, message = "NO_RESULTS_ON_PAGE", f"There are no results for scope '{scope}' on this page."
    return {"code": code, "message": message, "data": [{"key": "scope", "value": scope}]}


# -- the life cycle --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """From one of some states over another to a last one; in ``idle`` states nothing has to be done."""

    allowed: tuple[str, ...]
    over: str
    idle: tuple[str, ...]
    finish: Callable[[Vm], None]


_CHANGES = {
    "start": _Change(("TERMINATED",), "STAGING", ("RUNNING",), Vm.power_on),
    "stop": _Change(("RUNNING", "SUSPENDED", "REPAIRING"), "STOPPING", ("TERMINATED",), Vm.power_off),
    "suspend": _Change(("RUNNING",), "SUSPENDING", (), lambda vm: vm.power_off("SUSPENDED")),
    "resume": _Change(("SUSPENDED",), "STAGING", (), Vm.power_on),
    "reset": _Change(("RUNNING",), "RUNNING", (), Vm.reset),
}


@answers(*(f"instances.{verb}" for verb in _CHANGES))
def change(world: World, request: Request) -> dict[str, Any]:
    vm = find(world, request)
    verb = request.method.rpartition(".")[2]
    change = _CHANGES[verb]
    if vm.status in change.idle:
        return begin(world, request, verb, vm.path, target_id=vm.id)
    if vm.status not in change.allowed:
        raise not_ready(vm.path)
    before, vm.status = vm.status, change.over
    if vm.guest and verb == "stop":
        vm.guest.shut_down()
    return begin(
        world,
        request,
        verb,
        vm.path,
        target_id=vm.id,
        finish=lambda: change.finish(vm),
        undo=lambda: _set_status(vm, before),
    )


@answers("instances.delete")
def delete(world: World, request: Request) -> dict[str, Any]:
    vm = find(world, request)
    if vm.protected:
        text = f"Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion. {vm.path}'."
        raise Refused(400, text, reason="invalidUsage")
    before, vm.status = vm.status, "STOPPING"
    return begin(
        world, request, "delete", vm.path, target_id=vm.id, finish=vm.vanish, undo=lambda: _set_status(vm, before)
    )


# -- changes of what is written about it -----------------------------------------------------------------------------


@answers("instances.setMetadata")
def set_metadata(world: World, request: Request) -> dict[str, Any]:
    vm = find(world, request)
    judging.check_metadata(request.body)
    if request.body.get("fingerprint") != metadata_resource(vm.metadata)["fingerprint"]:
        raise fingerprint_differs("metadata")
    vm.metadata = metadata_items(request.body)
    if vm.guest:
        vm.guest.metadata_changed()
    return begin(world, request, "setMetadata", vm.path, target_id=vm.id)


@answers("instances.setLabels")
def set_labels(world: World, request: Request) -> dict[str, Any]:
    vm = find(world, request)
    judging.check_labels(request.body.get("labels", {}))
    if request.body.get("labelFingerprint") != fingerprint(vm.labels):
        raise fingerprint_differs("labels")
    vm.labels = dict(request.body.get("labels", {}))
    return begin(world, request, "setLabels", vm.path, target_id=vm.id)


@answers("instances.setDiskAutoDelete")
def set_disk_auto_delete(world: World, request: Request) -> dict[str, Any]:
    vm = find(world, request)
    for disk in vm.disks:
        if disk["deviceName"] == request.query["deviceName"]:
            disk["autoDelete"] = request.query["autoDelete"] == "true"
            return begin(world, request, "setDiskAutoDelete", vm.path, target_id=vm.id)
    raise Refused(400, f"The instance has no disk attached as '{request.query['deviceName']}'.")


# -- what the guest says ---------------------------------------------------------------------------------------------


@answers("instances.getGuestAttributes")
def get_guest_attributes(world: World, request: Request) -> dict[str, Any]:
    """All below ``queryPath`` ("hostkeys/"), or the one value that ``variableKey`` names ("guest-agent/sshable")."""
    vm = find(world, request)
    if not vm.enabled("enable-guest-attributes"):
        raise Refused(403, "Guest attributes endpoint access is disabled.")
    path, key = request.query.get("queryPath", ""), request.query.get("variableKey", "")
    answer = {"kind": "compute#guestAttributes", "selfLink": world.link(f"{vm.path}/getGuestAttributes")}
    if key:
        namespace, _, name = key.partition("/")
        if (namespace, name) not in vm.guest_attributes:
            raise _no_attribute(key)
        return {**answer, "variableKey": key, "variableValue": vm.guest_attributes[namespace, name]}
    found = [
        {"namespace": namespace, "key": name, "value": value}
        for (namespace, name), value in vm.guest_attributes.items()
        if f"{namespace}/{name}".startswith(path) and (not path or path.endswith("/") or f"{namespace}/{name}" == path)
    ]
    if not found:
        raise _no_attribute(path)
    return {**answer, "queryPath": path, "queryValue": {"items": found}}


def _no_attribute(path: str) -> Refused:
    return Refused(404, f"The resource '{path}' of type 'Guest Attribute' was not found.")


@answers("instances.getSerialPortOutput")
def get_serial_port_output(world: World, request: Request) -> dict[str, Any]:
    vm = find(world, request)
    if vm.status in ("PROVISIONING", "TERMINATED", "SUSPENDED"):
        raise not_ready(vm.path)
    contents = vm.serial.encode() if request.query.get("port", "1") == "1" else b""
    start = int(request.query.get("start", 0))
    start = max(0, len(contents) + start) if start < 0 else min(start, len(contents))
    return {
        "kind": "compute#serialPortOutput",
        "selfLink": world.link(f"{vm.path}/serialPort"),
        "contents": contents[start:].decode(errors="replace"),
        "start": str(start),
        "next": str(len(contents)),
    }


@answers("instances.getEffectiveFirewalls")
def get_effective_firewalls(world: World, request: Request) -> dict[str, Any]:
    find(world, request)
    return {"firewalls": list(world.firewalls)}


# -- helpers ---------------------------------------------------------------------------------------------------------


def find(world: World, request: Request) -> Vm:
    """The VM that the path names, by name or by number."""
    zone, wanted = _zone(world, request), request.path["instance"]
    for vm in world.vms.values():
        if vm.zone == zone and wanted in (vm.name, vm.id):
            return vm
    raise not_found(world.zone_path(zone, "instances", wanted))


def _zone(world: World, request: Request) -> str:
    zone = str(request.zone)
    if zone in world.unreachable_zones:
        raise Refused(503, f"The zone '{zone}' could not be reached.")
    return zone


def _by_name(world: World) -> list[Vm]:
    return sorted(world.vms.values(), key=lambda vm: (vm.zone, vm.name))


def _set_status(vm: Vm, status: str) -> None:
    vm.status = status
