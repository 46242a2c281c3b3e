"""Which VM is meant, and what comes next for it."""

from __future__ import annotations

from typing import Any

import pytest

from remote_runtime.errors import InstanceError, RemoteRuntimeError, UsageError
from remote_runtime.providers.gce.finding import (
    STEPS,
    Found,
    Vm,
    choose,
    is_about,
    joined,
    next_step,
    not_found,
    not_sure,
    read_page,
)


def vm(name: str = "trainer", zone: str = "us-central1-a", status: str = "RUNNING", **fields: Any) -> Vm:
    return Vm("p", {"name": name, "zone": f"https://x/zones/{zone}", "id": "42", "status": status, **fields})


def test_every_published_status_leads_somewhere() -> None:
    published = (
        "DEPROVISIONING PENDING PENDING_STOP PROVISIONING REPAIRING RUNNING "
        "STAGING STOPPED STOPPING SUSPENDED SUSPENDING TERMINATED"
    )
    assert sorted(STEPS) == published.split()
    assert next_step(vm(status="SOMETHING_NEW")) == "wait"
    assert next_step(vm(status="TERMINATED")) == "start"
    assert vm(status="SUSPENDED").state == "stopped"
    assert vm(status="REPAIRING").state == "unknown"


def test_pages_tell_hits_and_silent_zones() -> None:
    page = {
        "items": {
            "zones/a": {"instances": [dict(vm().raw)]},
            "zones/b": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
            "zones/c": {"warning": {"code": "UNREACHABLE"}},
        }
    }
    found = joined([read_page("p", page), read_page("p", {}), read_page("p", page)])
    assert [one.name for one in found.vms] == ["trainer", "trainer"]
    assert found.unreachable == ("c",)


def test_one_hit_is_taken() -> None:
    only = vm()
    assert choose("trainer", Found((only, vm("other"))), (), ask=None) is only
    assert choose("trainer", Found((vm("other"),)), (), ask=None) is None
    assert choose("trainer", Found((only,)), ("europe-west4-a",), ask=None) is None


def test_silent_zone_is_not_an_absent_vm() -> None:
    with pytest.raises(InstanceError) as caught:
        choose("trainer", Found((), ("us-west1-b",)), (), ask=None)
    assert caught.value.code == "zones_unreachable"
    assert caught.value.retryable
    assert "us-west1-b" in caught.value.message
    assert choose("trainer", Found((), ("us-west1-b",)), ("us-central1-a",), ask=None) is None
    assert choose("trainer", Found((vm(),), ("us-west1-b",)), (), ask=None) is not None


def test_a_hit_beside_silent_zones_is_doubted() -> None:
    said = not_sure(vm(), Found((vm(),), ("us-west1-b", "us-east1-c")))
    assert "trainer was found in us-central1-a" in said
    assert "us-west1-b, us-east1-c" in said
    assert not not_sure(vm(), Found((vm(),)))


def test_two_hits_are_decided_by_the_last_zone_or_a_person() -> None:
    first, second = vm(), vm(zone="us-west1-b")
    both = Found((first, second))
    assert choose("trainer", both, (), last_zone="us-west1-b", ask=None) is second
    assert choose("trainer", both, (), ask=lambda prompt, echo: "2") is second
    assert choose("trainer", both, (), ask=lambda prompt, echo: "us-central1-a") is first
    with pytest.raises(RemoteRuntimeError) as declined:
        choose("trainer", both, (), ask=lambda prompt, echo: "3")
    assert declined.value.code == "declined"
    with pytest.raises(UsageError) as caught:
        choose("trainer", both, (), ask=None)
    assert caught.value.code == "ambiguous_name"
    assert "us-central1-a" in caught.value.hint
    assert "us-west1-b" in caught.value.hint


def test_absent_vm_is_answered_with_the_closest_name() -> None:
    error = not_found("trianer", Found((vm(),)), project="p", zones=())
    assert error.code == "instance_not_found"
    assert "Did you mean trainer?" in error.hint


def test_addresses() -> None:
    nic: dict[str, Any] = {"networkIP": "10.0.0.2", "accessConfigs": [{"natIP": "34.1.2.3"}]}
    assert vm(networkInterfaces=[nic]).external == "34.1.2.3"
    assert vm(networkInterfaces=[nic]).internal == "10.0.0.2"
    assert vm(networkInterfaces=[{"accessConfigs": [{}]}, nic]).external == "34.1.2.3"
    v6 = {"ipv6AccessConfigs": [{"externalIpv6": "2600::1"}], "ipv6Address": "fd00::2"}
    assert (vm(networkInterfaces=[v6]).external, vm(networkInterfaces=[v6]).internal) == ("2600::1", "fd00::2")
    assert (vm().external, vm().internal) == ("", "")


def test_age_in_words() -> None:
    one = vm(creationTimestamp="2026-01-01T00:00:00.000-08:00", lastStartTimestamp="2026-01-01T10:00:00.000-08:00")
    assert one.created is not None
    assert is_about(one, one.created + 10 * 3600 + 7200) == "2 h"
    stopped = vm(status="TERMINATED", creationTimestamp="2026-01-01T00:00:00.000-08:00")
    assert is_about(stopped, one.created + 3 * 86400) == "3 d"
    assert is_about(one, one.created + 36000 + 59) == "59 s"
    assert is_about(vm(), 0.0) == ""
