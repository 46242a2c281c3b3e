"""Every fault at every call of the API: it passes, or ends in the right error, with nothing left behind.

A story is told once without a fault, to see which calls it makes; then once for each call and fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError
from remote_runtime.events import Event
from remote_runtime.model import Instance
from remote_runtime.providers.gce import GceProvider, GceSpec
from tests.gce.cloud import Cloud, DoneLate, Drop, Late, Meanwhile, OperationFails, Slow, Vm, quota_exceeded, stock_out
from tests.gce.test_access import login
from tests.gce.test_access import provide as provide_booting
from tests.gce.test_provider import Provide, provide

__all__ = ["provide", "provide_booting"]  # fixtures

SECONDS = 30.0
A = "us-central1-a"
BOB = "bob:ssh-ed25519 AAAA bob"
HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJ8u0Yw0m5Y0mX7w9f2kZc7m0n5x8s2u1o4r3q6t9v0b"
OSLOGIN = {"enable-oslogin": "TRUE"}


def make(provider: GceProvider) -> Instance:
    return provider.ensure("trainer", Deadline(SECONDS), _deaf)


def reach(provider: GceProvider) -> Instance:
    """All of a connect up to the login; a key that was brought is taken back if that fails."""
    instance = provider.ensure("trainer", Deadline(SECONDS), _deaf)
    try:
        instance.resolve(Deadline(SECONDS))
    except InstanceError:
        instance.release(Deadline(SECONDS))
        raise
    return instance


def _deaf(event: Event) -> None:
    pass


@dataclass(frozen=True)
class Story:
    """What is done, to a VM with that metadata if there is one before, and the calls that it takes."""

    tell: Callable[[GceProvider], Instance]
    options: dict[str, Any]
    calls: tuple[str, ...]
    metadata: dict[str, str] | None = None


FIND_AND_START = ("instances.aggregatedList", "instances.start", "zoneOperations.wait", "instances.get")
STORIES = {
    "create": Story(
        make,
        {"zones": (A,), "create": GceSpec("trainer")},
        (
            *("instances.get", "projects.get", "images.getFromFamily", "projects.get"),
            *("instances.insert", "zoneOperations.wait", "instances.get"),
        ),
    ),
    "connect": Story(
        reach,
        {"remove_key": True},
        (
            *FIND_AND_START,
            *("projects.get", "instances.setMetadata", "zoneOperations.wait", "instances.getGuestAttributes"),
        ),
        {"enable-guest-attributes": "TRUE", "ssh-keys": BOB},
    ),
    "oslogin": Story(
        reach,
        {"remove_key": True},
        (*FIND_AND_START, "users.getLoginProfile", "users.importSshPublicKey", "instances.getGuestAttributes"),
        {"enable-guest-attributes": "TRUE", "ssh-keys": BOB, **OSLOGIN},
    ),
}
STEPS = [(name, index) for name, story in STORIES.items() for index in range(len(story.calls))]


def seldom(*values: object) -> list[Any]:
    """Parameters for `make slow` only."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def prepared(api: Cloud, name: str, monkeypatch: pytest.MonkeyPatch) -> Story:
    """The story, with short pauses, and VMs that tell their host keys at once or never."""
    story = STORIES[name]
    monkeypatch.setattr("remote_runtime.providers.gce.client.PAUSES", (0.01,) * 5)
    monkeypatch.setattr("remote_runtime.providers.gce.vouching.HOST_KEYS_SECONDS", 0.0)
    monkeypatch.setattr("remote_runtime.providers.gce.creating.SWEEP_SECONDS", 1.5)  # for a VM that never comes
    monkeypatch.setattr(Vm, "boot", lambda vm: vm.guest_attributes.update({("hostkeys", "ssh-ed25519"): HOST_KEY}))
    if story.metadata is not None:
        api.vm("trainer", status="TERMINATED", metadata=story.metadata)
    return story


