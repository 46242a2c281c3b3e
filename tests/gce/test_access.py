"""Logging in to VMs that boot: keys, host keys, addresses, and what is remembered of them."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from remote_runtime import keys, ssh
from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed, HostKeyError, InstanceError, UsageError
from remote_runtime.events import Event, Notice, StepProgress
from remote_runtime.link import log_in
from remote_runtime.model import Instance, KnownHosts, Pinned
from remote_runtime.providers.gce import GceOptions, GceProvider, GceSpec, metadata
from remote_runtime.providers.gce.memory import Memory
from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud, Late, Vm

SECONDS = 60.0
A = "us-central1-a"
PUBLISHES = {"enable-guest-attributes": "TRUE"}

Provide = Callable[..., GceProvider]


@pytest.fixture
def provide(cloud: Cloud) -> Provide:
    """A provider that the environment leads to the stand-in."""

    def make(**options: Any) -> GceProvider:
        return GceProvider(Settings.load(), GceOptions(**{"user": "ada", **options}))

    return make


def login(instance: Instance, events: list[Event], *, seconds: float = SECONDS, ask: Any = None) -> str:
    """Log in, and say as whom and where."""
    deadline = Deadline(seconds)
    attempt = partial(ssh.connect, ask=ask, on_event=events.append, deadline=deadline)
    with log_in(instance.resolve, attempt, instance.judge, deadline) as connection:
        with connection.execute("whoami; hostname", deadline) as process:
            return b" ".join(process.lines()).decode()


def connect(provider: GceProvider, *, seconds: float = SECONDS, ask: Any = None) -> tuple[str, list[Event]]:
    events: list[Event] = []
    instance = provider.ensure("trainer", Deadline(seconds), events.append)
    return login(instance, events, seconds=seconds, ask=ask), events


def running(cloud: Cloud, **fields: Any) -> Vm:
    vm = cloud.vm("trainer", **{"metadata": PUBLISHES, **fields})
    cloud.wait_for_boot(vm)
    cloud.forget_calls()
    return vm


def test_first_login_brings_its_key_and_pins_the_host(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud, metadata={**PUBLISHES, "ssh-keys": "bob:ssh-ed25519 AAAA bob"})
    provider = provide()
    events: list[Event] = []
    instance = provider.ensure("trainer", Deadline(SECONDS), events.append)
    endpoint = instance.resolve(Deadline(SECONDS))
    assert isinstance(endpoint.trust, Pinned)
    assert "guest attributes" in endpoint.trust.source
    assert endpoint.host == vm.address
    assert login(instance, events).endswith("trainer")
    lines = vm.metadata["ssh-keys"].splitlines()
    assert lines[0] == "bob:ssh-ed25519 AAAA bob"  # stays, or bob were locked out
    end = metadata.expiry(lines[1])
    assert end is not None
    assert end > time.time() + 86400


def test_warm_login_asks_nobody(cloud: Cloud, provide: Provide) -> None:
    running(cloud)
    connect(provide())
    cloud.forget_calls()
    connect(provide())
    assert cloud.methods == []


def test_new_address_is_found_when_the_old_one_is_dead(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    connect(provide())
    old = vm.address
    provide().stop("trainer", Deadline(SECONDS))
    connect(provide())
    assert vm.address not in ("", old)
    assert vm.status == "RUNNING"


def test_vm_made_anew_has_new_host_keys(cloud: Cloud, provide: Provide) -> None:
    running(cloud)
    connect(provide())
    provider = provide()
    remembered = provider.ensure("trainer", Deadline(SECONDS), lambda event: None).resolve(Deadline(SECONDS)).trust
    with_gone = provide()
    cloud.find("trainer").vanish()  # type: ignore[union-attr]
    running(cloud)
    said, _ = connect(with_gone)
    assert said.endswith("trainer")
    assert (
        provide().ensure("trainer", Deadline(SECONDS), lambda event: None).resolve(Deadline(SECONDS)).trust
        != remembered
    )


def test_boot_is_survived(cloud: Cloud, provide: Provide) -> None:
    """The port that refuses, the key that does not work yet, the moment when sshd reads its configuration again."""
    cloud.set_boot(sshd_after=0.6, keys_after=0.8, refused_for=0.3)
    cloud.vm("trainer", metadata=PUBLISHES, status="TERMINATED")
    said, _ = connect(provide())
    assert said.endswith("trainer")


def test_a_booting_machine_is_heard_meanwhile(cloud: Cloud, provide: Provide) -> None:
    """The last line of its console is progress; that it can be logged in to is told by its agent."""
    assert provide().find("nobody") is None  # it takes long once, because of what is imported
    cloud.set_boot(sshd_after=2.5)
    vm = cloud.vm("trainer", metadata=PUBLISHES)
    said, events = connect(provide())
    assert said.endswith("trainer")
    spoken = [event.text for event in events if isinstance(event, StepProgress) and event.step == "ssh"]
    assert "-----END SSH HOST KEY KEYS-----" in spoken
    asked = [call.query.get("queryPath") for call in cloud.calls if call.method == "instances.getGuestAttributes"]
    assert "guest-agent/" in asked
    assert ("guest-agent", "sshable") in vm.guest_attributes


@pytest.mark.parametrize(
    ("at_end", "words"),
    [("stop", "Google stops trainer at "), ("delete", "Google deletes trainer, with its disks, at ")],
)
def test_made_and_logged_in(cloud: Cloud, provide: Provide, at_end: Literal["stop", "delete"], words: str) -> None:
    provider = provide(zones=(A,), create=GceSpec("trainer", at_end=at_end))
    said, events = connect(provider)
    assert said.endswith("trainer")
    assert "instances.setMetadata" not in cloud.methods  # the key is there from the start
    notices = [event for event in events if isinstance(event, Notice)]
    assert [notice.code for notice in notices] == ["run_limit"]
    assert notices[0].text.startswith(words)
    cloud.forget_calls()
    _, events = connect(provide())
    assert notices == [event for event in events if isinstance(event, Notice)]
    assert cloud.methods == []  # it is remembered


def test_two_hosts_that_make_it_at_once_both_get_in(cloud: Cloud, tmp_path: Path) -> None:
    """Each with a key and a memory of its own: one makes it, the other takes it and adds its key beside the first."""
    cloud.inject("instances.insert", Late(0.3), times=2)
    said: dict[str, str] = {}

    def host(user: str) -> None:
        settings = dataclasses.replace(Settings.load(), state_dir=tmp_path / user)
        provider = GceProvider(settings, GceOptions(user=user, zones=(A,), create=GceSpec("trainer")))
        said[user], _ = connect(provider)

    hosts = [threading.Thread(target=host, args=(user,)) for user in ("ada", "eve")]
    for one in hosts:
        one.start()
    for one in hosts:
        one.join()
    assert sorted(said) == ["ada", "eve"]
    [vm] = cloud.vms
    assert {line.partition(":")[0] for line in vm.metadata["ssh-keys"].splitlines()} == {"ada", "eve"}
    assert len(cloud.disks) == 1
    assert cloud.methods.count("instances.insert") == 2


def test_host_keys_from_the_console(cloud: Cloud, provide: Provide) -> None:
    running(cloud, metadata={})
    instance = provide().ensure("trainer", Deadline(SECONDS), lambda event: None)
    trust = instance.resolve(Deadline(SECONDS)).trust
    assert isinstance(trust, Pinned)
    assert "serial console" in trust.source


def test_nothing_vouches(cloud: Cloud, provide: Provide) -> None:
    running(cloud, metadata={})
    cloud.fail("instances.getSerialPortOutput", times=9, status=403)
    with pytest.raises(HostKeyError) as caught:
        connect(provide())
    assert caught.value.code == "host_key_unknown"
    assert "--host-key SHA256:" in caught.value.hint
    cloud.fail("instances.getSerialPortOutput", times=9, status=403)
    said, _ = connect(provide(), ask=lambda prompt, echo: "yes")
    assert said.endswith("trainer")
    said, _ = connect(provide())  # remembered by the numeric id
    trust = provide().ensure("trainer", Deadline(SECONDS), lambda event: None).resolve(Deadline(SECONDS)).trust
    assert isinstance(trust, KnownHosts)
    assert trust.name.startswith("compute.")


def test_named_host_key_is_the_one_that_is_accepted(cloud: Cloud, provide: Provide) -> None:
    running(cloud)
    with pytest.raises(HostKeyError) as caught:
        connect(provide(host_key="SHA256:" + "A" * 43))
    assert caught.value.code == "host_key_changed"


def test_changed_host_key_of_the_same_vm_is_refused(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    connect(provide())
    vm.guest.execute("sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -A")  # type: ignore[union-attr]
    provide().change("reset", "trainer", Deadline(SECONDS))
    cloud.wait_for_boot(vm)
    with pytest.raises(HostKeyError) as caught:
        connect(provide())
    assert caught.value.code == "host_key_changed"


def test_os_login(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud, metadata={**PUBLISHES, "enable-oslogin": "TRUE"})
    provider = provide(user=None)
    events: list[Event] = []
    instance = provider.ensure("trainer", Deadline(SECONDS), events.append)
    assert instance.resolve(Deadline(SECONDS)).user == "ada_example_com"
    assert login(instance, events).endswith("trainer")
    assert "ssh-keys" not in vm.metadata


def test_removed_key_is_put_back(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    connect(provide())
    provide().forget("trainer", Deadline(SECONDS))
    assert "ssh-keys" not in vm.metadata
    connect(provide())
    assert "ssh-keys" in vm.metadata


def test_metadata_that_others_change_meanwhile(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    cloud.fail("instances.setMetadata", times=2, status=412, code="conditionNotMet")
    connect(provide())
    assert vm.metadata["ssh-keys"].startswith("ada:")


def test_missing_permission_is_named(cloud: Cloud, provide: Provide) -> None:
    running(cloud)
    cloud.fail("instances.setMetadata", times=9, status=403, code="forbidden")
    with pytest.raises(InstanceError) as caught:
        connect(provide())
    assert caught.value.code == "permission_denied"
    assert "compute.instances.setMetadata" in caught.value.message
    assert "add-iam-policy-binding" in caught.value.hint
    assert Memory(Settings.load().state_dir).load("trainer") is None


@pytest.mark.parametrize("method", ["instances.getGuestAttributes", "projects.get"])
@pytest.mark.parametrize("status", [403, 404])
def test_what_may_not_be_known_is_no_failure(cloud: Cloud, provide: Provide, method: str, status: int) -> None:
    running(cloud)
    cloud.fail(method, times=99, status=status)
    said, _ = connect(provide())
    assert said.endswith("trainer")


def test_internal_address(cloud: Cloud, provide: Provide) -> None:
    running(cloud, external=False)
    said, _ = connect(provide(reach="internal"))
    assert said.endswith("trainer")
    cloud.forget_calls()
    said, _ = connect(provide())  # the same way as the last time
    assert cloud.methods == []


def test_external_address_is_missed_in_words(cloud: Cloud, provide: Provide) -> None:
    running(cloud, external=False)
    with pytest.raises(InstanceError) as caught:
        connect(provide(reach="external"))
    assert caught.value.code == "no_external_address"


def test_key_of_the_users(cloud: Cloud, provide: Provide, tmp_path: Path) -> None:
    vm = running(cloud)
    private, public = keys.generate("ada@laptop")
    path = tmp_path / "google_compute_engine"
    path.touch(mode=0o600)
    path.write_bytes(private)
    with pytest.raises(AuthenticationFailed) as caught:
        connect(provide(key=path))
    assert caught.value.code == "key_unreadable"
    path.with_name(f"{path.name}.pub").write_text(f"{public}\n")
    said, _ = connect(provide(key=path))
    assert said.endswith("trainer")
    assert public.split()[1] in vm.metadata["ssh-keys"]
    provide().forget("trainer", Deadline(SECONDS))
    assert public.split()[1] in vm.metadata["ssh-keys"]  # it is the user's, who may need it


def test_key_near_its_end_is_renewed(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    connect(provide())
    memory = Memory(Settings.load().state_dir)
    known = memory.load("trainer")
    assert known is not None
    soon = time.time() + 3600
    memory.save("trainer", dataclasses.replace(known, key_until=soon))
    with cloud.world.changed:
        vm.metadata["ssh-keys"] = metadata.key_line("ada", memory.key.with_name("key.pub").read_text(), soon)
    said, _ = connect(provide())
    assert said.endswith("trainer")
    end = metadata.expiry(vm.metadata["ssh-keys"])
    assert end is not None
    assert end > soon + 86400


def test_address_that_comes_late(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    address = vm.address
    with cloud.world.changed:
        vm.address = ""

        def allocate() -> None:
            vm.address = address

        cloud.world.when(0.5, allocate)
    said, _ = connect(provide())
    assert said.endswith("trainer")


def test_os_login_wants_to_know_who_one_is(cloud: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    running(cloud, metadata={**PUBLISHES, "enable-oslogin": "TRUE"})
    monkeypatch.delenv("CLOUDSDK_CORE_ACCOUNT")
    with pytest.raises(UsageError) as caught:
        connect(provide())
    assert caught.value.code == "account_unknown"


def test_os_login_key_is_reused(cloud: Cloud, provide: Provide) -> None:
    running(cloud, metadata={**PUBLISHES, "enable-oslogin": "TRUE"})
    connect(provide(user=None))
    Memory(Settings.load().state_dir).forget("trainer")
    cloud.forget_calls()
    connect(provide(user=None))
    assert not any("importSshPublicKey" in method for method in cloud.methods)
