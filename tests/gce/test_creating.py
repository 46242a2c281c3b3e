"""Making VMs where that is not simple: zones that lack what is wanted, and requests of which nobody hears the end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, TimedOut
from remote_runtime.events import Event, Notice, StepProgress, log_event
from remote_runtime.providers.gce import GceProvider, GceSpec
from remote_runtime.providers.gce.failures import CloudError
from remote_runtime.providers.gce.gpus import Gpu
from tests.gce.cloud import Cloud, DoneLate, Drop, Refuse, Refused, forbidden, quota_exceeded, stock_out
from tests.gce.test_provider import Provide, create, provide, sent, until

__all__ = ["provide"]  # a fixture

SECONDS = 30.0
A, B, F, WEST = "us-central1-a", "us-central1-b", "us-central1-f", "us-west1-b"
USUAL = "e2-standard-4"


def refusal(provider: Provide, spec: GceSpec | None = None, seconds: float = SECONDS, **options: object) -> CloudError:
    with pytest.raises(CloudError) as caught:
        create(provider(**options), spec, seconds)
    return caught.value


def notices(events: list[Event]) -> list[Notice]:
    return [event for event in events if isinstance(event, Notice)]


# -- zones that lack what is wanted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "lacking"),
    [
        (GceSpec("trainer"), USUAL),
        (GceSpec("trainer", machine_type="n2-custom-8-32768"), "n2-custom-8-32768"),
        (GceSpec("trainer", gpu=Gpu.parse("t4")), "nvidia-tesla-t4"),
        (GceSpec("trainer", disk_type="pd-ssd"), "pd-ssd"),
    ],
)
def test_zones_that_lack_it_are_passed(api: Cloud, provide: Provide, spec: GceSpec, lacking: str) -> None:
    api.world.lacking = {A: {lacking}, B: {lacking}}
    create(provide(region="us-central1"), spec)
    [vm] = api.vms
    assert vm.zone == F


def test_no_zone_has_it(api: Cloud, provide: Provide) -> None:
    api.world.lacking = {zone: {USUAL} for zone in (A, B, F)}
    error = refusal(provide, region="us-central1")
    assert error.code == "not_in_zone"
    assert error.message == f"There is no machine type {USUAL} in {A}, {B}, {F}"
    assert f"gcloud compute machine-types list --filter=name={USUAL}" in error.hint
    assert not error.retryable


def test_one_zone_does_not_have_it(api: Cloud, provide: Provide) -> None:
    error = refusal(provide, GceSpec("trainer", machine_type="e2-standrad-4"), zones=(A,))
    assert error.code == "not_in_zone"
    assert error.message == f"There is no machine type e2-standrad-4 in {A}"


@pytest.mark.parametrize("lacks", [A, B, F])
def test_sold_out_is_told_before_what_other_zones_lack(api: Cloud, provide: Provide, lacks: str) -> None:
    api.world.lacking = {lacks: {USUAL}}
    for zone in {A, B, F} - {lacks}:
        api.inject("instances.insert", stock_out(api.project, zone), zone=zone)
    error = refusal(provide, region="us-central1")
    assert error.code == "stock_out"
    assert f"{lacks}: There is no machine type" in error.message


def test_quota_is_told_before_what_other_zones_lack(api: Cloud, provide: Provide) -> None:
    api.world.lacking = {WEST: {USUAL}}
    api.inject("instances.insert", quota_exceeded("CPUS", "us-central1"), zone=A)
    assert refusal(provide, zones=(A, WEST)).code == "quota_exceeded"


def test_zones_that_lack_it_are_not_asked_again_and_again(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.operations.AGAIN_SECONDS", 0.05)
    api.world.lacking = {A: {USUAL}}
    api.inject("instances.insert", stock_out(api.project, B), zone=B, times=2)
    create(provide(zones=(A, B), retry_until_up=True))
    assert [call.path["zone"] for call in api.calls if call.method == "instances.insert"] == [A, B, B, B]


def test_other_bad_requests_end_the_walk(api: Cloud, provide: Provide) -> None:
    api.refuse("instances.insert", Refused(400, "Invalid value for field 'resource.tags'."), times=9)
    error = refusal(provide, zones=(A, B))
    assert error.code == "bad_request"
    assert "resource.tags" in error.message
    assert api.methods.count("instances.insert") == 1


def test_bad_request_does_not_hide_that_others_are_sold_out(api: Cloud, provide: Provide) -> None:
    """They took the request, so it is this zone that it does not suit, whatever the reason is."""
    api.inject("instances.insert", stock_out(api.project, A), zone=A)
    api.inject("instances.insert", Refuse(Refused(400, "Not here.")), zone=B)
    assert refusal(provide, zones=(A, B)).code == "stock_out"


def test_who_may_not_look_at_types_hears_what_google_says(api: Cloud, provide: Provide) -> None:
    api.world.lacking = {A: {USUAL}}
    api.refuse("machineTypes.get", forbidden("compute.machineTypes.get", "projects/test-project"), times=9)
    error = refusal(provide, zones=(A,))
    assert error.code == "bad_request"
    assert "does not exist in zone" in error.message


# -- zones that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "cure"),
    [
        ("us-cental1-a", f"Did you mean {A}?"),
        ("us-central1", f"us-central1 is a region: its zones are {A}, {B}, {F}."),
        ("mars", "gcloud compute zones list"),
    ],
)
def test_zone_that_is_none_is_said(api: Cloud, provide: Provide, zone: str, cure: str) -> None:
    with pytest.raises(InstanceError) as caught:
        provide(zones=(A, zone)).find("trainer")
    assert caught.value.code == "unknown_zone"
    assert caught.value.message == f"There is no zone {zone}"
    assert cure in caught.value.hint
    assert refusal(provide, zones=(zone,)).code == "unknown_zone"


def test_zone_of_gclouds_that_is_none_hides_nothing(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_COMPUTE_ZONE", "us-central1-z")
    api.vm("other", zone=WEST)
    found = provide().find("other")
    assert found is not None
    assert WEST in found.detail
    events: list[Event] = []
    with pytest.raises(InstanceError) as caught:
        provide().create(GceSpec("trainer"), Deadline(SECONDS), events.append)
    assert caught.value.code == "unknown_zone"
    assert "us-central1-" in caught.value.hint
    assert notices(events) == []


# -- requests of which nobody hears the end -------------------------------------------------------------------------


def unheard(
    api: Cloud,
    provider: GceProvider,
    hear: Callable[[Event], None],
    monkeypatch: pytest.MonkeyPatch,
    *,
    done_after: float,
) -> None:
    """Have a VM made by a request that is done late; the deadline passes before there is an answer."""
    monkeypatch.setattr("remote_runtime.providers.gce.client.ANSWER_SECONDS", 0.5)
    api.inject("instances.insert", DoneLate(done_after))
    deadline = Deadline(SECONDS)
    with once_asked(api, deadline.cancel), pytest.raises(TimedOut):
        provider.ensure("trainer", deadline, hear)


@contextmanager
def once_asked(api: Cloud, do: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread as soon as the cloud has begun with the ordered fault."""

    def run() -> None:
        until(lambda: not api.unused_faults)
        do()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Have Ctrl-C raise its exception also where a shell began the tests in the background, which ignore it then."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def interrupt() -> None:
    """Ctrl-C, for the thread that runs the tests, when it waits for the answer."""
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)


