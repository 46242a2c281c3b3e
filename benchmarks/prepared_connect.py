"""How long the first ``remote-runtime connect`` to a prepared VM takes, from the command to the URL.

    .venv/bin/python -m benchmarks.prepared_connect > benchmarks/results/prepared_connect.json

The VM is one of the tests' stand-in for Google's cloud, made as ``create --prepare`` makes it, and its startup script
is done.  What this computer knows after that is put back before each connect, so that each is a first one: it asks
Google where the machine is and which host keys it has.  Needs what the stand-in needs to boot VMs.  Everything is made
in a temporary directory and removed at the end.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import stand_in
from benchmarks.environment import describe
from benchmarks.stand_in import MACHINE, NAME, USER, ZONE
from benchmarks.warm_connect import summary, time_connect
from remote_runtime._threads import Deadline
from remote_runtime.events import log_event
from remote_runtime.providers.gce import GceOptions, GceProvider, GceSpec
from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud, Vm

SECONDS = 120.0


def measure(cloud: Cloud, home: Path, rounds: int) -> dict[str, Any]:
    """All timings, in seconds, with what they were taken on."""
    provider = GceProvider(Settings.load(), GceOptions(user=USER, zones=(ZONE,)))
    provider.create(GceSpec(NAME, prepare=True), Deadline(SECONDS), log_event)
    await_ready(cloud.vms[0])
    made = shutil.copytree(home, home.with_name("made"))
    taken, asked, servers = [], [], set()
    for _ in range(rounds):
        shutil.rmtree(home)
        shutil.copytree(made, home)
        cloud.forget_calls()
        seconds, ready = time_connect(MACHINE)
        taken.append(seconds)
        asked = cloud.methods
        servers.add(ready["server_pid"])
    if len(servers) > 1:
        raise SystemExit("the server that ran was not adopted")
    return {"first_connect": summary(taken), "api_calls_of_each": asked, **describe()}


def await_ready(vm: Vm) -> None:
    """Return when its startup script is done."""
    deadline = Deadline(SECONDS)
    while vm.guest_attributes.get(("remote-runtime", "state")) != "ready":
        deadline.check(f"waiting for the startup script: {vm.serial[-2000:]}")
        time.sleep(0.1)


if __name__ == "__main__":
    stand_in.main(__doc__, measure, own_rights=True, links={"/opt/jupyter": Path(sys.prefix)})
