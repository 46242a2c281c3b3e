"""How long the second ``remote-runtime connect`` takes, from the command to the URL.

    .venv/bin/python benchmarks/warm_connect.py > warm_connect.json

A sandbox is made and connected once, which installs Jupyter in it; then ``connect`` to it is timed again and again,
each time in turn with ``ssh HOST true`` to the same SSH server, so that both see the same noise.  Needs OpenSSH's
client and server.  Everything is made in a temporary directory and removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from remote_runtime._threads import Deadline
from remote_runtime.model import Endpoint, Pinned
from remote_runtime.providers import load_provider
from remote_runtime.settings import Settings

MACHINE = ["--sandbox", "--instance", "bench"]


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        os.environ["REMOTE_RUNTIME_HOME"] = directory
        try:
            json.dump(measure(Path(directory), rounds), sys.stdout, indent=2)
            print()
        finally:
            subprocess.run(remote_runtime("delete", *MACHINE, "--yes", "--quiet"), check=False)


def measure(directory: Path, rounds: int) -> dict[str, Any]:
    """All timings, in seconds, with what they were taken on."""
    cold, first = time_connect(MACHINE)
    ssh = ssh_command(directory)
    warm, reference = [], []
    for _ in range(rounds):
        seconds, ready = time_connect(MACHINE)
        if (ready["url"], ready["server_pid"]) != (first["url"], first["server_pid"]):
            raise SystemExit("the server that ran was not adopted")
        warm.append(seconds)
        reference.append(time_command(ssh))
    return {
        "warm_connect": summary(warm),
        "ssh_true": summary(reference),
        "cold_connect": round(cold, 3),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "remote_runtime": version("remote-runtime"),
    }


def summary(seconds: list[float]) -> dict[str, Any]:
    """The median, and every single one."""
    return {"median": round(statistics.median(seconds), 3), "all": [round(one, 3) for one in seconds]}


def remote_runtime(*arguments: str) -> list[str]:
    """The command as a user's shell finds it: beside this Python."""
    return [str(Path(sys.executable).with_name("remote-runtime")), *arguments]


def time_connect(machine: list[str]) -> tuple[float, dict[str, Any]]:
    """Connect, and end the connection as soon as the URL is there; the server is left running."""
    started = time.perf_counter()
    with subprocess.Popen(remote_runtime("connect", *machine, "--json"), stdout=subprocess.PIPE) as process:
        assert process.stdout
        event: dict[str, Any] = {}
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] in ("ready", "error"):
                break
        seconds = time.perf_counter() - started
        process.send_signal(signal.SIGTERM)
    if event.get("event") != "ready":
        raise SystemExit(f"connect failed: {event}")
    return seconds, event


def ssh_command(directory: Path) -> list[str]:
    """``ssh HOST true`` for the sandbox's own SSH server."""
    sandbox = load_provider("sandbox", Settings.load(), lookup=no_lookup).find("bench")
    assert sandbox
    endpoint = sandbox.resolve(Deadline(10))
    assert isinstance(endpoint.trust, Pinned)
    known_hosts = directory / "known_hosts"
    known_hosts.write_text("".join(f"[{endpoint.host}]:{endpoint.port} {key}\n" for key in endpoint.trust.keys))
    options = ["-F", "none", "-i", str(endpoint.identities[0].key), "-o", f"UserKnownHostsFile={known_hosts}"]
    options += ["-o", "BatchMode=yes", "-p", str(endpoint.port)]
    return ["ssh", *options, f"{endpoint.user}@{endpoint.host}", "true"]


def no_lookup(*_: object, **__: object) -> Endpoint:
    """A sandbox is not looked up in ssh_config."""
    raise AssertionError


def time_command(argv: list[str]) -> float:
    """How long a command takes, from its start to its end."""
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
