"""The lean transport on lines that are long, slow, or full."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.netlab import Netlab
from remote_runtime import ssh
from remote_runtime._threads import Deadline
from remote_runtime.events import Event, LinkChanged
from remote_runtime.forward import LocalForward, listen
from remote_runtime.link import Link
from remote_runtime.model import ServerInfo
from remote_runtime.ssh.lean import LeanStreams
from remote_runtime.ssh.window import SMALLEST_BYTES
from tests.netlab import FarSshd, StartFarSshd, StartNetlab, eventually
from tests.ssh.peers import echo, serving, source
from tests.ssh.test_forward import dial, read_all

pytestmark = pytest.mark.netns

SECONDS = 30.0
PIECE = bytes(32 << 10)


@contextmanager
def logged_in(lab: Netlab, far: FarSshd) -> Iterator[ssh.Connection]:
    with lab.near.in_namespace():
        connection = ssh.connect(far.endpoint(), ask=None, on_event=lambda _: None, deadline=Deadline(SECONDS))
    with connection:
        yield connection


@contextmanager
def forwarded(lab: Netlab, connection: ssh.Connection, serve: Any) -> Iterator[socket.socket]:
    """A client of what ``serve`` does on the far machine."""
    with lab.far.in_namespace():
        server = serving(serve)
        port = server.__enter__()
    try:
        with LocalForward(listen(0), lambda sink: connection.open_stream("127.0.0.1", port, sink)) as forward:
            with dial(forward.port) as client:
                yield client
    finally:
        server.__exit__(None, None, None)


def ping(client: socket.socket) -> float:
    """How long a small message takes there and back, in seconds."""
    began = time.monotonic()
    client.sendall(b"x" * 64)
    left = 64
    while left:
        left -= len(client.recv(left))
    return time.monotonic() - began


def test_a_ping_does_not_wait_for_all_that_a_command_is_sent(netlab: StartNetlab, far_sshd: StartFarSshd) -> None:
    """What a command is sent goes by a channel of paramiko's, which would fill the wire."""
    lab = netlab(rtt_ms=30, mbit=20, queue_bytes=250_000)
    with logged_in(lab, far_sshd(lab)) as connection, forwarded(lab, connection, echo) as client:
        over = threading.Event()

        def put() -> None:
            with connection.execute("cat >/dev/null", Deadline(SECONDS)) as process:
                for _ in range(200):  # some three seconds' worth
                    process.write(PIECE)
            over.set()

        sender = threading.Thread(target=put)
        sender.start()
        time.sleep(0.5)
        waits = []
        while not over.is_set():
            waits.append(ping(client))
            time.sleep(0.1)
        sender.join()
    print(f"pings took {[round(wait, 2) for wait in waits]}")
    assert len(waits) > 4, "they waited for each other"
    assert statistics.median(waits) < 0.8


def test_a_line_that_is_full_is_not_silent(netlab: StartNetlab, far_sshd: StartFarSshd) -> None:
    """The answer to a probe waits behind seconds of data: what comes meanwhile is a sign of life, too."""
    lab = netlab(rtt_ms=40, mbit=2, queue_bytes=250_000)
    far = far_sshd(lab)
    events: list[Event] = []
    with lab.near.in_namespace():
        link = Link(
            "machine",
            resolve=lambda _: far.endpoint(),
            prepare=lambda connection, deadline: ServerInfo(pid=1, port=1, token="secret"),
            ask=None,
            on_event=events.append,
            deadline=Deadline(SECONDS),
        )
    with link, link.connection().execute("cat >/dev/null", Deadline(SECONDS)) as process:
        before = link.connection()
        for _ in range(48):  # six seconds' worth
            process.write(PIECE)
        assert link.connection() is before
        assert [event.state for event in events if isinstance(event, LinkChanged)] == []


def test_the_window_follows_the_path(netlab: StartNetlab, far_sshd: StartFarSshd) -> None:
    lab = netlab(rtt_ms=5, mbit=20, queue_bytes=2_000_000)
    with logged_in(lab, far_sshd(lab)) as connection:
        streams = connection._pump
        assert isinstance(streams, LeanStreams)
        with forwarded(lab, connection, source(1 << 30)) as client:
            client.sendall(b"x")
            reading = threading.Thread(target=read_all, args=(client,))
            reading.start()
            try:
                assert eventually(lambda: streams.tuner.target == SMALLEST_BYTES), "5 ms of it are 12 kB"
                lab.set(rtt_ms=200)
                assert eventually(lambda: streams.tuner.target > 400_000), "200 ms of it are 500 kB"
            finally:
                client.shutdown(socket.SHUT_RDWR)
                reading.join()
