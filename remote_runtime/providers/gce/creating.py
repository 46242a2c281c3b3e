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
from remote_runtime.providers.gce.zones import NotInZone, UnknownZone, nowhere, why_refused

REQUEST_KEY = "remote-runtime-request"
"""The metadata entry that tells which attempt of ours made a VM."""

SWEEP_SECONDS = 20.0
"""What is spent at most on finding and deleting a VM that an attempt left, or may be about to leave."""


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
        for page in cloud.pages(
            "images", "list", deadline, project=image.project, filter=images.GPU_FILTER, max_results=500
        )
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
    zones = list(zones)
    while True:
        problems: dict[str, CloudError] = {}
        for zone in zones:
            if _hopeless(zone, problems):
                continue
            try:
                say(f"Creating {order.wanted.name} in {zone}")
                return _attempt(cloud, order, zone, deadline, say=say, on_event=on_event, adopt=adopt)
            except CloudError as error:
                if not (_elsewhere(error, problems) and len(zones) > 1) and not (error.fault.sold_out and until_up):
                    raise
                problems[zone] = error
                say(f"{zone}: {error.message}")
        sold_out = any(error.fault.sold_out for error in problems.values())
        if not (until_up and sold_out):
            raise _nowhere(order.wanted.name, problems)
        zones = [zone for zone in zones if not isinstance(problems.get(zone), NotInZone)]
        say("Every zone is sold out: trying again")
        rest(operations.AGAIN_SECONDS, deadline)
        deadline.check(f"looking for a zone that has a machine for {order.wanted.name}")


@dataclass(frozen=True)
class _Attempt:
    """One request for a VM."""

    cloud: Cloud
    zone: str
    name: str
    request_id: str

    def fetch(self, deadline: Deadline) -> Vm | None:
        """The VM of that name, whoever made it."""
        return fetch(self.cloud, self.zone, self.name, deadline)

    def made(self, vm: Vm) -> bool:
        """Whether the VM is of this attempt."""
        return vm.metadata.get(REQUEST_KEY) == self.request_id


def _attempt(
    cloud: Cloud, order: Order, zone: str, deadline: Deadline, *, say: Say, on_event: EventSink, adopt: bool
) -> Vm:
    attempt = _Attempt(cloud, zone, order.wanted.name, str(uuid.uuid4()))
    name, request_id = attempt.name, attempt.request_id
    body = order.body(cloud.project, zone, request_id)
    deadline.check(f"making {name}")  # what was never asked for needs no search
    try:
        operation = cloud.call("instances", "insert", deadline, zone=zone, body=body, request_id=request_id)
        cloud.finish(operation, deadline)
        vm = attempt.fetch(deadline)
        if vm is None:
            raise InstanceError(
                f"The VM {name} vanished as soon as it was made", hint="Try again, or in another zone.", retryable=True
            )
        return vm
    except CloudError as error:
        winner = attempt.fetch(deadline) if error.fault.status == 409 else None
        if winner and (attempt.made(winner) or adopt):
            return winner
        if winner:
            raise finding.taken(winner) from error
        _sweep(attempt, say, on_event, settled=_settles(error))
        reason = why_refused(cloud, zone, body, error, deadline)
        if reason:
            raise reason from error
        raise
    except BaseException:  # the deadline, or Ctrl-C: what is being made must not go on to cost
        _sweep(attempt, say, on_event, settled=False)
        raise


def _sweep(attempt: _Attempt, say: Say, on_event: EventSink, *, settled: bool) -> None:
    """Delete what this attempt left, or name it if that fails.

    Unless it is ``settled`` what becomes of the request, its VM may still be to come, and is waited for.
    """
    deadline = Deadline(SWEEP_SECONDS)
    cloud, zone, name = attempt.cloud, attempt.zone, attempt.name
    command = f"gcloud compute instances delete {name} --zone={zone} --project={cloud.project}"
    may_be_left = f"A VM {name} may be left in {zone}: {{}}. If it is there: {command}"
    try:
        if not _leaves_one(attempt, say, deadline, settled=settled):
            return
        cloud.call("instances", "delete", deadline, zone=zone, instance=name)
        on_event(Notice("create_abandoned", f"The VM {name} in {zone}, which a failed attempt left, is being deleted"))
    except UnknownZone:
        return  # where nothing can be
    except RemoteRuntimeError as error:
        text = may_be_left.format(f"it could not be found or deleted ({error.message})")
        on_event(Notice("create_abandoned", text, "warning"))
    except BaseException:  # Ctrl-C once more
        on_event(Notice("create_abandoned", may_be_left.format("looking for it was cut short"), "warning"))
        raise


