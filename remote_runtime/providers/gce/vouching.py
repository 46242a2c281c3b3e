"""Asking Google for a VM's host keys, and for what it says on its console."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.guest.attributes import NAMESPACE
from remote_runtime.providers.gce import hostkeys, metadata
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.failures import CloudError
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.operations import rest
from remote_runtime.text import printable

HOST_KEYS_SECONDS = 60.0
"""For so long after it was made a VM may not have published its host keys."""

SSHABLE_POLL_SECONDS = 0.5
LINE_LENGTH = 120


def host_keys(cloud: Cloud, vm: Vm, deadline: Deadline, tell: Callable[[str], None]) -> tuple[tuple[str, ...], str]:
    """The keys that Google vouches for, and the words for where they were found; none if it vouches for none.

    A VM that is just being made is waited for; ``tell`` hears what it says meanwhile.
    """
    while True:
        for ask, read, source in (
            (_guest_attributes, hostkeys.from_guest_attributes, "guest attributes"),
            (_serial_console, hostkeys.from_serial_console, "serial console"),
        ):
            found = read(ask(cloud, vm, deadline))
            if found:
                return found, f"Google Cloud (the {source} of VM {vm.id})"
        if not _may_yet_publish(vm, time.time()) or deadline.expired:
            return (), ""
        tell_console(cloud, vm, deadline, tell)
        rest(1.0, deadline)


def await_sshable(cloud: Cloud, vm: Vm, deadline: Deadline) -> None:
    """Wait until the deadline, or until the guest's agent says, and did not say before, that one can log in."""
    before = _says_sshable(cloud, vm, deadline)
    while not deadline.expired:
        rest(SSHABLE_POLL_SECONDS, deadline)
        if not before and _says_sshable(cloud, vm, deadline):
            return


def _says_sshable(cloud: Cloud, vm: Vm, deadline: Deadline) -> bool:
    answer = _or_nothing(cloud, vm, deadline, "get_guest_attributes", query_path="guest-agent/")
    said = hostkeys.sshable_since(answer)
    return said is not None and said >= (vm.started or 0.0) - 1.0  # of this boot; the clocks tick in whole seconds


def publishes(vm: Vm) -> bool:
    """Whether its guest may tell us something in guest attributes."""
    return metadata.is_true(vm.metadata.get("enable-guest-attributes", ""))


def tell_console(cloud: Cloud, vm: Vm, deadline: Deadline, tell: Callable[[str], None]) -> None:
    """Let ``tell`` hear the last line of the console, if there is one."""
    line = hostkeys.last_line(_serial_console(cloud, vm, deadline))
    if line:
        tell(printable(line, LINE_LENGTH))


def tell_preparation(cloud: Cloud, vm: Vm, deadline: Deadline, tell: Callable[[str], None]) -> None:
    """Let ``tell`` hear at which step the startup script of ours is, if it has said so."""
    answer = _or_nothing(cloud, vm, deadline, "get_guest_attributes", query_path=f"{NAMESPACE}/")
    step = hostkeys.preparation_step(answer)
    if step:
        tell(printable(f"Preparing the VM: {step}", LINE_LENGTH))


def _may_yet_publish(vm: Vm, now: float) -> bool:
    """Whether host keys may yet appear: at its first start, if the guest was told to publish them."""
    return publishes(vm) and (vm.created is None or now - vm.created < HOST_KEYS_SECONDS)


def _guest_attributes(cloud: Cloud, vm: Vm, deadline: Deadline) -> dict[str, Any]:
    return _or_nothing(cloud, vm, deadline, "get_guest_attributes", query_path="hostkeys/")


def _serial_console(cloud: Cloud, vm: Vm, deadline: Deadline) -> dict[str, Any]:
    return _or_nothing(cloud, vm, deadline, "get_serial_port_output")


def _or_nothing(cloud: Cloud, vm: Vm, deadline: Deadline, method: str, **more: Any) -> dict[str, Any]:
    """An answer that may be refused for many reasons, all of which mean that nothing is known."""
    try:
        return cloud.call("instances", method, deadline, zone=vm.zone, instance=vm.name, **more)
    except CloudError:
        return {}
