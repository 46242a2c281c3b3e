"""The verbs on a VM as a program uses them: what is told meanwhile, what is known afterwards, and who one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remote_runtime import GceOptions, GceSpec, connect
from remote_runtime.errors import InstanceError, RemoteRuntimeError, TimedOut
from remote_runtime.events import Event, Notice, StepProgress
from remote_runtime.machines import Machine, known_machines, list_vms, stop_all
from remote_runtime.model import Instance, Remembered
from remote_runtime.providers.gce.memory import Known, Memory
from remote_runtime.settings import Settings
from remote_runtime.store import Store
from tests.cli.conftest import json_lines, run
from tests.gce.cloud import Cloud, Slow, forbidden, stock_out

SECONDS = 30.0
A, B = "us-central1-a", "us-central1-b"
REMEMBERED = Remembered("trainer", "gce", local_port=8890, token="abc")


def trainer(events: list[Event] | None = None, **options: Any) -> Machine:
    sink = (events if events is not None else []).append
    return Machine("trainer", gce=GceOptions(**{"zones": (A,), "user": "ada", **options}), on_event=sink)


def notices(events: list[Event]) -> list[Notice]:
    return [event for event in events if isinstance(event, Notice)]


def progress(events: list[Event]) -> list[str]:
    """What was told of the step ``machine``, which is the one that these verbs begin."""
    told = [event for event in events if isinstance(event, StepProgress)]
    assert {event.step for event in told} == {"machine"}
    return [event.text for event in told]


@pytest.fixture
def store(api: Cloud) -> Store:
    """Where the VM ``trainer`` is remembered, which was connected once."""
    store = Store(Settings.load().state_dir)
    store.save(REMEMBERED)
    return store


# -- what is told ---------------------------------------------------------------------------------------------------


def test_create_tells_of_zones_that_are_sold_out(api: Cloud) -> None:
    events: list[Event] = []
    api.inject("instances.insert", stock_out(api.project, A), zone=A)
    trainer(events, zones=(A, B)).create(GceSpec("trainer"), timeout=SECONDS)
    told = progress(events)
    assert any(text.startswith(f"{A}: ") for text in told)
    assert told[-1] == f"Creating trainer in {B}"


def test_start_tells_of_a_zone_that_is_sold_out(api: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.operations.AGAIN_SECONDS", 0.05)
    events: list[Event] = []
    api.vm("trainer", status="TERMINATED")
    api.inject("instances.start", stock_out(api.project, A))
    trainer(events, retry_until_up=True).start(timeout=SECONDS)
    assert any(text.endswith("trying again") for text in progress(events))


def make(events: list[Event]) -> None:
    trainer(events).create(GceSpec("trainer"), timeout=3.0)


def make_for_one_call(events: list[Event]) -> None:
    connect("trainer", zone=A, user="ada", ephemeral=True, timeout=3.0, on_event=events.append)


@pytest.mark.parametrize("begin", [make, make_for_one_call])
def test_a_vm_that_may_be_left_is_named(api: Cloud, begin: Callable[[list[Event]], None]) -> None:
    events: list[Event] = []
    assert list_vms().vms == ()  # the first call takes long, because of what is imported
    api.inject("instances.insert", Slow(6.0))
    api.refuse("instances.delete", forbidden("compute.instances.delete", "projects/test-project"), times=9)
    with pytest.raises(TimedOut):
        begin(events)
    [notice] = [notice for notice in notices(events) if notice.code == "create_abandoned"]
    assert notice.level == "warning"
    assert "gcloud compute instances delete trainer" in notice.text


# -- what is known --------------------------------------------------------------------------------------------------


def test_a_deleted_vm_is_known_no_more_and_one_made_anew_gets_its_url(api: Cloud, store: Store) -> None:
    settings = Settings.load()
    api.vm("trainer")
    assert known_machines(settings) == [("gce", "trainer")]
    trainer().delete(timeout=SECONDS)
    assert known_machines(settings) == []
    with pytest.raises(InstanceError) as caught:
        trainer().remembered()
    assert caught.value.code == "instance_not_found"
    assert stop_all() == []
    trainer().create(GceSpec("trainer"), timeout=SECONDS)
    assert known_machines(settings) == [("gce", "trainer")]
    assert trainer().remembered() == REMEMBERED


def test_delete_means_the_machine_that_was_shown(api: Cloud) -> None:
    first = api.vm("trainer")
    shown: list[str] = []

    def confirm(found: Instance) -> None:
        shown.append(found.detail)
        first.vanish()
        api.vm("trainer")  # made anew by somebody, while the person thought about it

    with pytest.raises(InstanceError) as caught:
        trainer().delete(confirm=confirm, timeout=SECONDS)
    assert caught.value.code == "instance_not_found"
    assert A in shown[0]
    assert shown[0].endswith(f"project {api.project}")
    assert api.find("trainer") is not None


def test_a_suspended_vm_is_stopped_too(api: Cloud) -> None:
    """What it had in memory is kept, and costs, until it is."""
    vm = api.vm("trainer", status="SUSPENDED")
    assert trainer().stop(timeout=SECONDS) is False
    assert vm.status == "SUSPENDED"
    assert trainer().stop(machine=True, timeout=SECONDS) is False
    assert vm.status == "TERMINATED"
    api.forget_calls()
    assert trainer().stop(machine=True, timeout=SECONDS) is False
    assert "instances.stop" not in api.methods


def test_a_vm_that_somebody_deleted_is_nothing_to_stop(api: Cloud, store: Store) -> None:
    events: list[Event] = []
    [stopped] = stop_all(on_event=events.append)
    assert (stopped.name, stopped.ran, stopped.error) == ("trainer", False, None)
    [notice] = notices(events)
    assert notice.text.endswith("remote-runtime uninstall trainer")
    with store.hold("gce", "trainer"):  # it is somewhere, as somebody is connected to it
        [stopped] = stop_all(on_event=events.append)
    assert stopped.error is not None
    assert stopped.error.code == "instance_not_found"


def test_uninstall_forgets_a_vm_that_is_gone(api: Cloud, store: Store) -> None:
    memory = Memory(store.state_dir)
    known = Known("test-project", A, "42", "ada", "external", "34.1.2.3", str(memory.key), 5.0)
    memory.save("trainer", known)
    events: list[Event] = []
    assert trainer(events).uninstall(timeout=SECONDS) == []
    assert [notice.code for notice in notices(events)] == ["machine_gone"]
    assert (store.load("gce", "trainer"), memory.load("trainer")) == (None, None)
    with pytest.raises(InstanceError) as caught:
        trainer().uninstall(timeout=SECONDS)  # of which nothing is known: perhaps a typing error
    assert caught.value.code == "instance_not_found"


def test_commands_after_a_vm_was_deleted(api: Cloud, store: Store) -> None:
    store.save(Remembered("trainer", "ssh", local_port=8891, token="def"))
    api.vm("trainer")
    assert run("delete", "--provider", "gce", "trainer", "-y").returncode == 0
    [listed] = json_lines(run("list", "--json").stdout)[0]["runtimes"]
    assert listed["provider"] == "ssh"
    assert json_lines(run("url", "trainer", "--json").stdout)[0]["port"] == 8891  # the name means one machine again
    store.forget("ssh", "trainer")
    assert run("stop", "--all").returncode == 0
    store.mark("gce", "trainer", deleted=False)
    assert run("stop", "--all").returncode == 0


# -- who one is -----------------------------------------------------------------------------------------------------


def test_what_the_options_say_of_the_user_counts(api: Cloud) -> None:
    Machine("trainer", gce=GceOptions(zones=(A,), user="eve")).create(GceSpec("trainer"), timeout=SECONDS)
    Machine("other", gce=GceOptions(zones=(A,), user="eve"), user="ada").create(GceSpec("other"), timeout=SECONDS)
    users = {vm.name: vm.metadata["ssh-keys"].partition(":")[0] for vm in api.vms}
    assert users == {"trainer": "eve", "other": "ada"}


@pytest.mark.parametrize(("said", "user"), [(None, "eve"), ("ada", "ada")])
def test_connect_takes_the_user_of_the_options_unless_one_is_said(api: Cloud, said: str | None, user: str) -> None:
    api.refuse("instances.insert", forbidden("compute.instances.create", "projects/test-project"), times=9)
    with pytest.raises(InstanceError):
        connect("trainer", zone=A, create=GceSpec("trainer"), gce=GceOptions(user="eve"), user=said, timeout=SECONDS)
    body = next(call for call in api.calls if call.method == "instances.insert").body
    assert body is not None
    items = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert items["ssh-keys"].partition(":")[0] == user


def test_the_question_of_the_options_is_asked_unless_there_is_another(api: Cloud) -> None:
    asked: list[str] = []

    def by(who: str) -> Callable[[str, bool], str]:
        def ask(_prompt: str, _echo: bool) -> str:
            asked.append(who)
            return "none"

        return ask

    api.vm("trainer", zone=A)
    api.vm("trainer", zone=B)
    gce = GceOptions(ask=by("options"))
    for act in (
        lambda: connect("trainer", gce=gce, timeout=SECONDS),
        lambda: connect("trainer", gce=gce, ask=by("connect"), timeout=SECONDS),
        lambda: Machine("trainer", gce=gce).stop(timeout=SECONDS),
        lambda: Machine("trainer", gce=gce, ask=by("machine")).stop(timeout=SECONDS),
    ):
        with pytest.raises(RemoteRuntimeError) as caught:
            act()
        assert caught.value.code == "declined"
    assert asked == ["options", "connect", "options", "machine"]


def test_the_host_key_of_the_options_is_the_one_to_accept(settings: Settings) -> None:
    with pytest.raises(RemoteRuntimeError) as caught:
        connect("ada@127.0.0.1:9", provider="ssh", gce=GceOptions(host_key="SHA256:short"), timeout=SECONDS)
    assert caught.value.code == "bad_host_key"
