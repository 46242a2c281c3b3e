"""Machines that are made for one program alone, and deleted with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from remote_runtime import Runtime, ServerOptions, Settings, connect
from remote_runtime._threads import Deadline
from remote_runtime.api import ephemeral_spec, parse_lease
from remote_runtime.errors import InstanceError, RemoteRuntimeError, UsageError
from remote_runtime.events import Event, Notice, log_event
from remote_runtime.machines import known_machines
from remote_runtime.model import InstanceSpec
from remote_runtime.providers.gce.spec import GceSpec
from remote_runtime.providers.sandbox import SandboxProvider
from remote_runtime.store import Store


@pytest.fixture
def sandboxes(settings: Settings) -> Iterator[SandboxProvider]:
    provider = SandboxProvider(settings)
    yield provider
    for left in provider.list():
        provider.delete(left.name, Deadline(30))


def alone(settings: Settings, **options: Any) -> Runtime:
    asked = {"server": ServerOptions(python=sys.executable), "timeout": 120, **options}
    return connect("job", provider="sandbox", ephemeral=True, local_port="auto", settings=settings, **asked)


def test_it_is_there_for_the_block_and_gone_after_it(settings: Settings, sandboxes: SandboxProvider) -> None:
    events: list[Event] = []
    with alone(settings, on_event=events.append) as runtime:
        assert [machine.name for machine in sandboxes.list()] == ["job"]
        assert known_machines(settings) == [("sandbox", "job")]
        assert runtime.execute("6 * 7").text == "42\n"
    assert sandboxes.list() == []
    assert Store(settings.state_dir).names() == known_machines(settings) == []
    assert "sandbox_isolates_nothing" in [event.code for event in events if isinstance(event, Notice)]
    runtime.close()


def test_one_that_exists_is_somebody_elses(settings: Settings, sandboxes: SandboxProvider) -> None:
    sandboxes.create(InstanceSpec("job"), Deadline(30), log_event)
    with pytest.raises(InstanceError) as caught:
        alone(settings)
    assert caught.value.code == "instance_exists"
    assert [machine.name for machine in sandboxes.list()] == ["job"]


def test_it_is_deleted_too_if_connecting_to_it_fails(settings: Settings, sandboxes: SandboxProvider) -> None:
    with pytest.raises(RemoteRuntimeError):
        alone(settings, server=ServerOptions(python="/no/such/python"))
    assert sandboxes.list() == []


def test_one_that_is_gone_already_is_no_error(settings: Settings, sandboxes: SandboxProvider) -> None:
    with alone(settings):
        sandboxes.delete("job", Deadline(30))
    assert sandboxes.list() == []


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan", "1e9", None])
def test_a_lease_that_is_none(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        parse_lease(value)
    assert caught.value.code == "bad_kernel_lease"
    assert parse_lease("2.5") == 2.5


def test_a_vm_whose_program_was_killed_is_deleted_by_the_cloud() -> None:
    spec = ephemeral_spec("gce", "job", GceSpec("other", machine_type="e2-small"))
    assert spec == GceSpec("job", machine_type="e2-small", at_end="delete")
