"""The network between host and VM fails in every way that a laboratory can make it fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

import pytest

from benchmarks.netlab import Netlab
from remote_runtime.errors import HostKeyError
from tests.faults import web
from tests.faults.service import Service, service
from tests.netlab import FarSshd, StartFarSshd, StartNetlab
from tests.openssh import prepare

pytestmark = pytest.mark.netns

RTT_MS = 40
KNOWN_SECONDS = 15.0
"""A dead peer is known after so long at most."""
BACK_SECONDS = 4.0
"""Served again so soon after the network's return; benchmarks/outages.py measures the real figure, to be under 2 s."""


@pytest.fixture
def lab(netlab: StartNetlab) -> Netlab:
    return netlab(rtt_ms=RTT_MS)


@pytest.fixture
def far(lab: Netlab, far_sshd: StartFarSshd) -> FarSshd:
    return far_sshd(lab)


@pytest.fixture
def served(lab: Netlab, far: FarSshd) -> Iterator[Service]:
    """A web server on the far machine, reached from the near one."""
    with web.web_server(lab.far.popen) as port, service(far.endpoint, port, within=lab.near.in_namespace) as served:
        yield served


@contextmanager
def download(served: Service) -> Iterator[HTTPResponse]:
    """A download that is under way."""
    with web.request(served.port, 1 << 32) as answer:
        assert answer.read(1000)
        yield answer


def assert_healed(served: Service, began: float) -> None:
    """A client is served; the loss that began then was known in time, and mended soon after."""
    served.getting().result()
    known = served.until("reconnecting") - began
    back = served.until("connected") - began
    print(f"known after {known:.1f} s, back after {back:.1f} s")
    assert known < KNOWN_SECONDS
    assert back - known < BACK_SECONDS


@pytest.mark.parametrize("seconds", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_black_hole_heals(served: Service, lab: Netlab, seconds: float) -> None:
    began = time.monotonic()
    lab.black_hole()
    waiting = [served.getting()]
    if seconds > KNOWN_SECONDS:
        known = served.until("reconnecting", seconds=KNOWN_SECONDS) - began
        print(f"known after {known:.1f} s")
        waiting.append(served.getting())
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    assert not any(one.done() for one in waiting)
    lab.lift()
    back = time.monotonic()
    fresh = served.get()
    waited = [one.result() - back for one in waiting]
    print(f"after the return a new request took {fresh:.2f} s, those that waited {waited}")
    assert max(fresh, *waited) < BACK_SECONDS
    assert served.link.state == "connected"


@pytest.mark.parametrize("round_trips", [3, 8, 12])
def test_an_outage_that_begins_in_the_middle_of_coming_back(served: Service, lab: Netlab, round_trips: int) -> None:
    """In the login or in the preparation: what has stalled there is given up, since a new attempt is there sooner."""
    lab.reset_connections(22)
    waiting = served.getting()
    served.until("reconnecting")
    time.sleep(round_trips * RTT_MS / 1000)
    lab.black_hole(seconds=7)
    time.sleep(7)
    back = time.monotonic()
    waited = waiting.result() - back
    print(f"served {waited:.2f} s after the return")
    assert waited < BACK_SECONDS


def test_a_short_black_hole_is_nothing_but_a_pause(served: Service, lab: Netlab) -> None:
    with download(served) as answer:
        lab.black_hole(seconds=1)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert answer.read(1 << 16)
    assert served.told == []


def test_a_reset_heals_at_once(served: Service, lab: Netlab) -> None:
    with download(served) as answer:
        assert lab.reset_connections(22) >= 1
        began = time.monotonic()
        served.until("reconnecting")
        with pytest.raises(ConnectionResetError):
            while answer.read(1 << 20):
                pass
    served.get()
    assert time.monotonic() - began < BACK_SECONDS


def test_with_5_percent_loss_all_requests_are_answered(served: Service, lab: Netlab) -> None:
    lab.set(loss=0.05)
    waits = [served.get(20_000) for _ in range(15)]
    print(f"worst wait {max(waits):.2f} s")
    carried = lab.statistics()
    assert carried.up.lost + carried.down.lost > 0
    assert served.link.state == "connected"


def test_the_clients_address_changes(served: Service, lab: Netlab) -> None:
    """As a laptop's in another network: the old connection is not told, but the address says so, before any silence."""
    with download(served) as answer:
        began = time.monotonic()
        lab.move_near("10.77.1.9")
        assert_healed(served, began)
        assert "network has changed" in served.told[0][1].reason
        with pytest.raises(ConnectionResetError):  # there is no way to go on with it, and it is told so
            while answer.read(1 << 20):
                pass
    served.get()


def test_another_address_of_a_client_whose_connection_lives_costs_nothing(served: Service, lab: Netlab) -> None:
    """As a second network that is preferred now: the old connection answers at once, and is kept."""
    connection = served.link.connection()
    with download(served) as answer:
        lab.near.prefer("10.77.1.9")
        served.until("connected")
        assert "network has changed" in served.told[0][1].reason
        assert answer.read(1 << 20)
    assert served.link.connection() is connection
    served.get()
    assert sum(event.state == "reconnecting" for _, event in served.told) == 1


def test_the_vms_address_changes_and_its_host_key_does_not(served: Service, lab: Netlab, far: FarSshd) -> None:
    """As a VM's that was stopped and started; the address is asked for anew."""
    began = time.monotonic()
    lab.move_far("10.77.1.10")
    assert_healed(served, began)
    assert far.log.count("on 10.77.1.10 port 22") >= 1


def test_a_changed_host_key_is_refused_at_once_and_for_good(
    lab: Netlab, far: FarSshd, served: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Somebody else answers at the address: nothing of ours is sent, and the user hears who vouched for the old key."""
    pinned = far.endpoint().trust
    other = prepare(tmp_path_factory.mktemp("other") / "sshd", ListenAddress="0.0.0.0")
    before = served.link.connection()
    far.stop()
    with ExitStack() as running:
        impostor = FarSshd(other, lab)
        running.callback(other.show_log)
        running.callback(impostor.stop)
        began = time.monotonic()
        failed = served.until("failed", seconds=KNOWN_SECONDS)
        print(f"refused after {failed - began:.1f} s")
        with pytest.raises(HostKeyError) as caught:
            served.link.wait(1)
        assert caught.value.code == "host_key_changed"
        assert getattr(pinned, "source", "?") in caught.value.message
        assert caught.value.hint
        assert not before.alive
        with pytest.raises(HostKeyError):
            served.link.connection()
        attempts = impostor.log.count("Connection from")
        time.sleep(1.0)  # longer than any pause between the first attempts: it does not come again
        assert impostor.log.count("Connection from") == attempts
        assert "Accepted" not in impostor.log
        assert "publickey" not in impostor.log
