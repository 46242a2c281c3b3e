"""Making a VM: in the first zone that has one to give, once, with nothing left behind by the attempts that failed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, RemoteRuntimeError, UsageError
from remote_runtime.events import EventSink, Notice
from remote_runtime.providers.gce import finding, images, operations, spec
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.failures import CloudError
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.operations import Say, fetch, rest
from remote_runtime.providers.gce.spec import GceSpec

REQUEST_KEY = "remote-runtime-request"
"""The metadata entry that tells which attempt of ours made a VM."""

SWEEP_SECONDS = 20.0


@dataclass(frozen=True)
class Order:
    """A VM to make: ``items`` is the metadata of ours, ``owner`` who pays for it."""

    wanted: GceSpec
    source_image: str
    owner: str
    items: dict[str, str]

    def body(self, project: str, zone: str, request_id: str) -> dict[str, Any]:
        """The body of the request."""
        items = {**self.items, REQUEST_KEY: request_id}
        return spec.request_body(
            self.wanted, project=project, zone=zone, source_image=self.source_image, owner=self.owner, metadata=items
        )


def zones_for(
    cloud: Cloud, zones: Sequence[str], region: str | None, usual: str, deadline: Deadline
) -> tuple[str, ...]:
    """The zones to try, in order: those named, those of the region, or the usual one.

    Raises :class:`UsageError` (``zone_needed``, ``unknown_region``).
    """
    if zones:
        return tuple(zones)
    if region:
        pages = cloud.pages("zones", "list", deadline)
        found = [zone for page in pages for zone in page.get("items") or [] if zone.get("status", "UP") == "UP"]
        mine = sorted(zone["name"] for zone in found if zone["name"].rpartition("-")[0] == region)
        if not mine:
            raise UsageError(
                f"There is no region {region}, or no zone of it is up",
                hint="`gcloud compute regions list` shows them.",
                code="unknown_region",
            )
        return tuple(mine)
    if usual:
        return (usual,)
    raise UsageError(
        "A new VM needs a zone",
        hint="Name one or more with --zone, or all of a region with --region.",
        code="zone_needed",
    )


def find_image(cloud: Cloud, wanted: GceSpec, deadline: Deadline) -> str:
    """The path of the image that it boots, the newest of its family today.

    Raises :class:`InstanceError` (``image_not_found``).
    """
    image = images.wanted(wanted, cloud.project)
    if image.image:
        return image.image if not image.project else f"projects/{image.project}/global/images/{image.image}"
    if image.family:
        try:
            found = cloud.call("images", "get_from_family", deadline, project=image.project, family=image.family)
        except CloudError as error:
            if error.fault.status != 404:
                raise
            raise _no_image(f"There is no image family {image.family} in the project {image.project}") from error
        return images.path(found, image.project)
    listed = [
        one
        for page in cloud.pages("images", "list", deadline, project=image.project)
        for one in page.get("items") or []
    ]
    newest = images.newest_for_gpus(listed)
    if newest is None:
        raise _no_image(f"The project {image.project} has no image for GPUs any more that is known here")
    return images.path(newest, image.project)


def create(
    cloud: Cloud,
    order: Order,
    zones: Sequence[str],
    deadline: Deadline,
    *,
    say: Say,
    on_event: EventSink,
    adopt: bool,
    until_up: bool,
) -> Vm:
    """Make it in the first of the zones that has such a machine left, and return it as it runs.

    ``adopt``: one that somebody else made meanwhile is taken; else it is :class:`InstanceError` (``instance_exists``).
    ``until_up``: begin anew while all zones are sold out.
    Raises :class:`CloudError`; ``stock_out`` if no zone has one left.
    """
    while True:
        problems: dict[str, CloudError] = {}
        for zone in zones:
            if _hopeless(zone, problems):
                continue
            try:
                say(f"Creating {order.wanted.name} in {zone}")
                return _attempt(cloud, order, zone, deadline, on_event=on_event, adopt=adopt)
            except CloudError as error:
                if not (_elsewhere(error) and len(zones) > 1) and not (error.fault.sold_out and until_up):
                    raise
                problems[zone] = error
                say(f"{zone}: {error.message}")
        sold_out = any(error.fault.sold_out for error in problems.values())
        if not (until_up and sold_out):
            raise _nowhere(order.wanted.name, problems)
        say("Every zone is sold out: trying again")
        rest(operations.AGAIN_SECONDS, deadline)
        deadline.check(f"looking for a zone that has a machine for {order.wanted.name}")


def _attempt(cloud: Cloud, order: Order, zone: str, deadline: Deadline, *, on_event: EventSink, adopt: bool) -> Vm:
    request_id = str(uuid.uuid4())
    name = order.wanted.name
    body = order.body(cloud.project, zone, request_id)
    try:
        operation = cloud.call("instances", "insert", deadline, zone=zone, body=body, request_id=request_id)
        cloud.finish(operation, deadline)
        vm = fetch(cloud, zone, name, deadline)
        if vm is None:
            raise InstanceError(
                f"The VM {name} vanished as soon as it was made", hint="Try again, or in another zone.", retryable=True
            )
        return vm
    except CloudError as error:
        winner = fetch(cloud, zone, name, deadline) if error.fault.status == 409 else None
        if winner and (_is_ours(winner, request_id) or adopt):
            return winner
        if winner:
            raise finding.taken(winner) from error
        _sweep(cloud, zone, name, request_id, on_event)
        raise
    except BaseException:  # the deadline, or Ctrl-C: what is being made must not go on to cost
        _sweep(cloud, zone, name, request_id, on_event)
        raise


def _sweep(cloud: Cloud, zone: str, name: str, request_id: str, on_event: EventSink) -> None:
    """Delete what this attempt left, or name it if that fails."""
    deadline = Deadline(SWEEP_SECONDS)
    try:
        left = fetch(cloud, zone, name, deadline)
        if left is None or not _is_ours(left, request_id):
            return
        cloud.call("instances", "delete", deadline, zone=zone, instance=name)
        on_event(Notice("create_abandoned", f"The VM {name} in {zone}, which a failed attempt left, is being deleted"))
    except RemoteRuntimeError as error:
        command = f"gcloud compute instances delete {name} --zone={zone} --project={cloud.project}"
        text = (
            f"A VM {name} may be left in {zone}: it could not be deleted ({error.message}). If it is there: {command}"
        )
        on_event(Notice("create_abandoned", text, "warning"))


def _is_ours(vm: Vm, request_id: str) -> bool:
    return vm.metadata.get(REQUEST_KEY) == request_id


def _elsewhere(error: CloudError) -> bool:
    """Whether another zone may do what this one refuses."""
    return error.fault.sold_out or error.code == "quota_exceeded" or error.fault.status == 404


def _hopeless(zone: str, problems: dict[str, CloudError]) -> bool:
    """Whether a quota that is used up in a zone's region has been met already."""
    region = zone.rpartition("-")[0]
    return any(e.code == "quota_exceeded" and z.rpartition("-")[0] == region for z, e in problems.items())


def _nowhere(name: str, problems: dict[str, CloudError]) -> CloudError:
    last = next((e for e in problems.values() if e.code == "quota_exceeded"), list(problems.values())[-1])
    sold_out = [zone for zone, error in problems.items() if error.fault.sold_out]
    if len(problems) == 1 or not sold_out:
        return last
    others = "".join(f"; {zone}: {error.message}" for zone, error in problems.items() if zone not in sold_out)
    with suppress(StopIteration):
        last = next(error for error in problems.values() if error.fault.sold_out)
    return CloudError(
        f"No zone has a machine left for {name}: {', '.join(sold_out)}{others}",
        hint=last.hint,
        code="stock_out",
        retryable=True,
        fault=last.fault,
    )


def _no_image(message: str) -> InstanceError:
    return InstanceError(
        message,
        hint="`gcloud compute images list` shows the public ones; name one with --image or --image-family.",
        code="image_not_found",
    )
