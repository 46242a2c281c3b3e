"""How much goes through Identity-Aware Proxy: our client against gcloud's, over the same relay.

    .venv/bin/python -m benchmarks.iap > benchmarks/results/iap.json

The relay (benchmarks/iap_relay.py) runs in a process of its own.  Each client in turn opens a tunnel and uploads,
downloads, or does both at once; the clock runs from the moment that the tunnel is open until the far side says that all
has come, or all is here.  Processor time is given for the client and for the relay: who has the more of it is the one
that the other waits for.  Needs gcloud; without it ours is measured alone.  Everything is made in a temporary directory
and removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from benchmarks.environment import describe
from benchmarks.iap_relay import DONE, HELLO, MIB
from remote_runtime._threads import Deadline
from remote_runtime.providers.gce import iap
from tests.gce.cloud import Cloud

READ_BYTES = 256 << 10
ZONE = "us-central1-a"
HANGS_SECONDS = 60.0
"""A client that is not done by then never is."""

DIRECTIONS = ("upload", "download", "both")


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=128, help="in each direction; default: 128")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, relay(Path(directory), chosen.mib) as far:
        json.dump(measure(Path(directory), far, chosen.mib, chosen.rounds), sys.stdout, indent=2)
        print()


def measure(directory: Path, far: Far, mib: int, rounds: int) -> dict[str, Any]:
    """All figures, with what they were taken on: MB/s (null: it hung), and seconds."""
    clients: dict[str, Callable[[str], Client]] = {"ours": Ours}
    with Cloud(directory, boots=False) as cloud:
        os.environ.update(cloud.environment(), REMOTE_RUNTIME_IAP_ENDPOINT=far.url)
        for name in DIRECTIONS:
            cloud.vm(name)
        if shutil.which("gcloud"):
            clients["gcloud"] = Gcloud
        taken: dict[str, dict[str, list[Run]]] = {client: {name: [] for name in DIRECTIONS} for client in clients}
        for _ in range(rounds):
            for name in DIRECTIONS:
                for client, start in clients.items():
                    if all(run.seconds for run in taken[client][name]):  # what hung once is not tried again
                        taken[client][name].append(run_once(start, name, mib, far))
    result = {
        client: {name: summary(runs, mib) for name, runs in directions.items()} for client, directions in taken.items()
    }
    return {"mib_each_way": mib, "rounds": rounds, **result, "ratio": ratio(result), **describe()}


@dataclass(frozen=True)
class Run:
    """Seconds until the tunnel was open, those of the transfer (None: it hung), and processor time of the transfer."""

    opened: float
    seconds: float | None
    cpu: float
    relay_cpu: float


def summary(runs: list[Run], mib: int) -> dict[str, Any]:
    """Medians."""
    done = [run for run in runs if run.seconds]
    speeds = [mib * MIB / 1e6 / run.seconds for run in done if run.seconds]
    return {
        "mb_per_second": round(statistics.median(speeds), 1) if len(done) == len(runs) else None,
        "cpu_seconds": round(statistics.median(run.cpu for run in runs), 2),
        "relay_cpu_seconds": round(statistics.median(run.relay_cpu for run in runs), 2),
        "opened_after": round(statistics.median(run.opened for run in runs), 3),
        "hung": len(runs) - len(done),
    }


def ratio(result: dict[str, Any]) -> dict[str, float | None]:
    """How many times as fast as gcloud's client ours is."""
    if "gcloud" not in result:
        return {}
    ours, theirs = result["ours"], result["gcloud"]
    return {
        name: round(ours[name]["mb_per_second"] / theirs[name]["mb_per_second"], 2)
        if theirs[name]["mb_per_second"]
        else None
        for name in DIRECTIONS
    }


# -- the clients -----------------------------------------------------------------------------------------------------


