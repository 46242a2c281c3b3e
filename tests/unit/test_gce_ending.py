"""How a VM ends, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from remote_runtime.providers.gce.ending import gone, has_ended, is_being_deleted, limit, vanished
from remote_runtime.providers.gce.finding import Vm, moment

STARTED = "2026-01-01T10:00:00.000-08:00"
START = moment(STARTED) or 0.0


def vm(status: str, at_end: str = "STOP", **fields: Any) -> Vm:
    """One that Google ends a minute after its start."""
    scheduling = {"maxRunDuration": {"seconds": "60"}, "instanceTerminationAction": at_end}
    raw = {"name": "trainer", "zone": "https://x/zones/us-central1-a", "lastStartTimestamp": STARTED}
    return Vm("p", {**raw, "status": status, "scheduling": scheduling, **fields})


@pytest.mark.parametrize(
    ("ended", "statuses"),
    [
        (True, "STOPPING PENDING_STOP SUSPENDING DEPROVISIONING TERMINATED STOPPED SUSPENDED"),
        (False, "RUNNING REPAIRING PENDING PROVISIONING STAGING SOMETHING_NEW"),
    ],
)
def test_what_google_brings_back_has_not_ended(ended: bool, statuses: str) -> None:
    assert {has_ended(vm(status)) for status in statuses.split()} == {ended}


def test_the_limit_is_the_cause_only_once_it_is_over() -> None:
    by_hand = gone("trainer", vm("TERMINATED"), preempted=False, now=START + 59)
    assert by_hand.code == "instance_stopped"
    assert by_hand.message == "The VM trainer is terminated"
    by_google = gone("trainer", vm("STOPPING"), preempted=False, now=START + 60)
    assert by_google.message == "The VM trainer is stopping (Google stops it after 60 s)"
    for error in (by_hand, by_google):
        assert "starts it again" in error.hint
        assert not error.retryable
    assert gone("trainer", vm("STOPPING", scheduling={}), preempted=False, now=START + 60).message.endswith("stopping")


def test_preempted_is_told_apart() -> None:
    error = gone("trainer", vm("STOPPING"), preempted=True, now=START + 60)
    assert (error.code, error.message) == ("instance_preempted", "The VM trainer was preempted")
    assert "starts it again" in error.hint


@pytest.mark.parametrize(("preempted", "seconds"), [(True, 5), (False, 60)])
def test_nobody_is_promised_that_a_deleted_one_starts_again(preempted: bool, seconds: float) -> None:
    going = vm("STOPPING", "DELETE")
    assert is_being_deleted(going, preempted=preempted, now=START + seconds)
    error = gone("trainer", going, preempted=preempted, now=START + seconds)
    assert "is being deleted" in error.message
    assert "starts it again" not in error.hint
    assert "--create --zone us-central1-a trainer" in error.hint


def test_one_that_somebody_stops_by_hand_is_not_deleted() -> None:
    assert not is_being_deleted(vm("STOPPING", "DELETE"), preempted=False, now=START + 59)
    assert not is_being_deleted(vm("TERMINATED", "DELETE"), preempted=True, now=START + 60)
    assert "starts it again" in gone("trainer", vm("STOPPING", "DELETE"), preempted=False, now=START + 59).hint


def test_who_may_have_deleted_it() -> None:
    assert "Somebody deleted it" in vanished(vm("STOPPING")).hint
    assert "Google deletes it" in vanished(vm("STOPPING", "DELETE")).hint
    assert vanished(vm("STAGING", "DELETE")).code == "instance_not_found"


def test_the_end_is_what_google_plans_for_this_run() -> None:
    def planned(text: str) -> float:
        return vm("RUNNING", resourceStatus={"scheduling": {"terminationTimestamp": text}}).ends

    assert planned("2026-01-01T10:01:05.000-08:00") == START + 65
    assert planned("2025-12-31T10:00:00.000-08:00") == START + 60  # that was an earlier run
    assert vm("RUNNING").ends == START + 60
    assert vm("RUNNING", scheduling={}).ends == 0.0
    assert vm("RUNNING", lastStartTimestamp="").ends == 0.0


def test_an_end_that_is_past_is_not_told() -> None:
    assert limit("trainer", START, "stop", START) == ""
    assert limit("trainer", 0.0, "stop", START) == ""
    assert limit("trainer", START + 1, "stop", START).startswith("Google stops trainer at 20")
    assert "deletes trainer, with its disks," in limit("trainer", START + 1, "delete", START)
