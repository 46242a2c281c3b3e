"""How a VM ends, and what is said of it.  Pure."""

from __future__ import annotations

import time

from remote_runtime.errors import InstanceError
from remote_runtime.providers.gce.finding import AtEnd, Vm, next_step, to_make_it

GOING = ("STOPPING", "PENDING_STOP", "SUSPENDING", "DEPROVISIONING")
"""The states on the way down, which a machine leaves only to be stopped, suspended or deleted."""


def has_ended(vm: Vm) -> bool:
    """Whether it stopped, or is about to.  One that Google repairs, or starts again, comes back by itself."""
    return vm.status in GOING or next_step(vm) in ("start", "resume")


def is_being_deleted(vm: Vm, *, preempted: bool, now: float) -> bool:
    """Whether the cloud deletes it, since its end has come: then there is nothing to start again."""
    return vm.status in GOING and vm.at_end == "delete" and (preempted or _time_is_up(vm, now))


def gone(name: str, vm: Vm, *, preempted: bool, now: float) -> InstanceError:
    """The error for a VM that stopped while it was connected."""
    if is_being_deleted(vm, preempted=preempted, now=now):
        what = "was preempted, and is being deleted" if preempted else "is being deleted"
        hint = f"That was asked when it was made. {to_make_it(name, vm.zone)}"
    else:
        what = "was preempted" if preempted else f"is {vm.status.lower()}"
        hint = "`remote-runtime connect` starts it again, at the same URL; with --restart that happens by itself."
    limit = _time_is_up(vm, now) and not preempted
    cause = f" (Google {vm.at_end}s it after {vm.run_limit} s)" if limit else ""
    code = "instance_preempted" if preempted else "instance_stopped"
    return InstanceError(f"The VM {name} {what}{cause}", hint=hint, code=code)


def vanished(vm: Vm) -> InstanceError:
    """The error for a VM that was seen as ``vm`` a moment ago, and is not there any more."""
    why = "Somebody deleted it just now."
    if vm.at_end == "delete" and vm.status in GOING:
        why = "Google deletes it when it is preempted or its time is over; or somebody did."
    return InstanceError(f"The VM {vm.name} in {vm.zone} is gone", hint=f"{why} {to_make_it(vm.name, vm.zone)}")


def limit(name: str, ends: float, at_end: AtEnd, now: float) -> str:
    """When the cloud stops or deletes the VM, in words; empty if it does not, or that is not known.

    A moment that is past says only that somebody has started it since.
    """
    if ends <= now:
        return ""
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(ends))
    what = f"deletes {name}, with its disks," if at_end == "delete" else f"stops {name}"
    return f"Google {what} at {at}, as was asked when it was made"


def _time_is_up(vm: Vm, now: float) -> bool:
    return 0.0 < vm.ends <= now
