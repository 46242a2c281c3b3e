"""Asynchronous operations: PENDING, RUNNING, DONE."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tests.gce.cloud.answers import Request, answers, page
from tests.gce.cloud.faults import OperationFails, Slow
from tests.gce.cloud.refusals import not_found

if TYPE_CHECKING:
    from tests.gce.cloud.world import World

LONGEST_WAIT = 120.0
"""Seconds that a wait lasts at most."""


@dataclass
class Operation:
    """One operation; ``zone`` is None for a global one."""

    zone: str | None
    resource: dict[str, Any]

    @property
    def done(self) -> bool:
        return bool(self.resource["status"] == "DONE")


def begin(
    world: World,
    request: Request,
    kind: str,
    target: str,
    *,
    target_id: str = "",
    halfway: Callable[[], None] = lambda: None,
    finish: Callable[[], None] = lambda: None,
    undo: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Start an operation of ``kind`` ("insert") on the resource with the path ``target``; it goes on by itself.

    ``halfway`` runs when it is RUNNING; then ``finish``, or ``undo`` if a test ordered that the operation fails.
    All three run with the world's lock held.
    """
    zone = request.zone
    operation = new(world, kind, target, zone=zone, target_id=target_id, user=request.user)
    if request.request_id:
        operation.resource["clientOperationId"] = request.request_id
    slow = world.faults.take(request.method, zone, Slow)
    failure = world.faults.take(request.method, zone, OperationFails)
    seconds = world.operation_seconds + (slow.seconds if slow else 0.0)

    def run() -> None:
        with world.changed:
            operation.resource.update(status="RUNNING", progress=50, startTime=timestamp())
            halfway()
            world.changed.notify_all()

    def end() -> None:
        with world.changed:
            operation.resource.update(status="DONE", progress=100, endTime=timestamp())
            if failure:
                operation.resource.update(failure.fields())
                undo()
            else:
                finish()
            world.changed.notify_all()

    world.clock.after(seconds * 0.4, run)
    world.clock.after(seconds, end)
    return dict(operation.resource)


def new(
    world: World, kind: str, target: str, *, zone: str | None, target_id: str = "", user: str = "system"
) -> Operation:
    """Write an operation down, PENDING."""
    name = (
        f"operation-{time.time_ns() // 1_000_000}-{secrets.token_hex(6)}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
    )
    place = f"zones/{zone}" if zone else "global"
    resource: dict[str, Any] = {
        "kind": "compute#operation",
        "id": world.new_id(),
        "name": name,
        "operationType": kind,
        "targetLink": world.link(target),
        "status": "PENDING",
        "user": user,
        "progress": 0,
        "insertTime": timestamp(),
        "selfLink": world.link(f"projects/{world.project}/{place}/operations/{name}"),
    }
    if target_id:
        resource["targetId"] = target_id
    if zone:
        resource["zone"] = world.link(f"projects/{world.project}/zones/{zone}")
    operation = Operation(zone, resource)
    world.operations[name] = operation
    return operation


def record(world: World, kind: str, target: str, zone: str, target_id: str, message: str) -> None:
    """Write down what the cloud did by itself ("compute.instances.preempted"), done."""
    operation = new(world, kind, target, zone=zone, target_id=target_id)
    operation.resource.update(
        status="DONE", progress=100, startTime=timestamp(), endTime=timestamp(), statusMessage=message
    )


@answers("zoneOperations.get", "globalOperations.get")
def get(world: World, request: Request) -> dict[str, Any]:
    return dict(_find(world, request).resource)


@answers("zoneOperations.wait", "globalOperations.wait")
def wait(world: World, request: Request) -> dict[str, Any]:
    operation = _find(world, request)
    world.changed.wait_for(lambda: operation.done or world.closed, timeout=LONGEST_WAIT)
    return dict(operation.resource)


@answers("zoneOperations.list", "globalOperations.list")
def list_operations(world: World, request: Request) -> dict[str, Any]:
    newest_first = request.query.get("orderBy") == "creationTimestamp desc"
    operations = list(world.operations.values())
    if newest_first:
        operations.reverse()
    found = [dict(operation.resource) for operation in operations if operation.zone == request.zone]
    place = f"zones/{request.zone}" if request.zone else "global"
    return page(world, request, "compute#operationList", f"projects/{world.project}/{place}/operations", found)


def timestamp(at: float | None = None) -> str:
    """RFC 3339, as the API writes it; ``at`` is a time in seconds since the epoch, now by default."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, timezone.utc)
    return moment.isoformat(timespec="milliseconds")


def _find(world: World, request: Request) -> Operation:
    name = request.path["operation"]
    for operation in world.operations.values():
        if operation.zone == request.zone and name in (operation.resource["name"], operation.resource["id"]):
            return operation
    place = f"zones/{request.zone}" if request.zone else "global"
    raise not_found(f"projects/{world.project}/{place}/operations/{name}")
