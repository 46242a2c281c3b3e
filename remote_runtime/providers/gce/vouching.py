"""Asking Google for a VM's host keys, and for what it says on its console."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.guest.attributes import NAMESPACE
from remote_runtime.providers.gce import hostkeys, metadata, patience
from remote_runtime.providers.gce.client import Cloud
from remote_runtime.providers.gce.failures import CloudError
from remote_runtime.providers.gce.finding import Vm
from remote_runtime.providers.gce.operations import rest
from remote_runtime.text import printable

HOST_KEYS_SECONDS = 60.0
"""For so long after it was made a VM may not have published its host keys."""

CONSOLE_SECONDS = 30.0
"""For so long after its SSH server is up a VM may not have put them on its console: some images do it last."""

SSHABLE_POLL_SECONDS = 0.5
LINE_LENGTH = 120


def host_keys(
    cloud: Cloud, vm: Vm, deadline: Deadline, tell: Callable[[str], None], *, shown_at: float | None
) -> tuple[tuple[str, ...], str]:
    """The keys that Google vouches for, and the words for where they were found; none if it vouches for none.

    A VM that may yet publish them is waited for; ``tell`` hears what it says meanwhile.  ``shown_at``: the monotonic
    moment when its SSH server was seen to show a key, None if it was not.
    """
    while True:
        readable = False
        for method, more, read, source in _SOURCES:
            answer = _or_nothing(cloud, vm, deadline, method, **more)
            found = read(answer or {})
            if found:
                return found, f"Google Cloud (the {source} of VM {vm.id})"
            readable = readable or answer is not None
        since_shown = None if shown_at is None else time.monotonic() - shown_at
        if not (readable and _may_yet_publish(vm, time.time(), since_shown)) or deadline.expired:
            return (), ""
        if since_shown is None:
            tell_console(cloud, vm, deadline, tell)
        else:
            tell(f"Waiting until {vm.name} has published its host keys")
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
    said = hostkeys.sshable_since(answer or {})
    return said is not None and said >= (vm.started or 0.0) - 1.0  # of this boot; the clocks tick in whole seconds


def publishes(vm: Vm) -> bool:
    """Whether its guest may tell us something in guest attributes."""
    return metadata.is_true(vm.metadata.get("enable-guest-attributes", ""))


def tell_console(cloud: Cloud, vm: Vm, deadline: Deadline, tell: Callable[[str], None]) -> None:
    """Let ``tell`` hear the last line of the console, if there is one."""
    line = hostkeys.last_line(_or_nothing(cloud, vm, deadline, "get_serial_port_output") or {})
    if line:
        tell(printable(line, LINE_LENGTH))


def tell_preparation(cloud: Cloud, vm: Vm, deadline: Deadline, tell: Callable[[str], None]) -> None:
    """Let ``tell`` hear at which step the startup script of ours is, if it has said so."""
    answer = _or_nothing(cloud, vm, deadline, "get_guest_attributes", query_path=f"{NAMESPACE}/")
    step = hostkeys.preparation_step(answer or {})
    if step:
        tell(printable(f"Preparing the VM: {step}", LINE_LENGTH))


def _may_yet_publish(vm: Vm, now: float, since_shown: float | None) -> bool:
    """Whether host keys may yet appear at its first start.

    A guest that was told to publish them does so before its SSH server is up.  Any other may put them on its console
    somewhat later than that: before, nobody waits for them, since not every image does it.
    """
    since_made = now - vm.created if vm.created else 0.0
    young = since_made < HOST_KEYS_SECONDS
    if since_shown is None:
        return young and publishes(vm)
    return young or (since_shown < CONSOLE_SECONDS and since_made < patience.BOOT_SECONDS)


def _or_nothing(cloud: Cloud, vm: Vm, deadline: Deadline, method: str, **more: Any) -> dict[str, Any] | None:
    """An answer that may be refused for many reasons, all of which mean that nothing is known.

    None: it may not be read, so that asking again won't help.
    """
    try:
        return cloud.call("instances", method, deadline, zone=vm.zone, instance=vm.name, **more)
    except CloudError as error:
        return None if error.fault.status == 403 else {}


_SOURCES: tuple[tuple[str, dict[str, str], Callable[[dict[str, Any]], tuple[str, ...]], str], ...] = (
    ("get_guest_attributes", {"query_path": "hostkeys/"}, hostkeys.from_guest_attributes, "guest attributes"),
    ("get_serial_port_output", {}, hostkeys.from_serial_console, "serial console"),
)
