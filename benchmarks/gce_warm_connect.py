"""How long the second ``remote-runtime connect`` to a VM takes, from the command to the URL, and what it asks Google.

    .venv/bin/python -m benchmarks.gce_warm_connect > benchmarks/results/gce_warm_connect.json

The VM is one of the tests' stand-in for Google's cloud, and is connected to once.  Then ``connect`` is timed again and
again, each time in turn with ``ssh HOST true`` and, where gcloud is, ``gcloud compute ssh --command=true`` to the same
SSH server, all of which have their keys in place.  Needs what the stand-in needs to boot VMs.  Everything is made in a
temporary directory and removed at the end.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks import stand_in
from benchmarks.environment import describe
from benchmarks.stand_in import MACHINE, NAME, USER, ZONE
from benchmarks.warm_connect import summary, time_command, time_connect
from remote_runtime.providers.gce.memory import Memory
from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud
from tests.gce.runtime import give_jupyter

GCLOUD = ["gcloud", "compute", "ssh", f"{USER}@{NAME}", f"--zone={ZONE}", "--command=true", "--quiet"]


def measure(cloud: Cloud, home: Path, rounds: int) -> dict[str, Any]:
    """All timings, in seconds, with what they were taken on."""
    vm = cloud.vm(NAME, metadata={"enable-guest-attributes": "TRUE"})
    cloud.wait_for_boot(vm)
    give_jupyter(vm)
    cold, first = time_connect(MACHINE)
    commands = {"ssh_true": ssh_command(home)}
    if shutil.which("gcloud"):
        commands["gcloud_compute_ssh_true"] = GCLOUD
        time_command(GCLOUD)  # makes its key, and gives it to the project
    taken: dict[str, list[float]] = {"warm_connect": [], **{name: [] for name in commands}}
    asked: list[str] = []
    for _ in range(rounds):
        cloud.forget_calls()
        seconds, ready = time_connect(MACHINE)
        asked += cloud.methods
        if ready["server_pid"] != first["server_pid"]:
            raise SystemExit("the server that ran was not adopted")
        taken["warm_connect"].append(seconds)
        for name, argv in commands.items():
            taken[name].append(time_command(argv))
    timings = {name: summary(seconds) for name, seconds in taken.items()}
    return {
        **timings,
        "more_than_ssh": round(timings["warm_connect"]["median"] - timings["ssh_true"]["median"], 3),
        "times_as_fast_as_gcloud": times_as_fast(timings),
        "api_calls_of_warm_connects": asked,
        "cold_connect": round(cold, 3),
        **describe(),
    }


def times_as_fast(timings: dict[str, Any]) -> float | None:
    """By the medians; None without gcloud."""
    theirs = timings.get("gcloud_compute_ssh_true")
    return round(theirs["median"] / timings["warm_connect"]["median"], 2) if theirs else None


def ssh_command(directory: Path) -> list[str]:
    """``ssh HOST true`` with our key and the host keys that the cloud vouched for."""
    known = Memory(Settings.load().state_dir).load(NAME)
    assert known
    known_hosts = directory / "known_hosts"
    known_hosts.write_text("".join(f"{known.address} {key}\n" for key in known.host_keys))
    options = ["-F", "none", "-i", known.key, "-o", f"UserKnownHostsFile={known_hosts}", "-o", "BatchMode=yes"]
    return ["ssh", *options, f"{known.user}@{known.address}", "true"]


if __name__ == "__main__":
    stand_in.main(__doc__, measure)
