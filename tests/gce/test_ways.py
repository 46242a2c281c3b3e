"""The ways to a VM besides its external address, whom to trust there, and the key that is taken back at the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from remote_runtime import keys
from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed, HostKeyError
from remote_runtime.events import Event, Notice
from remote_runtime.machine import Machine
from remote_runtime.model import Instance, Jump
from remote_runtime.providers.gce import GceOptions, GceProvider
from remote_runtime.providers.gce.memory import Memory
from remote_runtime.settings import Settings
from tests.cli.conftest import Running, add_to_ssh_config, run
from tests.gce.cloud import Cloud, Vm
from tests.gce.test_access import PUBLISHES, SECONDS, Provide, connect, login, provide, running
from tests.gce.test_connect import running as running_with_jupyter
from tests.openssh import StartSshd

__all__ = ["provide"]  # a fixture


def found(provider: GceProvider, events: list[Event] | None = None) -> Instance:
    return provider.ensure("trainer", Deadline(SECONDS), (events if events is not None else []).append)


# -- by way of a bastion --------------------------------------------------------------------------------------------


def test_a_jump_host_leads_to_the_internal_address(
    cloud: Cloud, provide: Provide, settings: Settings, start_sshd: StartSshd
) -> None:
    vm = running(cloud, external=False)
    bastion = start_sshd()
    add_to_ssh_config(settings, "bastion", bastion)
    instance = found(provide(jump="bastion"))
    endpoint = instance.resolve(Deadline(SECONDS))
    assert endpoint.host == vm.internal_address
    assert isinstance(endpoint.via, Jump)
    assert endpoint.via.endpoint.port == bastion.port
    assert login(instance, []).endswith("trainer")
    cloud.forget_calls()
    again = found(provide())  # the same way as the last time
    assert login(again, []).endswith("trainer")
    assert cloud.methods == []
    assert isinstance(again.resolve(Deadline(SECONDS)).via, Jump)
    direct = found(provide(reach="internal")).resolve(Deadline(SECONDS))
    assert not isinstance(direct.via, Jump)


def test_a_jump_host_that_refuses_is_not_waited_for(
    cloud: Cloud, provide: Provide, settings: Settings, start_sshd: StartSshd
) -> None:
    """A VM that was given a key just now may yet take it up; a bastion got none from us."""
    running(cloud, external=False)
    bastion = start_sshd()
    add_to_ssh_config(settings, "bastion", bastion)
    (bastion.files.client_key).write_bytes(keys.generate("of nobody")[0])
    began = time.monotonic()
    with pytest.raises(AuthenticationFailed) as caught:
        connect(provide(jump="bastion"))
    assert "At the jump host" in caught.value.message
    assert time.monotonic() - began < 15


def test_a_jump_host_and_iap_are_two_ways(settings: Settings) -> None:
    answer = run("connect", "trainer", "--jump", "bastion", "--tunnel-through-iap")
    assert answer.returncode == 2
    assert "two ways" in answer.stderr


# -- whose address it is --------------------------------------------------------------------------------------------


def test_another_machine_at_the_internal_address_is_refused(cloud: Cloud, provide: Provide) -> None:
    """As in another network with the same private addresses: nothing is sent to it but a greeting."""
    vm = running(cloud, external=False)
    other = cloud.vm("other", external=False, metadata=PUBLISHES)
    cloud.wait_for_boot(other)
    with cloud.world.changed:
        vm.internal_address = other.internal_address
    with pytest.raises(HostKeyError) as caught:
        connect(provide(reach="internal"), ask=lambda prompt, echo: "yes")
    assert caught.value.code == "host_key_changed"
    assert f"{other.internal_address} may be another machine's" in caught.value.hint


def test_nobody_is_asked_to_trust_an_internal_address(cloud: Cloud, provide: Provide) -> None:
    running(cloud, metadata={}, external=False)
    cloud.fail("instances.getSerialPortOutput", times=9, status=403)
    with pytest.raises(HostKeyError) as caught:
        connect(provide(reach="internal"), ask=lambda prompt, echo: "yes")
    assert caught.value.code == "host_key_unknown"
    shown = caught.value.hint.partition("--host-key ")[2].split()[0]
    cloud.fail("instances.getSerialPortOutput", times=9, status=403)
    said, _ = connect(provide(reach="internal", host_key=shown))
    assert said.endswith("trainer")


# -- the key is taken back ------------------------------------------------------------------------------------------

BOB = "bob:ssh-ed25519 AAAA bob"


def test_key_is_taken_back_and_others_stay(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud, metadata={**PUBLISHES, "ssh-keys": BOB})
    instance = found(provide(remove_key=True))
    assert login(instance, []).endswith("trainer")
    assert "ada:" in vm.metadata["ssh-keys"]
    instance.release(Deadline(SECONDS))
    assert vm.metadata["ssh-keys"] == BOB
    cloud.forget_calls()
    instance.release(Deadline(SECONDS))
    assert cloud.methods == []
    said, _ = connect(provide())  # it puts the key there again
    assert said.endswith("trainer")


def test_key_is_taken_out_of_the_profile(cloud: Cloud, provide: Provide) -> None:
    running(cloud, metadata={**PUBLISHES, "enable-oslogin": "TRUE"})
    instance = found(provide(user=None, remove_key=True))
    assert login(instance, []).endswith("trainer")
    [profile] = cloud.world.login_profiles.values()
    assert len(profile["sshPublicKeys"]) == 1
    instance.release(Deadline(SECONDS))
    assert profile["sshPublicKeys"] == {}


def test_key_stays_unless_it_was_asked_for(cloud: Cloud, provide: Provide) -> None:
    vm = running(cloud)
    instance = found(provide())
    login(instance, [])
    instance.release(Deadline(SECONDS))
    assert "ada:" in vm.metadata["ssh-keys"]


def test_key_that_can_not_be_taken_back_is_told(cloud: Cloud, provide: Provide) -> None:
    running(cloud)
    events: list[Event] = []
    instance = found(provide(remove_key=True), events)
    login(instance, events)
    cloud.fail("instances.setMetadata", times=9, status=403, code="forbidden")
    instance.release(Deadline(SECONDS))
    [notice] = [event for event in events if isinstance(event, Notice) and event.code == "key_left"]
    assert notice.level == "warning"
    assert "compute.instances.setMetadata" in notice.text


def test_verbs_besides_connect_tell_it_too(cloud: Cloud) -> None:
    running(cloud)
    events: list[Event] = []
    options = GceOptions(user="ada", remove_key=True)
    machine = Machine("trainer", gce=options, on_event=events.append)
    cloud.fail("instances.setMetadata", times=9, status=403, code="forbidden", after=1)
    assert machine.run(["whoami"], timeout=SECONDS).returncode == 0
    assert [event.code for event in events if isinstance(event, Notice)] == ["key_left"]


@pytest.mark.parametrize("was_there", [True, False])
def test_key_of_the_users_goes_only_if_we_brought_it(
    cloud: Cloud, provide: Provide, tmp_path: Path, was_there: bool
) -> None:
    private, public = keys.generate("ada@laptop")
    path = tmp_path / "google_compute_engine"
    path.touch(mode=0o600)
    path.write_bytes(private)
    path.with_name(f"{path.name}.pub").write_text(f"{public}\n")
    vm = running(cloud, metadata={**PUBLISHES, **({"ssh-keys": f"ada:{public}"} if was_there else {})})
    instance = found(provide(key=path, remove_key=True))
    assert login(instance, []).endswith("trainer")
    instance.release(Deadline(SECONDS))
    assert (public.split()[1] in vm.metadata.get("ssh-keys", "")) is was_there


CONNECT = ("connect", "trainer", "--user", "ada", "--port", "auto", "--json", "--remove-key")


def has_key(vm: Vm) -> bool:
    return "ada:" in vm.metadata.get("ssh-keys", "")


def test_key_goes_at_ctrl_c_and_at_stop(cloud: Cloud, tmp_path: Path) -> None:
    vm = running_with_jupyter(cloud)
    with Running(tmp_path / "first", *CONNECT) as command:
        command.until('"ready"')
        assert has_key(vm)
        assert command.end() == 0
    assert not has_key(vm)
    assert Memory(Settings.load().state_dir).load("trainer") is not None
    with Running(tmp_path / "second", *CONNECT) as command:
        command.until('"ready"')
        assert has_key(vm)
        stopped = run("stop", "trainer", "--user", "ada", "--remove-key")
        assert stopped.returncode == 0, stopped.stderr
        assert "Removing our key" in command.out, "it was not given the time"
    assert not has_key(vm)
