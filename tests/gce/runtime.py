"""Connecting to VMs of the stand-in as a user of the library does."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from typing import Any

from remote_runtime import Runtime, Settings, connect
from remote_runtime.events import Event
from remote_runtime.providers.gce import GceOptions
from tests.gce.cloud import Vm

SECONDS = 120.0


def give_jupyter(vm: Vm) -> None:
    """Put the tests' own Jupyter where one may have been installed on a VM."""
    assert vm.guest is not None
    vm.guest.execute("ln", "-sfn", str(Path(sys.executable).parent.parent), "/opt/jupyter")


def join(events: list[Event] | None = None, **options: Any) -> Runtime:
    """Connect to the VM ``trainer``; ``events`` gets what is told, ``options`` are those of :class:`GceOptions`."""
    return connect(
        "trainer",
        gce=GceOptions(**options),
        user="ada",
        local_port="auto",
        timeout=SECONDS,
        on_event=(events if events is not None else []).append,
        settings=Settings.load(),
    )


def answers(runtime: Runtime) -> bool:
    """Whether the URL answers."""
    headers = {"Authorization": f"token {runtime.token}"}
    request = urllib.request.Request(f"http://localhost:{runtime.port}/api/status", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bool(answer.status == 200)