def _leaves_one(attempt: _Attempt, say: Say, deadline: Deadline, *, settled: bool) -> bool:
    """Whether there is a VM of this attempt; :class:`TimedOut` if that can't be known."""
    looks = 0
    while True:
        over = settled or _is_over(attempt, deadline)
        vm = attempt.fetch(deadline)
        if vm or over:
            return vm is not None and attempt.made(vm)
        if not looks:
            say(f"Waiting for what becomes of {attempt.name}, to leave nothing behind")
        rest(operations.POLL_SECONDS[min(looks, len(operations.POLL_SECONDS) - 1)], deadline)
        deadline.check("waiting for what becomes of it")
        looks += 1


def _is_over(attempt: _Attempt, deadline: Deadline) -> bool:
    """Whether Google has done, or given up, what was asked for; False too if it does not know of it, or does not tell.

    The operation is looked for among the newest, since its name came with an answer that may have got lost.
    """
    with suppress(CloudError):
        where: dict[str, Any] = {"zone": attempt.zone, "order_by": "creationTimestamp desc", "max_results": 100}
        newest = attempt.cloud.call("zone_operations", "list", deadline, **where).get("items") or []
        return any(op.get("clientOperationId") == attempt.request_id and op.get("status") == "DONE" for op in newest)
    return False


def _settles(error: CloudError) -> bool:
    """Whether nothing comes of a request that ended so; without an answer, or with a failure's, it may go on."""
    return error.fault.operation or 400 <= error.fault.status < 500


def _elsewhere(error: CloudError, problems: dict[str, CloudError]) -> bool:
    """Whether another zone may do what this one refuses; ``problems`` are those of the zones before it."""
    fault = error.fault
    if error.code == "bad_request":  # a request that is good in another zone is bad because of this one
        return any(earlier.fault.operation for earlier in problems.values())
    return fault.sold_out or error.code == "quota_exceeded" or isinstance(error, NotInZone) or fault.status == 404


def _hopeless(zone: str, problems: dict[str, CloudError]) -> bool:
    """Whether a quota that is used up in a zone's region has been met already."""
    region = zone.rpartition("-")[0]
    return any(e.code == "quota_exceeded" and z.rpartition("-")[0] == region for z, e in problems.items())


def _nowhere(name: str, problems: dict[str, CloudError]) -> CloudError:
    """The error when no zone gave one: that which says most of what may help."""
    sold_out = [zone for zone, error in problems.items() if error.fault.sold_out]
    if len(problems) == 1 or not sold_out:
        return _most_telling(list(problems.values()))
    others = "".join(f"; {zone}: {error.message}" for zone, error in problems.items() if zone not in sold_out)
    first = problems[sold_out[0]]
    return CloudError(
        f"No zone has a machine left for {name}: {', '.join(sold_out)}{others}",
        hint=first.hint,
        code="stock_out",
        retryable=True,
        fault=first.fault,
    )


def _most_telling(errors: list[CloudError]) -> CloudError:
    quota = [error for error in errors if error.code == "quota_exceeded"]
    lacking = [error for error in errors if isinstance(error, NotInZone)]
    if len(lacking) == len(errors):
        first = lacking[0]
        return CloudError(nowhere(lacking), hint=first.hint, code=first.code, fault=first.fault)
    return quota[0] if quota else [error for error in errors if error not in lacking][-1]


def _no_image(message: str) -> InstanceError:
    return InstanceError(
        message,
        hint="`gcloud compute images list` shows the public ones; name one with --image or --image-family.",
        code="image_not_found",
    )
