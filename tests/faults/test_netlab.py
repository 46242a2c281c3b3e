"""The laboratory network: its line is as bad as asked for."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.netlab import Netlab
from benchmarks.netlab.capacity import ping
from benchmarks.netlab.leftovers import DIRECTORY
from benchmarks.netlab.servers import WrongBytes, connect, download, echo, exchange, run_server, upload
from remote_runtime._threads import Deadline
from remote_runtime.events import Event
from remote_runtime.ssh import connect as log_in
from tests.netlab import PATIENCE, FarSshd, StartFarSshd, StartNetlab, eventually

pytestmark = pytest.mark.netns


@contextmanager
def talk(lab: Netlab, port: int) -> Iterator[socket.socket]:
    """A connection from near to far that echoes, and has done so once."""
    with connect(lab.near, (lab.far.address, port)) as client:
        echo(client)
        exchange(client, b"hello")
        yield client


def assert_silent(client: socket.socket) -> None:
    """The connection neither answers nor ends, for a while."""
    client.sendall(b"anybody there?")
    client.settimeout(0.4)
    with pytest.raises(TimeoutError):
        client.recv(100)
    client.settimeout(PATIENCE)


# -- the line --------------------------------------------------------------------------------------------------------


def test_the_round_trip_is_as_asked_for_and_can_change(netlab: StartNetlab) -> None:
    lab = netlab(rtt_ms=40)
    with run_server(lab.far) as port:
        assert 40 <= 1000 * statistics.median(ping(lab, port, times=15)) < 60
        lab.set(rtt_ms=0)
        assert 1000 * statistics.median(ping(lab, port, times=15)) < 20


def test_the_bandwidth_has_a_roof(netlab: StartNetlab) -> None:
    lab = netlab(rtt_ms=2, mbit=10, queue_bytes=50_000)
    with run_server(lab.far) as port, connect(lab.near, (lab.far.address, port)) as client:
        started = time.monotonic()
        download(client, 2_000_000)
        assert 1.5 < time.monotonic() - started < PATIENCE
        seen = lab.statistics()
        assert seen.down.bytes > 2_000_000 > seen.up.bytes
        assert seen.down.packets > 2_000_000 / 1500
        assert seen.down.overflowed > 0, "a download fills any queue"


@pytest.mark.parametrize("line", [{}, {"mbit": 1000, "rtt_ms": 2}, {"loss": 0.01}], ids=str)
def test_bytes_arrive_whole(netlab: StartNetlab, line: dict[str, float]) -> None:
    lab = netlab(**line)
    with run_server(lab.far) as port:
        for action in (download, upload):
            with connect(lab.near, (lab.far.address, port)) as client:
                action(client, 3_000_000)
    seen = lab.statistics()
    assert seen.down.packets > 3_000_000 / 1500 < seen.up.packets
    assert bool(seen.down.lost) is bool(seen.up.lost) is ("loss" in line)


def test_wrong_bytes_are_seen(netlab: StartNetlab) -> None:
    lab = netlab()
    with run_server(lab.far) as port, connect(lab.near, (lab.far.address, port)) as client:
        client.sendall(b"source 10\n")
        with pytest.raises(WrongBytes):
            download(client, 20)


def test_lost_packets_are_counted_and_no_others_miss(netlab: StartNetlab) -> None:
    lab = netlab(loss=0.25)
    with lab.far.in_namespace():
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind((lab.far.address, 9))
    with lab.near.in_namespace():
        sender = socket.socket(type=socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.settimeout(PATIENCE)
        carried = 0
        for sent in range(50, 1050, 50):  # in portions that fit into the receiver's buffer
            for _ in range(50):
                sender.sendto(b"datagram", (lab.far.address, 9))
            assert eventually(lambda sent=sent: (up := lab.statistics().up).packets + up.lost == sent)
            before, carried = carried, lab.statistics().up.packets
            for _ in range(carried - before):
                assert receiver.recv(100) == b"datagram"
        receiver.settimeout(0.05)
        with pytest.raises(TimeoutError):
            receiver.recv(100)
    assert 150 < lab.statistics().up.lost < 350  # 250 expected; seven standard deviations either way


def test_turns_are_counted_without_bare_acknowledgements(netlab: StartNetlab) -> None:
    lab = netlab(rtt_ms=5)
    with run_server(lab.far) as port, talk(lab, port) as client:
        before = lab.statistics().turns
        for _ in range(10):
            exchange(client, b"x")
        assert lab.statistics().turns - before == 20


# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_black_hole_is_silent_and_heals(netlab: StartNetlab) -> None:
    lab = netlab(rtt_ms=2)
    with run_server(lab.far) as port, talk(lab, port) as client:
        lab.black_hole()
        assert_silent(client)
        assert lab.statistics().up.swallowed > 0
        lab.lift()
        assert client.recv(100) == b"anybody there?"
        lab.black_hole(seconds=0.3)
        started = time.monotonic()
        exchange(client, b"after a while")
        assert time.monotonic() - started > 0.25


def test_connections_of_a_port_are_reset_at_both_ends(netlab: StartNetlab) -> None:
    lab = netlab(rtt_ms=10)
    with lab.far.in_namespace():
        listener = socket.create_server(("0.0.0.0", 0))
    port = listener.getsockname()[1]
    with listener, run_server(lab.far) as other, talk(lab, other) as bystander:
        with connect(lab.near, (lab.far.address, port)) as client, listener.accept()[0] as server:
            server.settimeout(PATIENCE)
            assert lab.reset_connections(port) == 1
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    end.recv(1)
        assert lab.reset_connections(port) == 0, "each is reset once"
        exchange(bystander, b"still here")
        with connect(lab.near, (lab.far.address, port)) as again, listener.accept()[0] as server:
            again.sendall(b"new")
            server.settimeout(PATIENCE)
            assert server.recv(10) == b"new"


@pytest.mark.parametrize("line", [{"mbit": 500}, {"loss": 0.05}], ids=str)
def test_a_busy_connection_is_reset_too(netlab: StartNetlab, line: dict[str, float]) -> None:
    lab = netlab(rtt_ms=20, **line)
    with run_server(lab.far) as port, connect(lab.near, (lab.far.address, port)) as client:
        resetting = threading.Timer(0.5, lab.reset_connections)
        resetting.start()
        with pytest.raises(ConnectionResetError):
            download(client, 1 << 32)
        resetting.join()  # our end is reset first; the lab has to last until the other end is, too


def test_a_reset_that_was_lost_is_made_up_for(netlab: StartNetlab) -> None:
    lab = netlab()
    with lab.far.in_namespace():
        listener = socket.create_server(("0.0.0.0", 22))
    with listener, connect(lab.near, (lab.far.address, 22)) as client, listener.accept()[0] as server:
        server.settimeout(PATIENCE)
        lab.move_far("10.77.0.3")  # so that nothing that goes to its old address is taken
        assert lab.reset_connections(22) == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        lab.move_far("10.77.0.2")
        server.sendall(b"still there?")
        with pytest.raises(ConnectionResetError):
            server.recv(1)


@pytest.mark.parametrize("end", ["near", "far"])
def test_a_machine_moves(netlab: StartNetlab, end: str) -> None:
    lab = netlab()
    with run_server(lab.far) as port, talk(lab, port) as old:
        getattr(lab, f"move_{end}")("192.0.2.9")
        assert getattr(lab, end).address == "192.0.2.9"
        assert_silent(old)
        with talk(lab, port) as new:
            assert "192.0.2.9" in (new.getsockname()[0], new.getpeername()[0])
        getattr(lab, f"move_{end}")("10.77.0.200")
        with talk(lab, port) as new:
            assert "10.77.0.200" in (new.getsockname()[0], new.getpeername()[0])


def test_a_frozen_machine_stops_all_that_runs_there(netlab: StartNetlab) -> None:
    lab = netlab()
    detached = "import os, time; pid = os.fork(); pid and print(pid, flush=True); pid or os.setsid(); time.sleep(600)"
    parent = lab.far.popen([sys.executable, "-c", detached], stdout=subprocess.PIPE, text=True)
    both = [psutil.Process(parent.pid), psutil.Process(int(parent.stdout.readline()))]
    with run_server(lab.far) as port, talk(lab, port) as client:
        with lab.far.frozen():
            assert [process.status() for process in both] == [psutil.STATUS_STOPPED] * 2
            assert_silent(client)
        assert client.recv(100) == b"anybody there?"
        assert eventually(lambda: psutil.STATUS_STOPPED not in [process.status() for process in both])


# -- namespaces ------------------------------------------------------------------------------------------------------


def test_only_the_thread_that_enters_is_in(netlab: StartNetlab) -> None:
    def here() -> int:
        return Path("/proc/thread-self/ns/net").stat().st_ino

    def where(of: list[int]) -> threading.Thread:
        thread = threading.Thread(target=lambda: of.append(here()))
        thread.start()
        thread.join()
        return thread

    lab, home = netlab(), here()
    started_inside: list[int] = []
    with lab.near.in_namespace():
        assert here() == (DIRECTORY / lab.near.name).stat().st_ino != home
        where(started_inside)
        with lab.far.in_namespace():
            assert here() == (DIRECTORY / lab.far.name).stat().st_ino
        asked_inside = lab.near.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True).stdout
        assert asked_inside.strip() == f"net:[{here()}]"
    assert started_inside == [(DIRECTORY / lab.near.name).stat().st_ino]
    assert here() == home
    with pytest.raises(KeyError), lab.near.in_namespace():
        raise KeyError
    assert here() == home


def test_loopback_is_up_and_private(netlab: StartNetlab) -> None:
    lab = netlab()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with lab.near.in_namespace(), socket.create_server((address, 80), family=family):
            socket.create_connection((address, 80), timeout=PATIENCE).close()
            with lab.far.in_namespace(), pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, 80), timeout=PATIENCE)


def test_an_ssh_server_far_away_that_moves(netlab: StartNetlab, far_sshd: StartFarSshd) -> None:
    lab = netlab(rtt_ms=10)
    server = far_sshd(lab)

    def run(line: str) -> bytes:
        deadline, events = Deadline(PATIENCE), list[Event]()
        with lab.near.in_namespace():
            connection = log_in(server.endpoint(), ask=None, on_event=events.append, deadline=deadline)
        with connection, connection.execute(line, deadline) as process:
            return b"".join(process.lines())

    assert run("echo $SSH_CONNECTION").split()[::2] == [b"10.77.0.1", b"10.77.0.2"]
    lab.move_far("10.77.0.3")
    server.restart()
    assert isinstance(server, FarSshd)
    assert run("echo $SSH_CONNECTION").split()[::2] == [b"10.77.0.1", b"10.77.0.3"]
