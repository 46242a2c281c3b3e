"""What becomes of a link when its VM stops, is repaired, or comes to its end; and what is said of that."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, NetworkError, TimedOut
from remote_runtime.events import Event, LinkChanged, Notice, log_event
from remote_runtime.model import Instance
from remote_runtime.providers.gce import GceOptions, GceProvider
from remote_runtime.providers.gce.memory import Known, Memory
from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud, Vm
from tests.gce.runtime import answers, join
from tests.gce.test_connect import outages, until
from tests.gce.test_connect import running as running_with_jupyter

SECONDS = 20.0
A, WEST = "us-central1-a", "us-west1-b"
HOST_KEY = "SHA256:" + "A" * 43
HOUR = {"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": "STOP"}
SPOT = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", "automaticRestart": False}


def provider(**options: Any) -> GceProvider:
    return GceProvider(Settings.load(), GceOptions(user="ada", **{"host_key": HOST_KEY, **options}))


def connected(events: list[Event] | None = None, **options: Any) -> Instance:
    """The VM after a login that went well."""
    sink = (events if events is not None else []).append
    instance = provider(**options).ensure("trainer", Deadline(SECONDS), sink)
    instance.resolve(Deadline(SECONDS))
    instance.judge(None, Deadline(SECONDS))
    return instance


def come_back(instance: Instance, seconds: float = SECONDS) -> None:
    """What a link does when the connection is cut and the first attempt to log in fails."""
    with pytest.raises(NetworkError):
        instance.judge(NetworkError("It was cut", code="connection_lost"), Deadline(SECONDS))
    instance.resolve(Deadline(seconds))


def put(api: Cloud, vm: Vm, status: str) -> None:
    with api.world.changed:
        vm.status = status


def told(events: list[Event], code: str) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice) and event.code == code]


# -- it comes back by itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["REPAIRING", "PROVISIONING", "STAGING", "PENDING"])
def test_a_vm_that_google_brings_back_is_waited_for(api: Cloud, status: str) -> None:
    vm = api.vm("trainer")
    instance = connected()
    put(api, vm, status)
    with api.world.changed:
        api.world.when(0.3, vm.power_on)
    come_back(instance)
    assert vm.status == "RUNNING"
    assert "instances.start" not in api.methods


def test_a_repair_that_takes_long_is_no_end(api: Cloud) -> None:
    vm = api.vm("trainer")
    instance = connected()
    put(api, vm, "REPAIRING")
    with pytest.raises(TimedOut) as caught:
        come_back(instance, seconds=0.7)
    assert caught.value.retryable


def test_a_repair_that_fails_does_not_start_it_unasked(api: Cloud) -> None:
    vm = api.vm("trainer")
    instance = connected()
    put(api, vm, "REPAIRING")
    with api.world.changed:
        api.world.when(0.3, vm.power_off)
    with pytest.raises(InstanceError) as caught:
        come_back(instance)
    assert caught.value.code == "instance_stopped"
    assert not caught.value.retryable
    assert "instances.start" not in api.methods


@pytest.mark.parametrize("status", ["STOPPING", "PENDING_STOP", "SUSPENDING", "DEPROVISIONING", "TERMINATED"])
def test_a_vm_that_stops_is_an_end(api: Cloud, status: str) -> None:
    vm = api.vm("trainer")
    instance = connected()
    put(api, vm, status)
    with pytest.raises(InstanceError) as caught:
        come_back(instance)
    assert caught.value.code == "instance_stopped"


def test_a_link_outlives_the_failure_of_its_host(cloud: Cloud) -> None:
    """Without --restart: it was made to be restarted by Google."""
    vm = running_with_jupyter(cloud)
    events: list[Event] = []
    with join(events) as runtime:
        url = runtime.url
        with cloud.world.changed:
            vm.power_off("REPAIRING")
            cloud.world.when(1.5, vm.power_on)
        until(lambda: bool(outages(events)) and runtime.state == "connected", 30.0)
        assert answers(runtime)
        assert runtime.url == url
    assert "failed" not in [event.state for event in events if isinstance(event, LinkChanged)]


# -- it is deleted at its end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [True, False])
def test_nothing_starts_a_preempted_vm_that_is_being_deleted(api: Cloud, restart: bool) -> None:
    vm = api.vm("trainer", scheduling={**SPOT, "instanceTerminationAction": "DELETE"})
    events: list[Event] = []
    instance = connected(events, restart=restart)
    api.preempt(vm, seconds=1.0)
    with pytest.raises(InstanceError) as caught:
        come_back(instance)
    assert caught.value.code == "instance_preempted"
    assert "is being deleted" in caught.value.message
    assert "--create" in caught.value.hint
    assert not told(events, "instance_preempted")
    assert api.methods[-1] == "zoneOperations.list", "it was waited for"


def test_a_vm_that_vanishes_at_its_end_is_told_so(api: Cloud) -> None:
    vm = api.vm("trainer", scheduling={**SPOT, "instanceTerminationAction": "DELETE"})
    api.preempt(vm, seconds=0.5)
    with pytest.raises(InstanceError) as caught:
        connected()
    assert "Google deletes it when it is preempted" in caught.value.hint


# -- when it ends -----------------------------------------------------------------------------------------------------


def test_a_new_end_is_told_when_it_was_started_again(api: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = api.vm("trainer", scheduling=HOUR)
    events: list[Event] = []
    instance = connected(events, restart=True)
    assert len(told(events, "run_limit")) == 1
    instance.judge(None, Deadline(SECONDS))
    assert len(told(events, "run_limit")) == 1, "nothing is new"
    with api.world.changed:
        vm.power_off()
        vm.scheduling["maxRunDuration"] = {"seconds": "7200"}
    come_back(instance)
    instance.judge(None, Deadline(SECONDS))
    first, second = told(events, "run_limit")
    assert first != second


def known() -> Known:
    found = Memory(Settings.load().state_dir).load("trainer")
    assert found is not None
    return found


def test_our_own_verbs_keep_the_end_up_to_date(api: Cloud) -> None:
    vm = api.vm("trainer", scheduling=HOUR)
    connected()
    assert known().stops_at == pytest.approx(time.time() + 3600, abs=30)
    provider().stop("trainer", Deadline(SECONDS))
    assert known().stops_at == 0.0
    with api.world.changed:
        vm.scheduling["maxRunDuration"] = {"seconds": "7200"}
    provider().start("trainer", Deadline(SECONDS), log_event)
    assert known().stops_at == pytest.approx(time.time() + 7200, abs=30)
    provider().change("suspend", "trainer", Deadline(SECONDS))
    assert known().stops_at == 0.0
    provider().change("resume", "trainer", Deadline(SECONDS))
    assert known().stops_at == pytest.approx(time.time() + 7200, abs=30)


def test_an_end_that_is_past_is_not_told_and_nobody_is_asked(api: Cloud) -> None:
    api.vm("trainer", scheduling=HOUR)
    connected()
    Memory(Settings.load().state_dir).save("trainer", dataclasses.replace(known(), stops_at=time.time() - 60))
    api.forget_calls()
    events: list[Event] = []
    connected(events)
    assert told(events, "run_limit") == []
    assert api.methods == []


# -- where it may be besides ------------------------------------------------------------------------------------------


def test_zones_that_could_not_be_asked_are_told_beside_a_hit(api: Cloud) -> None:
    api.vm("trainer", zone=A)
    api.vm("trainer", zone=WEST)
    api.world.unreachable_zones.add(WEST)
    events: list[Event] = []
    assert provider().find("trainer", Deadline(SECONDS), events.append) is not None
    [text] = told(events, "zones_unreachable")
    assert f"found in {A}" in text
    assert WEST in text
    events.clear()
    assert provider(zones=(A,)).find("trainer", Deadline(SECONDS), events.append) is not None
    assert events == []
