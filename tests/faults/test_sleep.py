"""The user's computer sleeps, and wakes up in the same network or in another one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.netlab import Netlab
from remote_runtime.link import SLEPT_SECONDS, SUSPECT_SECONDS
from remote_runtime.ssh import ASK_EVERY_SECONDS
from tests.faults import web
from tests.netlab import FarSshd, StartFarSshd, StartNetlab

pytestmark = pytest.mark.netns

ASLEEP_SECONDS = ASK_EVERY_SECONDS + SLEPT_SECONDS + 1
BACK_SECONDS = 2.5
"""Served again so soon after waking up: before silence could have told anything."""


class Laptop:
    """The process, the port that it opened, and what its link said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self._process = process
        self.port = int(process.stdout.readline())
        self.said: list[str] = []
        self._reader = threading.Thread(target=lambda: self.said.extend(process.stdout or ()))
        self._reader.start()

    @contextmanager
    def asleep(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(ASLEEP_SECONDS)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def shut_down(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture
def lab(netlab: StartNetlab) -> Netlab:
    return netlab(rtt_ms=40)


@pytest.fixture
def laptop(lab: Netlab, far_sshd: StartFarSshd) -> Iterator[Laptop]:
    far: FarSshd = far_sshd(lab)
    with web.web_server(lab.far.popen) as web_port:
        place = [lab.far.address, "22", far.endpoint().user, str(far.files.client_key), far.files.host_keys[0]]
        process = lab.near.popen(
            [sys.executable, "-m", "tests.faults.laptop", *place, str(web_port)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        laptop = Laptop(process)
        yield laptop
        laptop.shut_down()


def seconds_of_a_request(lab: Netlab, laptop: Laptop) -> float:
    began = time.monotonic()
    with lab.near.in_namespace():
        web.get(laptop.port)
    return time.monotonic() - began


def test_it_wakes_up_where_it_fell_asleep(lab: Netlab, laptop: Laptop) -> None:
    """Its connection still stands, and goes on."""
    with lab.near.in_namespace():
        download = web.request(laptop.port, 1 << 32)
    with download:
        assert download.read(1000)
        with laptop.asleep():
            pass
        assert seconds_of_a_request(lab, laptop) < BACK_SECONDS
        assert download.read(1 << 20)
    assert not any(line.startswith("failed") for line in laptop.said)


def test_it_wakes_up_in_another_network(lab: Netlab, laptop: Laptop) -> None:
    """Nothing says that its connection is gone, but that it has slept is reason enough to try another one."""
    with laptop.asleep():
        lab.move_near("10.77.1.9")
    seconds = seconds_of_a_request(lab, laptop)
    print(f"served {seconds:.2f} s after waking up: {laptop.said}")
    assert seconds < BACK_SECONDS < SUSPECT_SECONDS
    assert any("asleep" in line for line in laptop.said)