def test_insert_that_is_done_after_the_deadline_is_deleted(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    provider = provide(zones=(A,), create=GceSpec("trainer"))
    unheard(api, provider, events.append, monkeypatch, done_after=2.0)
    [notice] = notices(events)
    assert (notice.code, notice.level) == ("create_abandoned", "info")
    assert any(isinstance(event, StepProgress) and event.text.startswith("Waiting") for event in events)
    api.wait_until(lambda: (api.vms, api.disks) == ([], []))
    assert api.methods.count("instances.insert") == 1


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_insert_that_is_done_after_ctrl_c_is_deleted(api: Cloud, provide: Provide) -> None:
    events: list[Event] = []
    api.inject("instances.insert", DoneLate(1.5))
    with once_asked(api, interrupt), pytest.raises(KeyboardInterrupt):
        provide(zones=(A,), create=GceSpec("trainer")).ensure("trainer", Deadline(SECONDS), events.append)
    assert [notice.level for notice in notices(events)] == ["info"]
    api.wait_until(lambda: (api.vms, api.disks) == ([], []))


def test_insert_that_may_yet_be_done_is_named(api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.creating.SWEEP_SECONDS", 0.7)
    events: list[Event] = []
    provider = provide(zones=(A,), create=GceSpec("trainer"))
    unheard(api, provider, events.append, monkeypatch, done_after=3.0)
    [notice] = notices(events)
    assert (notice.code, notice.level) == ("create_abandoned", "warning")
    assert f"gcloud compute instances delete trainer --zone={A}" in notice.text


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_again_names_what_may_be_left(api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepProgress) and event.text.startswith("Waiting"):
            signal.raise_signal(signal.SIGINT)

    provider = provide(zones=(A,), create=GceSpec("trainer"))
    with pytest.raises(KeyboardInterrupt):
        unheard(api, provider, hear, monkeypatch, done_after=2.0)
    [notice] = notices(events)
    assert notice.level == "warning"
    assert "gcloud compute instances delete trainer" in notice.text


def test_unheard_insert_that_failed_leaves_nothing_to_say(
    api: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.client.PAUSES", (0.05,) * 2)
    api.world.operation_seconds = 0.0
    api.inject("instances.insert", Drop(done=True), times=3)
    api.inject("instances.insert", stock_out(api.project, A))
    events: list[Event] = []
    began = time.monotonic()
    with pytest.raises(InstanceError) as caught:
        provide(zones=(A,)).create(GceSpec("trainer"), Deadline(SECONDS), events.append)
    assert caught.value.code == "api_unreachable"
    assert notices(events) == []
    assert time.monotonic() - began < 15  # it is known that nothing comes


def test_what_was_never_asked_for_is_not_looked_for(api: Cloud, provide: Provide) -> None:
    """The deadline passes right before the request."""
    events: list[Event] = []
    deadline = Deadline(SECONDS)
    provider = provide(zones=(A, B), confirm=lambda question: deadline.cancel())
    with pytest.raises(TimedOut):
        provider.create(GceSpec("trainer"), deadline, events.append)
    assert notices(events) == []
    assert "zoneOperations.list" not in api.methods


# -- what it boots --------------------------------------------------------------------------------------------------


def test_image_for_gpus_is_asked_for_by_its_family(api: Cloud, provide: Provide) -> None:
    provide(zones=(A,)).create(GceSpec("trainer", gpu=Gpu.parse("l4")), Deadline(SECONDS), log_event)
    image = sent(api)["disks"][0]["initializeParams"]["sourceImage"]
    assert image.endswith("/common-cu129-ubuntu-2404-nvidia-580-v20261021")
    [listed] = [call for call in api.calls if call.method == "images.list"]
    assert listed.query["filter"].startswith('family eq "common-cu')
    assert listed.query["maxResults"] == "500"