class Client(Protocol):
    """An open tunnel."""

    def send(self, data: bytes) -> None:
        """Send all of it."""

    def receive(self, size: int) -> bytes:
        """Some bytes, not more than that; empty at the end."""

    def cpu(self) -> float:
        """Seconds of processor time so far."""

    def close(self) -> None:
        """End it, whatever it is at."""


class Ours:
    """The product's."""

    def __init__(self, name: str) -> None:
        where: dict[str, Any] = {"project": os.environ["CLOUDSDK_CORE_PROJECT"], "zone": ZONE, "instance": name}
        where["endpoint"] = os.environ["REMOTE_RUNTIME_IAP_ENDPOINT"]
        token = Path(os.environ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text
        self._socket = iap.dial(**where, port=22, token=token, deadline=Deadline(HANGS_SECONDS))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, size: int) -> bytes:
        return self._socket.recv(size)

    def cpu(self) -> float:
        return time.process_time()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Gcloud:
    """``gcloud compute start-iap-tunnel``, which is what `gcloud compute ssh` runs for its connection."""

    def __init__(self, name: str) -> None:
        argv = ["gcloud", "compute", "start-iap-tunnel", name, "22", "--listen-on-stdin", f"--zone={ZONE}"]
        argv += [f"--iap-tunnel-url-override={os.environ['REMOTE_RUNTIME_IAP_ENDPOINT']}"]
        argv += ["--iap-tunnel-insecure-disable-websocket-cert-check"]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdin and self._process.stdout
        self._stdin: IO[bytes] = self._process.stdin
        self._stdout: IO[bytes] = self._process.stdout

    def send(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def receive(self, size: int) -> bytes:
        return os.read(self._stdout.fileno(), size)

    def cpu(self) -> float:
        times = [process.cpu_times() for process in self._processes()]
        return sum(time.user + time.system for time in times)

    def close(self) -> None:
        if self._process.poll() is None:
            for process in reversed(self._processes()):
                process.kill()
            self._process.wait()
        for pipe in (self._stdout, self._stdin):
            with suppress(BrokenPipeError):
                pipe.close()

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]


def run_once(start: Callable[[str], Client], name: str, mib: int, far: Far) -> Run:
    """One tunnel, one transfer."""
    started = time.perf_counter()
    client = start(name)
    timer = threading.Timer(HANGS_SECONDS, client.close)
    try:
        client.receive(1)
        opened = time.perf_counter()
        before, relay_before = client.cpu(), far.cpu()
        timer.start()
        transfer(client, name, mib)
        seconds = time.perf_counter() - opened
        return Run(opened - started, seconds, client.cpu() - before, far.cpu() - relay_before)
    except (EOFError, OSError, ValueError):
        return Run(opened - started, None, 0.0, 0.0)
    finally:
        timer.cancel()
        if timer.ident:
            timer.join()
        client.close()


def transfer(client: Client, name: str, mib: int) -> None:
    """Move the bytes; EOFError if the tunnel ends before."""

    def send() -> None:
        with suppress(OSError, ValueError):  # it is closed when it hangs
            for _ in range(mib):
                client.send(block)

    block = os.urandom(MIB)
    sender = threading.Thread(target=send)
    if name != "download":
        sender.start()
    else:
        client.send(HELLO)
    left = (mib * MIB if name != "upload" else 0) + len(DONE)
    while left:
        data = client.receive(min(left, READ_BYTES))
        if not data:
            raise EOFError
        left -= len(data)
    if name != "download":
        sender.join()


# -- the relay, in its own process -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Far:
    """The relay's URL, and its process."""

    url: str
    process: psutil.Process

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def relay(directory: Path, mib: int) -> Iterator[Far]:
    """A relay behind which a VM by the name of a direction does its part of it."""
    argv = [sys.executable, "-m", "benchmarks.iap_relay", str(directory), str(mib)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        url, certificate = process.stdout.readline().split()
        os.environ["SSL_CERT_FILE"] = certificate
        yield Far(url, psutil.Process(process.pid))
        process.stdin.close()


if __name__ == "__main__":
    main()
