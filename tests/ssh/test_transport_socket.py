"""What TCP is told of our connections, and what that is for: nothing small waits for an acknowledgement."""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.ssh import connect
from remote_runtime.ssh.transport import Kind
from remote_runtime.ssh.wire import UNSENT_BYTES
from tests.netlab import StartFarSshd, StartNetlab
from tests.openssh import Sshd
from tests.ssh.peers import echo, serving
from tests.ssh.test_connection import log_in, nobody_listens
from tests.ssh.test_forward import forward_to

RTT_MS = 60
STREAMS = 4
PINGS = 12
PROMPT_MS = 90
"""Were Nagle's algorithm on at either end, it would be 120: what is small waits until what went before has come."""

both = pytest.mark.parametrize("transport", ["lean", "stock"])


@both
def test_small_packets_go_at_once_and_a_silent_peer_is_given_up(sshd: Sshd, transport: Kind) -> None:
    with log_in(sshd.endpoint(), transport=transport) as connection:
        wire = connection._transport.wire
        sock: socket.socket = wire._sock if wire else connection._transport.sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if sys.platform == "linux":
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no TCP_NOTSENT_LOWAT")
def test_the_kernel_keeps_little_that_is_not_sent(sshd: Sshd) -> None:
    with log_in(sshd.endpoint()) as connection:
        wire = connection._transport.wire
        assert wire
        assert wire._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


@pytest.mark.netns
@both
def test_once_a_command_has_run_the_servers_answers_wait_for_nothing(
    netlab: StartNetlab, far_sshd: StartFarSshd, transport: Kind
) -> None:
    """sshd turns its Nagle algorithm off for a connection that runs a command, and for no other one."""
    lab = netlab(rtt_ms=RTT_MS)
    far = far_sshd(lab)
    with ExitStack() as opened:
        with lab.far.in_namespace():
            port = opened.enter_context(serving(echo))
        with lab.near.in_namespace():
            connection = opened.enter_context(
                connect(
                    far.endpoint(),
                    ask=None,
                    on_event=nobody_listens,
                    deadline=Deadline(20),
                    transport=transport,
                    first_command="true",
                )
            )
            with connection.execute("true", Deadline(20)) as process:
                assert process.wait() == 0
            forward = opened.enter_context(forward_to(connection, port))
            clients = [opened.enter_context(client_of(forward.port)) for _ in range(STREAMS)]
        with ThreadPoolExecutor(STREAMS) as pool:
            milliseconds = [ms for times in pool.map(ping, clients) for ms in times]
    median = statistics.median(milliseconds)
    print(f"{median:.1f} ms")
    assert RTT_MS <= median < PROMPT_MS


@contextmanager
def client_of(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


def ping(client: socket.socket) -> list[float]:
    """How long each of some pings took, in milliseconds, but for the first two."""
    times = []
    for _ in range(PINGS):
        began = time.monotonic()
        client.sendall(bytes(64))
        heard = 0
        while heard < 64:
            heard += len(client.recv(64))
        times.append(1000 * (time.monotonic() - began))
    return times[2:]
