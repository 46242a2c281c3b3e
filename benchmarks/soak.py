"""An hour of cuts under load: whether any request fails, and whether memory and file descriptors grow.

    .venv/bin/python -m benchmarks.soak > benchmarks/results/soak.json          # an hour; --minutes for another time

`remote-runtime connect` runs as its users run it, against a real SSH server and a real Jupyter server.  20 requests a
second, each on a connection of its own, go through its URL, and five pages talk to one kernel over WebSockets of their
own.  Every 5 to 30 seconds, at random, sshd's process of the connection is killed.

A request has failed if its client got anything but the right answer; a page connects again when it was cut, and must
find the kernel with all that it knew.  Memory, file descriptors and threads are those of the connect process.

Needs OpenSSH's server.  Everything is made in a temporary directory and removed at the end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import psutil
import websocket

from benchmarks.environment import describe
from tests.cli.conftest import Running, json_lines
from tests.jupyter.kernels import ask, run_cell
from tests.jupyter.machine import ALIAS, Machine, machine_with_jupyter

REQUESTS_PER_SECOND = 20
PAGES = 5
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 30.0
SAMPLE_SECONDS = 10.0
PATIENCE_SECONDS = 60.0


def main() -> None:
    """Run it and print one JSON document; the exit status is 1 if a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="default: 60")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as directory, redirect_stdout(sys.stderr):  # sshd's log is printed at its end
        result = soak(Path(directory), minutes * 60)
    json.dump(result, sys.stdout, indent=2)
    print()
    raise SystemExit(1 if result["requests"]["failed"] else 0)


def soak(directory: Path, seconds: float) -> dict[str, Any]:
    """All figures: seconds, megabytes and counts, with what they were taken on."""
    with ExitStack() as opened:
        machine = opened.enter_context(machine_with_jupyter(directory / "machine"))
        runtime = opened.enter_context(connected(machine, directory))
        server = Server(runtime["port"], runtime["token"])
        kernel = server.new_kernel()
        with server.page(kernel) as channel:
            run_cell(channel, "kept = 42")
        requests = opened.enter_context(Requests(server))
        pages = [opened.enter_context(Page(server, kernel)) for _ in range(PAGES)]
        cuts, samples = cut_at_random(machine, psutil.Process(runtime["pid"]), seconds, requests)
        requests.stop()
        with server.page(kernel) as channel:
            kept = run_cell(channel, "print(kept)") == "42\n"
    return {
        "minutes": seconds / 60,
        "cuts": cuts,
        "requests": requests.summary(),
        "pages": {
            "connects": [page.connects for page in pages],
            "answers": sum(page.answers for page in pages),
            "longest_silence": round(max(page.longest_silence for page in pages), 3),
            "kernel_kept_its_memory": kept,
        },
        "connect_process": {name: drift([sample[name] for sample in samples]) for name in samples[0]},
        **describe(),
    }


def cut_at_random(
    machine: Machine, process: psutil.Process, seconds: float, requests: Requests
) -> tuple[int, list[dict[str, float]]]:
    """Cut until the time is over; how often, and what the process weighed on the way."""
    end = time.monotonic() + seconds
    samples, cuts = [weight(process)], 0
    next_cut = time.monotonic() + random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
    next_sample = time.monotonic() + SAMPLE_SECONDS
    while (now := time.monotonic()) < end:
        time.sleep(max(0.0, min(next_cut, next_sample, end) - now))
        if time.monotonic() >= next_cut:
            cuts += machine.sshd.kill_connections() > 0
            next_cut = time.monotonic() + random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
        if time.monotonic() >= next_sample:
            samples.append(weight(process))
            next_sample += SAMPLE_SECONDS
            print(f"{len(samples) * SAMPLE_SECONDS:.0f} s: {cuts} cuts, {requests.summary()}, {samples[-1]}")
    return cuts, samples


def weight(process: psutil.Process) -> dict[str, float]:
    """What a process weighs at this moment."""
    with process.oneshot():
        return {
            "memory_mb": process.memory_info().rss / 1e6,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }


def drift(values: list[float]) -> dict[str, float]:
    """The medians of the first and of the last sixth, without the very beginning, and the most."""
    part = max(1, len(values) // 6)
    return {
        "first": round(statistics.median(values[1 : 1 + part] or values), 1),
        "last": round(statistics.median(values[-part:]), 1),
        "most": round(max(values), 1),
    }


@contextmanager
def connected(machine: Machine, directory: Path) -> Iterator[dict[str, Any]]:
    """`remote-runtime connect` to the machine, for the block; its ready line."""
    home = directory / "home"
    home.mkdir(mode=0o700)
    machine.introduce(home)
    arguments = ["connect", "--provider", "ssh", ALIAS, "--port", "auto", "--json"]
    places = {"HOME": str(home), "REMOTE_RUNTIME_HOME": str(directory / "state")}
    with Running(directory / "connect", *arguments, **places) as running:
        running.until('"ready"')
        yield next(event for event in json_lines(running.out) if event["event"] == "ready")


class Server:
    """The URL as its clients use it."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token

    def request(self, method: str, path: str) -> Any:
        """One request on a connection of its own; the answer's JSON."""
        connection = http.client.HTTPConnection("localhost", self._port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, f"/{path}", headers={"Authorization": f"token {self._token}"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise http.client.HTTPException(f"status {answer.status}")
        return json.loads(body)

    def new_kernel(self) -> str:
        kernel: str = self.request("POST", "api/kernels")["id"]
        return kernel

    @contextmanager
    def page(self, kernel: str) -> Iterator[websocket.WebSocket]:
        """A WebSocket to the kernel."""
        url = f"ws://localhost:{self._port}/api/kernels/{kernel}/channels?token={self._token}"
        channel = websocket.create_connection(url, timeout=PATIENCE_SECONDS)
        try:
            yield channel
        finally:
            channel.close()


class Requests:
    """Makes requests at a steady pace, whatever becomes of the earlier ones."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seconds: list[float] = []
        self._failures: list[str] = []
        self._stop = threading.Event()
        self._clients = ThreadPoolExecutor(64)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._clients.submit(self._ask)
            due += 1 / REQUESTS_PER_SECOND

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            self._server.request("GET", "api/status")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._failures.append(repr(error))
        else:
            self._seconds.append(time.monotonic() - began)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._clients.shutdown()

    def summary(self) -> dict[str, Any]:
        ordered = sorted(self._seconds) or [0.0]
        return {
            "answered": len(self._seconds),
            "failed": len(self._failures),
            "failures": sorted(set(self._failures))[:5],
            "median": round(ordered[len(ordered) // 2], 4),
            "p99": round(ordered[len(ordered) * 99 // 100], 4),
            "worst": round(ordered[-1], 4),
        }

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Page:
    """A notebook page: it asks the kernel something twice a second, and connects again when it was cut."""

    def __init__(self, server: Server, kernel: str) -> None:
        self._server = server
        self._kernel = kernel
        self._stop = threading.Event()
        self.connects = 0
        self.answers = 0
        self.longest_silence = 0.0
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        while not self._stop.is_set():
            cut = (OSError, websocket.WebSocketException)
            with suppress(*cut), self._server.page(self._kernel) as channel:
                self.connects += 1
                while not self._stop.is_set():
                    self._ask(channel)
                    self._stop.wait(0.5)

    def _ask(self, channel: websocket.WebSocket) -> None:
        ask(channel)
        now = time.monotonic()
        self.longest_silence = max(self.longest_silence, now - self._heard)
        self._heard = now
        self.answers += 1

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


if __name__ == "__main__":
    main()
