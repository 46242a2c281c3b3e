"""The machine's SSH server is killed, or the machine stands still."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from benchmarks.netlab import Netlab
from remote_runtime.recovery import REFUSED_PAUSE_SECONDS
from tests.faults import web
from tests.faults.service import Service, service
from tests.netlab import StartFarSshd, StartNetlab
from tests.openssh import Sshd

KNOWN_SECONDS = 15.0
DOWN_SECONDS = 5.0
FROZEN_SECONDS = 20.0
SLACK_SECONDS = 3.0


@pytest.fixture
def served(sshd: Sshd) -> Iterator[Service]:
    with web.web_server() as port, service(sshd.endpoint, port) as served:
        yield served


def test_a_killed_ssh_server_that_is_back_after_a_while(served: Service, sshd: Sshd) -> None:
    sshd.stop()  # by SIGKILL, with all its connections
    began = time.monotonic()
    assert served.until("reconnecting") - began < 2
    waiting = [served.getting() for _ in range(8)]
    time.sleep(DOWN_SECONDS)
    assert not any(one.done() for one in waiting)
    sshd.start()
    back = time.monotonic()
    waited = [one.result() - back for one in waiting]
    print(f"served {max(waited):.2f} s after it was back")
    assert max(waited) < REFUSED_PAUSE_SECONDS + SLACK_SECONDS
    attempts = [event for _, event in served.told if event.state == "reconnecting"]
    assert len(attempts) < 15, "no storm of attempts"
    assert [event.retry_in for event in attempts if event.retry_in is None] == []
    assert all(event.reason for event in attempts)


def test_a_machine_that_stands_still_for_a_while_goes_on_where_it_stopped(served: Service, sshd: Sshd) -> None:
    """Its kernel acknowledges all the same, so that only missing answers tell; and nothing has to be cut."""
    connection = served.link.connection()
    with web.request(served.port, 1 << 32) as download:
        assert download.read(1000)
        sshd.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            waiting = [served.getting()]
            assert served.until("reconnecting", seconds=KNOWN_SECONDS) - began < KNOWN_SECONDS
            waiting.append(served.getting())
            time.sleep(max(0.0, began + FROZEN_SECONDS - time.monotonic()))
            assert not any(one.done() for one in waiting)
        finally:
            sshd.signal(signal.SIGCONT)
        back = time.monotonic()
        waited = [one.result() - back for one in waiting]
        print(f"served {max(waited):.2f} s after it went on")
        assert max(waited) < SLACK_SECONDS
        for _ in range(200):
            assert download.read(1 << 20)
    assert served.link.connection() is connection


@pytest.mark.netns
def test_a_machine_whose_power_fails_and_comes_back(netlab: StartNetlab, far_sshd: StartFarSshd) -> None:
    """Silence first; when it has booted, its old connections are unknown to it."""
    lab: Netlab = netlab(rtt_ms=40)
    sshd = far_sshd(lab)
    with web.web_server(lab.far.popen) as port, service(sshd.endpoint, port, within=lab.near.in_namespace) as served:
        lab.black_hole()
        began = time.monotonic()
        sshd.stop()
        waiting = served.getting()
        assert served.until("reconnecting", seconds=KNOWN_SECONDS) - began < KNOWN_SECONDS
        lab.lift()
        sshd.start()
        back = time.monotonic()
        assert waiting.result() - back < REFUSED_PAUSE_SECONDS + SLACK_SECONDS
        print(f"served {time.monotonic() - back:.2f} s after it was back")
