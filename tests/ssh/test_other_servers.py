"""Our transport with servers that are not OpenSSH's: in the ordinary order, as they may dislike another one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.model import Endpoint, Pinned
from remote_runtime.ssh import Connection, connect
from remote_runtime.ssh.lean import LeanStreams
from tests.faults.other_servers import asyncssh, dropbear
from tests.openssh import prepare
from tests.ssh.peers import digest, echo, pattern_digest, serving, source
from tests.ssh.test_connection import nobody_listens, output
from tests.ssh.test_forward import dial, forward_to, read_all
from tests.ssh.test_lean import talk

COMMAND = "echo first"
BYTES = 20 << 20


@pytest.fixture(params=["dropbear", "asyncssh"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    with (
        running(request.param, tmp_path / "server") as endpoint,
        connect(
            endpoint, ask=None, on_event=nobody_listens, deadline=Deadline(30), first_command=COMMAND
        ) as connection,
    ):
        assert isinstance(connection._pump, LeanStreams)
        yield connection


@contextmanager
def running(kind: str, directory: Path) -> Iterator[Endpoint]:
    files = prepare(directory)
    if kind == "dropbear":
        with dropbear(files) as (port, host_key):
            yield files.endpoint(port=port, trust=Pinned((host_key,), "the test"))
    else:
        with asyncssh(files, files.home, "/usr/bin:/bin") as port:
            yield files.endpoint(port=port)


def test_commands(connection: Connection) -> None:
    assert output(connection, COMMAND) == ([b"first"], 0)
    assert output(connection, "echo second; exit 3") == ([b"second"], 3)


def test_streams_both_ways_at_once(connection: Connection) -> None:
    with serving(echo) as port, forward_to(connection, port) as forward:
        talk(forward.port, 8)


def test_a_download_and_the_end_of_each_direction(connection: Connection) -> None:
    with serving(source(BYTES)) as port, forward_to(connection, port) as forward, dial(forward.port) as client:
        assert len(read_all(client)) == BYTES
    with serving(digest) as port, forward_to(connection, port) as forward, dial(forward.port) as client:
        client.sendall(bytes(range(256)) * 256)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).decode() == pattern_digest(1 << 16)


def test_a_probe(connection: Connection) -> None:
    assert connection.probe().wait(10)
