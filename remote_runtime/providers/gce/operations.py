"""What is done with VMs by the API: look for them, start them, stop them, and wait until it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from remote_runtime._threads import Deadline
from remote_runtime.model import Question
from remote_runtime.providers.gce import ending, failures, finding
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.failures import CloudError
from remote_runtime.providers.gce.finding import Found, Vm
from remote_runtime.providers.gce.zones import no_zone

POLL_SECONDS = (0.5, 1.0, 1.0, 2.0)
"""Pauses between looks at a VM that is changing its state; the last one goes on."""

AGAIN_SECONDS = 15.0
"""Between two attempts to get a machine while there is none left."""

Say = Callable[[str], None]
Check = Callable[[Vm], None]


def fetch(cloud: Cloud, zone: str, name: str, deadline: Deadline) -> Vm | None:
    """The VM in this zone, or None.

    Raises :class:`UnknownZone` if that is none.
    """
    try:
        return Vm(cloud.project, cloud.call("instances", "get", deadline, zone=zone, instance=name))
    except CloudError as error:
        if error.fault.status == 404:
            return None
        unknown = no_zone(cloud, zone, error, deadline)
        if unknown:
            raise unknown from error
        raise


def look(
    cloud: Cloud,
    name: str,
    zones: Sequence[str],
    deadline: Deadline,
    *,
    last_zone: str = "",
    ask: Question | None = None,
) -> tuple[Vm | None, Found]:
    """The VM of that name in one of the zones (none: in any), and the others that were seen on the way."""
    if zones:
        seen = [vm for zone in zones if (vm := fetch(cloud, zone, name, deadline))]
        if not seen:
            _check_project(cloud, deadline)
        found = Found(tuple(seen))
    else:
        found = everything(cloud, deadline, name=name)
    return finding.choose(name, found, zones, last_zone=last_zone, ask=ask), found


def everything(cloud: Cloud, deadline: Deadline, *, name: str = "") -> Found:
    """All VMs of the project, in all zones; those of one name if one is given."""
    only = {"filter": f'name = "{name}"'} if name else {}
    pages = cloud.pages("instances", "aggregated_list", deadline, max_results=500, **only)
    try:
        return finding.joined(finding.read_page(cloud.project, page) for page in pages)
    except CloudError as error:
        if error.fault.status != 404:
            raise
        raise _no_project(cloud, error) from error


def bring_up(
    cloud: Cloud, vm: Vm, deadline: Deadline, say: Say, *, until_up: bool = False, check: Check | None = None
) -> Vm:
    """Have it running, whatever its state is; ``say`` hears what is being done about it.

    ``until_up``: while its zone has no such machine left, try again until the deadline.  ``check`` gets the VM each
    time it is seen not to run, and raises if nothing is to be done about that.
    Raises :class:`InstanceError` if it vanishes, :class:`CloudError` if it can't be started.
    """
    last = ""
    looks = 0
    while True:
        step = finding.next_step(vm)
        if step == "use":
            return vm
        if check:
            check(vm)
        if vm.status != last:
            say(_words(vm, step))
            last = vm.status
        if step == "wait":
            rest(POLL_SECONDS[min(looks, len(POLL_SECONDS) - 1)], deadline)
            deadline.check(f"waiting for {vm.name}, which is {vm.status.lower()}")
            looks += 1
        else:
            try:
                _start(cloud, vm, step, deadline)
            except CloudError as error:
                if not (until_up and error.code == "stock_out"):
                    raise
                say(f"{error.message}: trying again")
                rest(AGAIN_SECONDS, deadline)
                deadline.check(f"waiting until {vm.zone} has a machine for {vm.name}")
        fresh = fetch(cloud, vm.zone, vm.name, deadline)
        if fresh is None:
            raise ending.vanished(vm)
        vm = fresh


def change(cloud: Cloud, vm: Vm, method: str, deadline: Deadline) -> None:
    """Start, stop, suspend, resume, reset or delete it, and wait until that is done.

    A VM that is busy with something else is waited for.
    """
    while True:
        try:
            operation = cloud.call("instances", method, deadline, zone=vm.zone, instance=vm.name)
            cloud.finish(operation, deadline)
            return
        except CloudError as error:
            if not error.fault.busy:
                raise
        deadline.check(f"waiting for {vm.name} to be done with something else")
        rest(POLL_SECONDS[-1], deadline)


def was_preempted(cloud: Cloud, vm: Vm, deadline: Deadline) -> bool:
    """Whether Google took it away since it was last started; False too if that can't be learnt."""
    wanted = f'(operationType = "compute.instances.preempted") AND (targetId = {vm.id})'
    with suppress(CloudError):
        page = next(cloud.pages("zone_operations", "list", deadline, zone=vm.zone, filter=wanted))
        started = vm.started or 0.0
        return any(
            (finding.moment(op.get("startTime") or op.get("insertTime")) or 0.0) >= started
            for op in page.get("items") or []
        )
    return False


def rest(seconds: float, deadline: Deadline) -> None:
    """Wait for so long, or until the deadline passes or is cancelled."""
    deadline.sooner(seconds).wait(threading.Event())


def _start(cloud: Cloud, vm: Vm, method: str, deadline: Deadline) -> None:
    try:
        change(cloud, vm, method, deadline)
    except CloudError as error:
        if not error.fault.sold_out:
            raise
        raise CloudError(
            f"{vm.name} can't be started: Google has no {vm.detail.partition(',')[0]} left in {vm.zone} now",
            hint="Try again later, or make another one in another zone; its disks stay where it is.",
            fault=replace(error.fault),
            code="stock_out",
            retryable=True,
        ) from error


def _check_project(cloud: Cloud, deadline: Deadline) -> None:
    """A VM that is not found may be in a project that is not found: say that then."""
    try:
        cloud.call("projects", "get", deadline)
    except CloudError as error:
        if error.fault.status != 404:
            return  # unknown, since we may not look: nothing to say
        raise _no_project(cloud, error) from error


def _no_project(cloud: Cloud, error: CloudError) -> CloudError:
    message, hint, code, retryable = failures.project_not_found(cloud.project)
    return CloudError(message, hint=hint, code=code, retryable=retryable, fault=error.fault)


def _words(vm: Vm, step: str) -> str:
    if step in ("start", "resume"):
        return f"{'Starting' if step == 'start' else 'Resuming'} {vm.name}, which is {vm.status.lower()}"
    if vm.status == "REPAIRING":
        return f"{vm.name} is being repaired by Google, after its host failed: waiting for it"
    return f"{vm.name} is {vm.status.lower()}: waiting"