def before(story: Story, index: int) -> int:
    """How often the call of that step was made before it."""
    return story.calls[:index].count(story.calls[index])


def well(api: Cloud, story: Story) -> None:
    """It came to a good end: one VM that runs, once."""
    [vm] = api.vms
    assert vm.status == "RUNNING"
    assert len(api.disks) == 1


def nothing_left(api: Cloud, story: Story) -> None:
    """It came to an end that can be repeated: no VM, disk or key that was not there before, and others' untouched."""
    if story.metadata is None:
        api.wait_until(lambda: (api.vms, api.disks) == ([], []))
        return
    [vm] = api.vms
    assert vm.metadata["ssh-keys"] == BOB
    assert all(not profile.get("sshPublicKeys") for profile in api.world.login_profiles.values())


@pytest.mark.parametrize("name", STORIES)
def test_the_calls_are_those_that_are_made(
    api: Cloud, provide: Provide, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = prepared(api, name, monkeypatch)
    story.tell(provide(**story.options))
    assert tuple(api.methods) == story.calls
    well(api, story)


def fails_for_a_moment(api: Cloud, fault: str, method: str, after: int) -> None:
    if fault.startswith("drop"):
        api.inject(method, Drop(done=fault == "drop-done"), times=2, after=after)
    elif fault.endswith("late"):
        api.inject(method, Late(1.0) if fault == "late" else DoneLate(1.0), after=after)
    else:
        api.fail(method, times=2, status=int(fault), after=after)


@pytest.mark.parametrize("fault", ["503", "drop-done", *seldom("429", "drop", "late", "done-late")])
@pytest.mark.parametrize(("name", "index"), STEPS)
def test_what_passes(
    api: Cloud, provide: Provide, name: str, index: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.client.ANSWER_SECONDS", 0.7)
    story = prepared(api, name, monkeypatch)
    fails_for_a_moment(api, fault, story.calls[index], before(story, index))
    story.tell(provide(**story.options))
    assert api.unused_faults == []
    well(api, story)


CODES = {
    401: "credentials_rejected",
    403: "permission_denied",
    404: "cloud_not_found",
    400: "bad_request",
    429: "rate_limited",
    503: "api_failing",
}
UNKNOWN_IS_FINE = {  # what may not be known is no failure
    ("instances.getGuestAttributes", status): "" for status in CODES
} | {("projects.get", 403): ""}
OF_THEIR_OWN = {
    ("create", 0, 404): "instance_not_found",  # there is none yet, nor later
    ("create", 1, 404): "project_not_found",
    ("connect", 0, 404): "project_not_found",
    ("oslogin", 0, 404): "project_not_found",
    ("create", 3, 404): "",
    ("connect", 4, 404): "",
    ("create", 2, 404): "image_not_found",
    ("create", 6, 404): "instance_not_found",  # it vanished as soon as it was made
    ("connect", 3, 404): "instance_not_found",  # somebody deleted it
    ("oslogin", 3, 404): "instance_not_found",
}


def expected(name: str, index: int, status: int) -> str:
    """The code of the error that a refusal for good ends with; empty for none."""
    method = STORIES[name].calls[index]
    usual = UNKNOWN_IS_FINE.get((method, status), CODES[status])
    return OF_THEIR_OWN.get((name, index, status), usual)


@pytest.mark.parametrize("status", [403, 503, *seldom(400, 401, 404, 429)])
@pytest.mark.parametrize(("name", "index"), STEPS)
def test_what_stays(
    api: Cloud, provide: Provide, name: str, index: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = prepared(api, name, monkeypatch)
    faults, method = api.world.faults, story.calls[index]
    api.fail(method, times=999, status=status, after=before(story, index))
    code = expected(name, index, status)
    provider = provide(**story.options)
    if not code:
        story.tell(provider)
        well(api, story)
        return
    with pytest.raises(InstanceError) as caught:
        _told_with_the_fault_over_at_its_end(story, provider, faults.clear)
    error = caught.value
    assert error.code == code
    assert error.hint
    vanished = name == "create" and code == "instance_not_found"
    assert error.retryable is (vanished or code in ("rate_limited", "api_failing"))
    nothing_left(api, story)


def _told_with_the_fault_over_at_its_end(story: Story, provider: GceProvider, over: Callable[[], None]) -> None:
    """The clean-up needs the same calls: if they fail too it can only say so, of which there are other tests."""
    clean_up = "remote_runtime.providers.gce.creating._sweep", "remote_runtime.providers.gce.login.withdraw"
    with pytest.MonkeyPatch.context() as patched:
        for place in clean_up:
            patched.setattr(place, _after(over, _resolved(place)))
        story.tell(provider)


def _after(over: Callable[[], None], function: Callable[..., None]) -> Callable[..., None]:
    def wrapped(*arguments: Any, **named: Any) -> None:
        over()
        function(*arguments, **named)

    return wrapped


def _resolved(place: str) -> Callable[..., None]:
    import importlib

    module, _, name = place.rpartition(".")
    function: Callable[..., None] = getattr(importlib.import_module(module), name)
    return function


OPERATIONS = [("create", "instances.insert"), ("connect", "instances.start"), ("connect", "instances.setMetadata")]
ENDS = {
    "stock_out": stock_out("test-project", A),
    "quota_exceeded": quota_exceeded("CPUS", "us-central1"),
    "operation_failed": OperationFails("INTERNAL_ERROR", "It broke.", 500, "INTERNAL SERVER ERROR"),
}


@pytest.mark.parametrize("code", ENDS)
@pytest.mark.parametrize(("name", "method"), OPERATIONS)
def test_operations_that_fail(
    api: Cloud, provide: Provide, name: str, method: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = prepared(api, name, monkeypatch)
    api.inject(method, ENDS[code])
    with pytest.raises(InstanceError) as caught:
        story.tell(provide(**story.options))
    assert caught.value.code == code
    assert caught.value.hint
    nothing_left(api, story)


@pytest.mark.parametrize(("name", "method"), OPERATIONS)
def test_operations_that_are_slow(
    api: Cloud, provide: Provide, name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.client.LONG_POLL_SECONDS", 0.3)
    story = prepared(api, name, monkeypatch)
    api.inject(method, Slow(1.0))
    story.tell(provide(**story.options))
    well(api, story)


@pytest.mark.parametrize("index", [3, 5, *seldom(4, 7)])
def test_taken_away_while_it_is_connected_to(
    cloud: Cloud, provide_booting: Provide, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spot VM may be preempted at any moment: it is started again, and logged in to."""
    monkeypatch.setattr("remote_runtime.providers.gce.access.LOOK_AGAIN_SECONDS", 0.5)
    story = STORIES["connect"]
    vm = cloud.vm("trainer", metadata=story.metadata)
    cloud.wait_for_boot(vm)  # its host keys are told at its first boot, so that has to be over
    with cloud.world.changed:
        vm.power_off()
    cloud.inject(story.calls[index], Meanwhile(lambda: cloud.preempt(vm)), after=before(story, index))
    events: list[Event] = []
    instance = provide_booting().ensure("trainer", Deadline(SECONDS), events.append)
    assert login(instance, events).endswith("trainer")
    assert cloud.unused_faults == []
    assert cloud.methods.count("instances.start") == 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "429", "drop", "drop-done"])
@pytest.mark.parametrize("index", range(len(STORIES["connect"].calls)))
def test_what_passes_up_to_the_login(cloud: Cloud, provide_booting: Provide, index: int, fault: str) -> None:
    story = STORIES["connect"]
    cloud.vm("trainer", status="TERMINATED", metadata=story.metadata)
    fails_for_a_moment(cloud, fault, story.calls[index], before(story, index))
    events: list[Event] = []
    instance = provide_booting().ensure("trainer", Deadline(SECONDS), events.append)
    assert login(instance, events).endswith("trainer")
    assert cloud.unused_faults == []
