"""Google is asked for a VM's host keys once more after its SSH server answers, before anybody has to trust blindly."""

from __future__ import annotations

import pytest

from remote_runtime.errors import HostKeyError
from remote_runtime.events import StepProgress
from remote_runtime.providers.gce import GceSpec
from remote_runtime.providers.gce.memory import Memory
from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud
from tests.gce.test_access import PUBLISHES, Provide, connect, provide

__all__ = ["provide"]  # a fixture

A = "us-central1-a"
VOUCHING = "remote_runtime.providers.gce.vouching"


def nobody(prompt: str, echo: bool) -> str:
    """Who must not be asked."""
    raise AssertionError(prompt)


def source() -> str:
    """Who vouched for the host keys that are pinned."""
    known = Memory(Settings.load().state_dir).load("trainer")
    assert known is not None
    return known.source


def warm_up(provide: Provide) -> None:
    """Import what an API is asked with: it takes so long that a VM would be up meanwhile."""
    assert provide().find("nobody") is None


@pytest.mark.parametrize("on_terminal", [True, False])
def test_keys_that_a_first_boot_brings_while_it_is_waited_for(
    cloud: Cloud, provide: Provide, on_terminal: bool
) -> None:
    """gcloud's VMs have no guest attributes, so that nothing says that keys will come."""
    warm_up(provide)
    cloud.set_boot(host_keys_after=1.2, sshd_after=1.5)
    cloud.vm("trainer", metadata={})
    said, _ = connect(provide(), ask=nobody if on_terminal else None)
    assert said.endswith("trainer")
    assert "serial console" in source()


def test_keys_that_come_later_than_the_ssh_server(cloud: Cloud, provide: Provide) -> None:
    warm_up(provide)
    cloud.set_boot(host_keys_after=2.5)
    cloud.vm("trainer", metadata={})
    said, events = connect(provide(), ask=nobody)
    assert said.endswith("trainer")
    assert "serial console" in source()
    told = [event.text for event in events if isinstance(event, StepProgress)]
    assert "Waiting until trainer has published its host keys" in told


def test_keys_that_are_published_later_than_is_usual(
    cloud: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{VOUCHING}.HOST_KEYS_SECONDS", 0.5)
    warm_up(provide)
    cloud.set_boot(host_keys_after=2.0, sshd_after=2.5)
    said, _ = connect(provide(zones=(A,), create=GceSpec("trainer")), ask=nobody)
    assert said.endswith("trainer")
    assert "guest attributes" in source()


def test_a_person_is_asked_once_and_last(cloud: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no keys come, after the time in which they might have."""
    monkeypatch.setattr(f"{VOUCHING}.HOST_KEYS_SECONDS", 0.5)
    monkeypatch.setattr(f"{VOUCHING}.CONSOLE_SECONDS", 2.0)
    cloud.set_boot(host_keys_after=999.0)
    cloud.wait_for_boot(cloud.vm("trainer", metadata=PUBLISHES))
    asked: list[list[str]] = []

    def answer(prompt: str, echo: bool) -> str:
        asked.append(cloud.methods)
        return "no"

    with pytest.raises(HostKeyError) as caught:
        connect(provide(), ask=answer)
    assert "was not accepted" in caught.value.message
    [before] = asked
    assert before.count("instances.getGuestAttributes") > 2
    assert before[-1] == "instances.getSerialPortOutput"


def test_an_old_vm_is_looked_at_once_more_and_not_waited_for(
    cloud: Cloud, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{VOUCHING}.HOST_KEYS_SECONDS", 0.0)
    monkeypatch.setattr("remote_runtime.providers.gce.patience.BOOT_SECONDS", 0.0)
    cloud.set_boot(host_keys_after=999.0)
    cloud.wait_for_boot(cloud.vm("trainer", metadata={}))
    with pytest.raises(HostKeyError) as caught:
        connect(provide())
    assert "--host-key SHA256:" in caught.value.hint
    assert cloud.methods.count("instances.getSerialPortOutput") == 2


def test_keys_that_may_not_be_read_are_not_waited_for(cloud: Cloud, provide: Provide) -> None:
    cloud.wait_for_boot(cloud.vm("trainer", metadata=PUBLISHES))
    for method in ("instances.getGuestAttributes", "instances.getSerialPortOutput"):
        cloud.fail(method, times=99, status=403)
    said, _ = connect(provide(), ask=lambda prompt, echo: "yes")
    assert said.endswith("trainer")
    assert cloud.methods.count("instances.getSerialPortOutput") == 2
