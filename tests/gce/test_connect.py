"""The whole story with VMs of the stand-in: from a name to a URL that outlives the VM's accidents."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from remote_runtime import Settings
from remote_runtime.errors import InstanceError, NetworkError
from remote_runtime.events import Event, LinkChanged, Notice
from remote_runtime.machine import Machine
from remote_runtime.providers.gce import GceSpec
from tests.gce.cloud import Cloud, Vm, stock_out
from tests.gce.runtime import SECONDS, answers, give_jupyter, join

A = "us-central1-a"
PUBLISHES = {"enable-guest-attributes": "TRUE"}


def running(cloud: Cloud, **fields: Any) -> Vm:
    vm = cloud.vm("trainer", **{"metadata": PUBLISHES, **fields})
    cloud.wait_for_boot(vm)
    give_jupyter(vm)
    cloud.forget_calls()
    return vm


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_url_answers_and_is_the_same_again(cloud: Cloud) -> None:
    running(cloud)
    with join([]) as runtime:
        assert answers(runtime)
        url = runtime.url
    cloud.forget_calls()
    with join([]) as runtime:
        assert answers(runtime)
        assert runtime.url == url
    assert cloud.methods == []  # nobody was asked


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google is asked again soon."""
    for name in ("ASK_EVERY_SECONDS", "SOLD_OUT_SECONDS"):
        monkeypatch.setattr(f"remote_runtime.providers.gce.access.{name}", 0.3)


def outages(events: list[Event]) -> list[str]:
    """Why the link was down, as it was told."""
    return [event.reason for event in events if isinstance(event, LinkChanged) and event.state == "reconnecting"]


@pytest.mark.usefixtures("impatient")
def test_preempted_vm_comes_back_at_the_same_url_though_its_zone_is_sold_out(cloud: Cloud) -> None:
    vm = running(cloud)
    events: list[Event] = []
    with join(events, restart=True) as runtime:
        address, url = vm.address, runtime.url
        cloud.inject("instances.start", stock_out(cloud.project, A), times=2)
        cloud.preempt(vm)
        until(lambda: bool(outages(events)) and runtime.state == "connected")
        assert answers(runtime)
        assert runtime.url == url
        assert vm.address not in ("", address)
    assert cloud.unused_faults == []
    assert any("Google has no e2-standard-4 left in us-central1-a" in reason for reason in outages(events))
    [told] = [event for event in events if isinstance(event, Notice) and event.code == "instance_preempted"]
    assert told.level == "warning"
    assert "was preempted" in told.text
    assert "starting it again" in told.text


@pytest.mark.usefixtures("impatient")
def test_close_ends_the_patience(cloud: Cloud) -> None:
    vm = running(cloud)
    events: list[Event] = []
    with join(events, restart=True):
        cloud.inject("instances.start", stock_out(cloud.project, A), times=999)
        cloud.preempt(vm)
        until(lambda: any("Google has no" in reason for reason in outages(events)))
        closing = time.monotonic()
    assert time.monotonic() - closing < 10
    starts = cloud.methods.count("instances.start")
    assert vm.status == "TERMINATED"
    time.sleep(1.0)  # three of its pauses
    assert cloud.methods.count("instances.start") == starts
    cloud.world.faults.clear()


def test_deleted_vm_is_not_made_anew_behind_ones_back(cloud: Cloud) -> None:
    """Whoever deleted it meant it; and nobody was asked whether to pay for another one."""
    running(cloud)
    with join([], create=GceSpec("trainer"), restart=True) as runtime:
        with cloud.world.changed:
            cloud.vms[0].vanish()
        with pytest.raises(InstanceError) as caught:
            runtime.wait(SECONDS)
        assert caught.value.code == "instance_not_found"
    assert cloud.vms == []


def test_machine_that_comes_back_needs_no_api(cloud: Cloud) -> None:
    vm = running(cloud)
    events: list[Event] = []
    with join(events) as runtime:
        cloud.fail("*", times=999, status=401, code="authError")
        with cloud.world.changed:
            vm.reset()
        until(lambda: any(isinstance(event, LinkChanged) and event.state == "reconnecting" for event in events))
        until(lambda: runtime.state == "connected")
        assert answers(runtime)
    cloud.world.faults.clear()


def test_deleted_vm_ends_the_link(cloud: Cloud) -> None:
    running(cloud)
    with join([]) as runtime:
        with cloud.world.changed:
            cloud.vms[0].vanish()
        with pytest.raises(InstanceError) as caught:
            runtime.wait(SECONDS)
        assert caught.value.code == "instance_not_found"


def test_preempted_vm_is_told_apart(cloud: Cloud) -> None:
    vm = running(cloud)
    with join([]) as runtime:
        cloud.preempt(vm)
        with pytest.raises(InstanceError) as caught:
            runtime.wait(SECONDS)
        assert caught.value.code == "instance_preempted"
        assert "--restart" in caught.value.hint
        assert runtime.state == "failed"


def test_closed_firewall_is_named_with_its_rule(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    running(cloud)
    cloud.set_firewall()
    monkeypatch.setattr("remote_runtime.providers.gce.patience.BOOT_SECONDS", 0.0)
    monkeypatch.setattr("remote_runtime.ssh.dial.ATTEMPT_SECONDS", 2.0)
    with pytest.raises(NetworkError) as caught:
        join([])
    assert caught.value.code == "firewall_closed"
    assert "gcloud compute firewall-rules create" in caught.value.hint
    assert "0.0.0.0/0" not in caught.value.hint


def test_firewall_that_may_not_be_read_is_unknown(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    running(cloud)
    cloud.set_firewall()
    cloud.fail("firewalls.list", times=9, status=403)
    monkeypatch.setattr("remote_runtime.providers.gce.patience.BOOT_SECONDS", 0.0)
    monkeypatch.setattr("remote_runtime.ssh.dial.ATTEMPT_SECONDS", 2.0)
    with pytest.raises(NetworkError) as caught:
        join([])
    assert caught.value.code == "unreachable"
    assert "Does a firewall rule let you in?" in caught.value.hint


def test_status_and_stop_of_the_machine(cloud: Cloud) -> None:
    vm = running(cloud)
    with join([]):
        pass
    machine = Machine("trainer", user="ada", settings=Settings.load())
    status = machine.status()
    assert status.instance == "running"
    assert status.server is not None
    assert machine.stop(machine=True) is True
    assert vm.status == "TERMINATED"
    assert machine.status().instance == "stopped"
