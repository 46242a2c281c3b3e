"""The provider against the stand-in: finding, starting, making and deleting, and every fault on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, RemoteRuntimeError, TimedOut, UsageError
from remote_runtime.events import Event, Notice, StepProgress, log_event
from remote_runtime.providers.gce import GceOptions, GceProvider, GceSpec
from remote_runtime.providers.gce.gpus import Gpu
from remote_runtime.settings import Settings
from tests.gce.cloud import (
    Cloud,
    Drop,
    Late,
    Refused,
    Slow,
    api_disabled,
    billing_off,
    forbidden,
    quota_exceeded,
    stock_out,
)

SECONDS = 30.0
A, B, WEST = "us-central1-a", "us-central1-b", "us-west1-b"

Provide = Callable[..., GceProvider]


@pytest.fixture
def provide(api: Cloud) -> Provide:
    """A provider that the environment leads to the stand-in."""

    def make(**options: Any) -> GceProvider:
        return GceProvider(Settings.load(), GceOptions(**{"user": "ada", **options}))

    return make


def ensure(provider: GceProvider, name: str = "trainer", seconds: float = SECONDS) -> list[Event]:
    events: list[Event] = []
    assert provider.ensure(name, Deadline(seconds), events.append).name == name
    return events


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- finding --------------------------------------------------------------------------------------------------------


def test_found_by_name_alone_in_whatever_zone(api: Cloud, provide: Provide) -> None:
    api.vm("trainer", zone=WEST)
    found = provide().find("trainer")
    assert found is not None
    assert found.state == "running"
    assert WEST in found.detail
    assert provide().find("other") is None


def test_found_by_zone_with_one_call(api: Cloud, provide: Provide) -> None:
    api.vm("trainer", zone=WEST)
    assert provide(zones=(WEST,)).find("trainer") is not None
    assert api.methods == ["instances.get"]
    assert provide(zones=(A, B)).find("trainer") is None


def test_gclouds_zone_is_where_it_is_looked_for_first(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.vm("trainer", zone=WEST)
    monkeypatch.setenv("CLOUDSDK_COMPUTE_ZONE", WEST)
    assert provide().find("trainer") is not None
    assert api.methods == ["instances.get"]
    monkeypatch.setenv("CLOUDSDK_COMPUTE_ZONE", A)
    assert provide().find("trainer") is not None


def test_two_of_a_name_are_told_apart(api: Cloud, provide: Provide) -> None:
    api.vm("trainer", zone=A)
    api.vm("trainer", zone=WEST)
    with pytest.raises(UsageError) as caught:
        provide().find("trainer")
    assert caught.value.code == "ambiguous_name"
    asked = provide(ask=lambda prompt, echo: "2").find("trainer")
    assert asked is not None
    assert WEST in asked.detail


def test_zone_that_can_not_be_asked_is_not_taken_for_an_empty_one(api: Cloud, provide: Provide) -> None:
    api.vm("trainer", zone=WEST)
    api.vm("other", zone=A)
    api.world.unreachable_zones.add(WEST)
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "zones_unreachable"
    assert WEST in caught.value.message
    found = provide().vms(Deadline(SECONDS))
    assert ([vm.name for vm in found.vms], found.unreachable) == (["other"], (WEST,))


def test_absent_name_is_answered_with_the_closest(api: Cloud, provide: Provide) -> None:
    api.vm("trainer")
    with pytest.raises(InstanceError) as caught:
        ensure(provide(), "trianer")
    assert caught.value.code == "instance_not_found"
    assert "trainer" in caught.value.hint


def test_two_hundred_vms_come_over_pages(api: Cloud, provide: Provide) -> None:
    for number in range(200):
        api.vm(f"vm-{number:03}", zone=(A, B, WEST)[number % 3])
    names = [instance.name for instance in provide().list()]
    assert names == [f"vm-{number:03}" for number in range(200)]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("TERMINATED", "Starting"),
        ("SUSPENDED", "Resuming"),
    ],
)
def test_a_resting_vm_is_brought_up(api: Cloud, provide: Provide, status: str, said: str) -> None:
    vm = api.vm("trainer", status=status)
    events = ensure(provide())
    assert vm.status == "RUNNING"
    assert any(isinstance(event, StepProgress) and event.text.startswith(said) for event in events)


@pytest.mark.parametrize("status", ["PROVISIONING", "STAGING", "REPAIRING", "PENDING"])
def test_a_vm_on_its_way_is_waited_for(api: Cloud, provide: Provide, status: str) -> None:
    vm = api.vm("trainer", status=status)
    with api.world.changed:
        api.world.when(0.3, vm.power_on)
    ensure(provide())
    assert "instances.start" not in api.methods


def test_a_vm_that_stops_is_waited_out_and_started(api: Cloud, provide: Provide) -> None:
    vm = api.vm("trainer")
    provider = provide()
    stopping = threading.Thread(target=lambda: provide().stop("trainer", Deadline(SECONDS)))
    api.inject("instances.stop", Slow(0.6))
    stopping.start()
    api.wait_until(lambda: vm.status == "STOPPING")
    ensure(provider)
    stopping.join()
    assert vm.status == "RUNNING"


def test_a_vm_that_never_comes_up_ends_with_the_deadline(api: Cloud, provide: Provide) -> None:
    api.vm("trainer", status="REPAIRING")
    with pytest.raises(TimedOut) as caught:
        ensure(provide(), seconds=1.2)
    assert "repairing" in caught.value.message


def test_a_stopped_vm_whose_zone_is_sold_out_can_not_be_started(api: Cloud, provide: Provide) -> None:
    api.vm("trainer", status="TERMINATED")
    api.inject("instances.start", stock_out(api.project, A))
    with pytest.raises(InstanceError) as caught:
        ensure(provide())
    assert caught.value.code == "stock_out"
    assert caught.value.retryable


def test_a_sold_out_zone_is_waited_out_if_that_is_wanted(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.operations.AGAIN_SECONDS", 0.05)
    vm = api.vm("trainer", status="TERMINATED")
    api.inject("instances.start", stock_out(api.project, A), times=3)
    events = ensure(provide(retry_until_up=True))
    assert vm.status == "RUNNING"
    assert any(isinstance(event, StepProgress) and event.text.endswith("trying again") for event in events)
    with api.world.changed:
        vm.power_off()
    api.inject("instances.start", stock_out(api.project, A), times=999)
    with pytest.raises(TimedOut) as caught:
        provide(retry_until_up=True).start("trainer", Deadline(0.8), log_event)
    assert A in caught.value.message


# -- verbs ----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_vm(api: Cloud, provide: Provide) -> None:
    vm, provider = api.vm("trainer"), provide()
    provider.stop("trainer", Deadline(SECONDS))
    assert vm.status == "TERMINATED"
    provider.stop("trainer", Deadline(SECONDS))
    assert api.methods.count("instances.stop") == 1
    assert provider.start("trainer", Deadline(SECONDS), log_event).state == "running"
    assert provider.change("suspend", "trainer", Deadline(SECONDS)).state == "stopped"
    assert provider.change("resume", "trainer", Deadline(SECONDS)).state == "running"
    address = vm.address
    assert provider.change("reset", "trainer", Deadline(SECONDS)).state == "running"
    assert vm.address == address
    provider.delete("trainer", Deadline(SECONDS))
    assert (api.vms, api.disks) == ([], [])


def test_disks_can_be_kept(api: Cloud, provide: Provide) -> None:
    api.vm("trainer")
    provide().delete("trainer", Deadline(SECONDS), keep_disks=True)
    assert api.vms == []
    assert len(api.disks) == 1


@pytest.mark.parametrize("verb", ["stop", "start", "delete"])
def test_verbs_want_a_vm(provide: Provide, verb: str) -> None:
    with pytest.raises(InstanceError) as caught:
        getattr(provide(), verb)("nobody", Deadline(SECONDS), *([log_event] if verb == "start" else []))
    assert caught.value.code == "instance_not_found"


# -- making ---------------------------------------------------------------------------------------------------------


def create(provider: GceProvider, spec: GceSpec | None = None, seconds: float = SECONDS) -> None:
    provider.create(spec or GceSpec("trainer"), Deadline(seconds), log_event)


def test_made_as_asked(api: Cloud, provide: Provide) -> None:
    questions: list[str] = []
    create(provide(zones=(A,), confirm=questions.append), GceSpec("trainer", gpu=Gpu.parse("t4"), spot=True))
    vm = api.find("trainer")
    assert vm is not None
    assert vm.status == "RUNNING"
    assert vm.labels["created-by"] == "remote-runtime"
    assert vm.labels["owner"] == "ada_example_com"
    assert [disk["labels"] for disk in api.disks] == [vm.labels]
    assert vm.metadata["ssh-keys"].startswith("ada:ssh-ed25519 ")
    assert vm.scheduling["maxRunDuration"] == {"seconds": "86400"}
    assert "serviceAccounts" not in vm.resource
    assert len(questions) == 1
    assert "n1-standard-8 with 1 x nvidia-tesla-t4" in questions[0]


def test_declined_makes_nothing(api: Cloud, provide: Provide) -> None:
    def no(question: str) -> None:
        raise RemoteRuntimeError("Nothing was done", code="declined")

    with pytest.raises(RemoteRuntimeError):
        create(provide(zones=(A,), confirm=no))
    assert "instances.insert" not in api.methods


def test_shown_request_is_the_one_that_is_sent(api: Cloud, provide: Provide) -> None:
    provider, spec = provide(zones=(A,)), GceSpec("trainer", disk_gb=99)
    shown = provider.creation_request(spec, Deadline(SECONDS))["body"]
    assert "instances.insert" not in api.methods
    create(provider, spec)
    sent = next(call for call in api.calls if call.method == "instances.insert").body
    assert isinstance(sent, dict)

    def stable(body: dict[str, Any]) -> dict[str, Any]:
        items = [
            item for item in body["metadata"]["items"] if item["key"] not in ("ssh-keys", "remote-runtime-request")
        ]
        return {**body, "metadata": {"items": items}}

    assert stable(sent) == stable(shown)


def test_key_that_is_to_be_removed_is_not_in_the_request(api: Cloud, provide: Provide) -> None:
    body = provide(zones=(A,), remove_key=True).creation_request(GceSpec("trainer"), Deadline(SECONDS))["body"]
    assert "ssh-keys" not in {item["key"] for item in body["metadata"]["items"]}


def test_create_needs_a_zone_and_a_new_name(api: Cloud, provide: Provide) -> None:
    with pytest.raises(UsageError) as caught:
        create(provide())
    assert caught.value.code == "zone_needed"
    api.vm("trainer", zone=WEST)
    with pytest.raises(InstanceError) as taken:
        create(provide())
    assert taken.value.code == "instance_exists"


def test_zones_are_walked_when_they_are_sold_out(api: Cloud, provide: Provide) -> None:
    api.inject("instances.insert", stock_out(api.project, A), zone=A)
    api.inject("instances.insert", quota_exceeded("N1_CPUS", "us-central1"), zone=B)
    create(provide(zones=(A, B, "us-central1-f", WEST)))
    vm = api.find("trainer")
    assert vm is not None
    assert vm.zone == WEST  # not tried where the quota of the region is used up
    assert len(api.disks) == 1
    assert api.methods.count("instances.insert") == 3


def test_region_means_all_its_zones(api: Cloud, provide: Provide) -> None:
    api.inject("instances.insert", stock_out(api.project, A), zone=A)
    create(provide(region="us-central1"))
    vm = api.find("trainer")
    assert vm is not None
    assert vm.zone == B
    with pytest.raises(UsageError) as caught:
        create(provide(region="mars-north1"), GceSpec("other"))
    assert caught.value.code == "unknown_region"


def test_nothing_left_anywhere(api: Cloud, provide: Provide) -> None:
    for zone in (A, B):
        api.inject("instances.insert", stock_out(api.project, zone), zone=zone)
    with pytest.raises(InstanceError) as caught:
        create(provide(zones=(A, B)))
    assert caught.value.code == "stock_out"
    assert A in caught.value.message
    assert B in caught.value.message
    assert (api.vms, api.disks) == ([], [])


def test_retry_until_up(api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.operations.AGAIN_SECONDS", 0.05)
    api.inject("instances.insert", stock_out(api.project, A), times=3)
    create(provide(zones=(A,), retry_until_up=True))
    assert api.methods.count("instances.insert") == 4
    assert len(api.vms) == 1


@pytest.mark.parametrize(
    ("error", "code", "cure"),
    [
        (forbidden("compute.instances.create", "projects/test-project"), "permission_denied", "add-iam-policy-binding"),
        (api_disabled("compute.googleapis.com", "42"), "api_disabled", "gcloud services enable"),
        (billing_off("test-project"), "billing_disabled", "gcloud billing projects link"),
        (Refused(403, "Quota exceeded", reason="quotaExceeded"), "quota_exceeded", "quotas"),
        (Refused(400, "Invalid value"), "bad_request", "says"),
    ],
)
@pytest.mark.parametrize("method", ["instances.insert", "images.getFromFamily"])
def test_refusals_end_in_their_cure(
    api: Cloud, provide: Provide, method: str, error: Refused, code: str, cure: str
) -> None:
    api.refuse(method, error, times=99)
    with pytest.raises(InstanceError) as caught:
        create(provide(zones=(A,)))
    assert caught.value.code == code
    assert cure in caught.value.hint
    assert not caught.value.retryable
    assert (api.vms, api.disks) == ([], [])


def test_late_insert_that_outlives_the_deadline_is_deleted(api: Cloud, provide: Provide) -> None:
    events: list[Event] = []
    provider = provide(zones=(A,), create=GceSpec("trainer"))
    api.inject("instances.insert", Slow(3.0))
    with pytest.raises(TimedOut):
        provider.ensure("trainer", Deadline(1.5), events.append)
    notices = [event for event in events if isinstance(event, Notice)]
    assert [notice.code for notice in notices] == ["create_abandoned"]
    api.wait_until(lambda: api.find("trainer") is None)


def test_what_can_not_be_deleted_is_named(api: Cloud, provide: Provide) -> None:
    events: list[Event] = []
    api.inject("instances.insert", Slow(3.0))
    api.refuse("instances.delete", forbidden("compute.instances.delete", "projects/test-project"), times=9)
    with pytest.raises(TimedOut):
        provide(zones=(A,), create=GceSpec("trainer")).ensure("trainer", Deadline(1.5), events.append)
    notice = next(event for event in events if isinstance(event, Notice))
    assert notice.level == "warning"
    assert "gcloud compute instances delete trainer" in notice.text


def test_unanswered_insert_is_not_done_twice(api: Cloud, provide: Provide) -> None:
    api.inject("instances.insert", Drop(done=True), times=2)
    create(provide(zones=(A,)))
    inserts = [call for call in api.calls if call.method == "instances.insert"]
    assert len(inserts) == 3
    assert len({call.query["requestId"] for call in inserts}) == 1


def test_two_hosts_that_create_at_once_share_one_vm(api: Cloud, provide: Provide, tmp_path: Path) -> None:
    done: list[str] = []
    api.inject("instances.insert", Late(0.3), times=2)

    def host() -> None:
        provider = provide(zones=(A,), create=GceSpec("trainer"))
        done.append(provider.ensure("trainer", Deadline(SECONDS), lambda event: None).name)

    hosts = [threading.Thread(target=host) for _ in range(2)]
    for one in hosts:
        one.start()
    for one in hosts:
        one.join()
    assert done == ["trainer", "trainer"]
    assert len(api.vms) == 1
    assert api.methods.count("instances.insert") == 2


def test_of_two_hosts_that_make_one_at_once_each_deletes_its_own_alone(api: Cloud, provide: Provide) -> None:
    both_looked = threading.Barrier(2, timeout=SECONDS)

    def confirm(_question: str) -> None:
        both_looked.wait()

    def host(zone: str) -> tuple[GceProvider, str]:
        provider = provide(zones=(zone,), confirm=confirm)
        try:
            create(provider)
        except InstanceError as error:
            return provider, error.code
        return provider, "made"

    with ThreadPoolExecutor(2) as pool:
        (winner, _), (_, lost) = sorted(pool.map(host, (A, A)), key=lambda host: host[1] != "made")
    assert lost == "instance_exists"
    assert [vm.name for vm in api.vms] == ["trainer"]
    api.vms[0].vanish()
    create(provide(zones=(A,)))
    with pytest.raises(InstanceError) as caught:
        winner.delete("trainer", Deadline(SECONDS))  # this one is somebody else's
    assert caught.value.code == "instance_not_found"
    assert len(api.vms) == 1


# -- who we are -----------------------------------------------------------------------------------------------------


def test_no_project_is_said(provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDSDK_CORE_PROJECT")
    with pytest.raises(UsageError) as caught:
        provide().find("trainer")
    assert caught.value.code == "project_needed"
    assert "--project" in caught.value.hint


@pytest.mark.parametrize("zones", [(A,), ()])
def test_wrong_project_is_said(provide: Provide, zones: tuple[str, ...]) -> None:
    with pytest.raises(InstanceError) as caught:
        provide(project="no-such-project", zones=zones).find("trainer")
    assert caught.value.code == "project_not_found"
    assert "gcloud projects list" in caught.value.hint


def test_expired_token_is_said(provide: Provide, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "expired").write_text("ya29.expired")
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", str(tmp_path / "expired"))
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "credentials_rejected"
    assert f"gcloud auth print-access-token >{tmp_path / 'expired'}" in caught.value.hint
    assert "ya29" not in str(caught.value.__dict__)


def test_unreadable_token_is_said(provide: Provide, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", str(tmp_path / "absent"))
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "credentials_unreadable"


def test_no_credentials_at_all(provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "credentials_missing"
    assert "gcloud auth application-default login" in caught.value.hint


def test_without_credentials_on_purpose(api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
    api.vm("trainer")
    assert provide().find("trainer") is not None
    assert "authorization" not in api.calls[-1].headers
    api.world.token_required = True
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "credentials_rejected"


def test_service_accounts_key_file(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.write_service_account(tmp_path / "key.json")
    monkeypatch.delenv("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE")
    monkeypatch.delenv("CLOUDSDK_CORE_PROJECT")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    api.world.token_required = True
    api.vm("trainer")
    assert provide().find("trainer") is not None  # with the project of the file
    api.world.grants_refused = True
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "credentials_rejected"


def test_unreachable_api_is_said_soon(provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "http://127.0.0.1:9/compute/v1/")
    monkeypatch.setattr("remote_runtime.providers.gce.client.PAUSES", (0.01, 0.01))
    with pytest.raises(InstanceError) as caught:
        provide().find("trainer")
    assert caught.value.code == "api_unreachable"
    assert caught.value.retryable


def test_token_is_never_shown(provide: Provide, api: Cloud) -> None:
    token = Path(api.environment()["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text().strip()
    provider = provide()
    assert provider.find("trainer") is None
    assert token not in repr(provider.__dict__)


def test_cancelled_wait_ends_soon(api: Cloud, provide: Provide) -> None:
    """A link that is closed must not wait for the cloud."""
    api.vm("trainer")
    api.inject("instances.stop", Slow(30.0))
    deadline = Deadline(60)
    ended: list[float] = []

    def stop() -> None:
        with pytest.raises(TimedOut):
            provide().stop("trainer", deadline)
        ended.append(time.monotonic())

    thread = threading.Thread(target=stop)
    thread.start()
    until(lambda: "instances.stop" in api.methods)
    cancelled = time.monotonic()
    deadline.cancel()
    thread.join()
    assert ended[0] - cancelled < 9  # less than what close() waits for its threads


# -- what a new VM boots, and how one gets in ---------------------------------------------------------------------


def sent(api: Cloud) -> dict[str, Any]:
    body = next(call for call in api.calls if call.method == "instances.insert").body
    assert body is not None
    return dict(body)


def test_gpu_vm_boots_the_newest_image_for_gpus(api: Cloud, provide: Provide) -> None:
    create(provide(zones=(A,)), GceSpec("trainer", gpu=Gpu.parse("l4")))
    image = sent(api)["disks"][0]["initializeParams"]["sourceImage"]
    assert image.startswith("projects/deeplearning-platform-release/global/images/common-cu")


def test_family_that_is_none(api: Cloud, provide: Provide) -> None:
    with pytest.raises(InstanceError) as caught:
        create(provide(zones=(A,)), GceSpec("trainer", image_family="debian-99"))
    assert caught.value.code == "image_not_found"
    assert "--image" in caught.value.hint


def test_key_is_not_in_metadata_where_os_login_is_on(api: Cloud, provide: Provide) -> None:
    with api.world.lock:
        api.world.common_metadata["enable-oslogin"] = "TRUE"
    create(provide(zones=(A,)))
    assert "ssh-keys" not in {item["key"] for item in sent(api)["metadata"]["items"]}


def test_project_that_may_not_be_read_is_no_obstacle(api: Cloud, provide: Provide) -> None:
    api.fail("projects.get", times=9, status=403, code="forbidden")
    create(provide(zones=(A,)))
    assert "ssh-keys" in {item["key"] for item in sent(api)["metadata"]["items"]}


def test_two_first_uses_at_once_make_one_key(api: Cloud, settings: Settings) -> None:
    from remote_runtime.providers.gce.login import own_key

    path, found = settings.state_dir / "gce" / "key", []
    threads = [threading.Thread(target=lambda: found.append(own_key(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
