"""Our own channels on paramiko's transport, through key exchanges and beside paramiko's own channels."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import NetworkError, RemoteRuntimeError
from remote_runtime.forward import LocalForward, listen
from remote_runtime.ssh import Connection
from remote_runtime.ssh.lean import LeanStreams
from remote_runtime.ssh.lean_stream import LeanStream
from remote_runtime.ssh.private import missing
from tests.netlab import eventually
from tests.openssh import Sshd, StartSshd
from tests.ssh.peers import PATTERN, echo, pattern_digest, serving, source
from tests.ssh.test_connection import log_in
from tests.ssh.test_forward import dial, forward_to, read_all

MEGABYTE = 1 << 20
CONTENT = (PATTERN * 8)[:500_000]
CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr"]


@pytest.fixture
def connection(sshd: Sshd) -> Iterator[Connection]:
    with log_in(sshd.endpoint()) as connection:
        assert not missing(), "this paramiko has changed what the lean transport relies on"
        assert isinstance(connection._pump, LeanStreams)
        yield connection


def talk(port: int, megabytes: int) -> None:
    """Send that much to an echo, and see that the same comes back, while both directions are busy."""
    sent, heard = hashlib.sha256(), hashlib.sha256()
    with dial(port) as client:

        def send() -> None:
            for number in range(megabytes):
                block = number.to_bytes(4, "big") * (MEGABYTE // 4)
                sent.update(block)
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        while chunk := client.recv(MEGABYTE):
            heard.update(chunk)
        sender.join()
    assert heard.hexdigest() == sent.hexdigest()


def test_key_exchanges_in_the_middle_of_transfers_harm_nothing(connection: Connection) -> None:
    """Ours after so many bytes; every stream goes on, in order, and nothing else is sent meanwhile."""
    exchanges = []
    transport = connection._transport
    activate = transport._activate_outbound  # type: ignore[attr-defined]
    transport._activate_outbound = lambda: (exchanges.append(1), activate())  # type: ignore[attr-defined]
    transport.packetizer.REKEY_BYTES = 4 * MEGABYTE
    with serving(echo) as port, forward_to(connection, port) as forward, ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda _: talk(forward.port, 15), range(4)))
        with connection.execute("echo still here", Deadline(20)) as process:
            assert list(process.lines()) == [b"still here"]
    assert len(exchanges) >= 5, "there were too few key exchanges to prove anything"


def test_the_servers_key_exchanges_too(start_sshd: StartSshd) -> None:
    server = start_sshd(RekeyLimit="1M none")
    with log_in(server.endpoint()) as connection, serving(echo) as port, forward_to(connection, port) as forward:
        with ThreadPoolExecutor(2) as clients:
            list(clients.map(lambda _: talk(forward.port, 12), range(2)))


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_carries_them(start_sshd: StartSshd, cipher: str) -> None:
    server = start_sshd(Ciphers=cipher)
    with log_in(server.endpoint()) as connection, serving(echo) as port, forward_to(connection, port) as forward:
        assert connection.cipher == cipher
        talk(forward.port, 3)


def test_commands_and_streams_share_a_connection(connection: Connection) -> None:
    with serving(source(20 * MEGABYTE)) as port, forward_to(connection, port) as forward, dial(forward.port) as client:
        with connection.execute("yes | head -c 3000000", Deadline(30)) as process:
            with ThreadPoolExecutor(1) as reader:
                download = reader.submit(read_all, client)
                assert sum(1 for _ in process.lines()) == 1_500_000
                assert hashlib.sha256(download.result()).hexdigest() == pattern_digest(20 * MEGABYTE)


def test_a_probe_is_answered_without_a_thread_and_also_in_a_key_exchange(connection: Connection) -> None:
    before = threading.active_count()
    for _ in range(20):
        answered = connection.probe()
        assert answered.wait(10)
    assert threading.active_count() <= before
    with connection._transport.clear_to_send_lock:
        connection._transport.clear_to_send.clear()  # as if keys were exchanged
    answered = connection.probe()
    assert not answered.wait(0.3)
    connection._transport.clear_to_send.set()
    assert answered.wait(10)


def test_a_connection_with_many_streams_has_one_thread(connection: Connection) -> None:
    with serving(echo) as port:
        before = threading.active_count()
        with LocalForward(listen(0), lambda sink: connection.open_stream("127.0.0.1", port, sink)) as forward:
            with ExitStack() as opened:
                clients = [opened.enter_context(dial(forward.port)) for _ in range(100)]
                for client in clients:
                    client.sendall(b"x")
                assert all(client.recv(1) == b"x" for client in clients)
                ours = [thread for thread in threading.enumerate() if thread.name.startswith("ssh-")]
                assert ours == []
                assert threading.active_count() - before < 100 + 10  # the echo's own, one a client


def rude(far: socket.socket) -> None:
    """End by a reset while the client still sends."""
    far.recv(65536)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def impatient(far: socket.socket) -> None:
    """Answer before all has come, as a web server that finds a body too long."""
    far.recv(65536)
    far.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("serve", [rude, impatient])
def test_a_server_that_ends_while_its_client_still_sends_harms_no_other_stream(
    connection: Connection, serve: Callable[[socket.socket], None]
) -> None:
    """Data for a channel that is closed would make sshd end the whole connection."""
    with serving(serve) as port, forward_to(connection, port) as forward:
        for _ in range(60):
            with dial(forward.port) as client, suppress(OSError):
                for _ in range(200):
                    client.sendall(bytes(20_000))
            assert connection.alive
    with serving(echo) as port, forward_to(connection, port) as forward:
        talk(forward.port, 1)


class Recorder:
    """A Sink that keeps what it is told."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.over = threading.Event()
        self.chunks: list[bytes] = []
        self.error: RemoteRuntimeError | None = None

    def data(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def eof(self) -> None:
        pass

    def writable(self) -> None:
        self.ready.set()

    def closed(self, error: RemoteRuntimeError | None) -> None:
        self.error = error
        self.over.set()


def test_a_paused_stream_still_hands_on_all_that_had_come_when_the_connection_was_cut(
    sshd: Sshd, connection: Connection
) -> None:
    sink = Recorder()
    go = threading.Event()

    def serve(far: socket.socket) -> None:
        go.wait(20)
        far.sendall(CONTENT)
        far.recv(1)

    with serving(serve) as port:
        stream = connection.open_stream("127.0.0.1", port, sink)
        assert isinstance(stream, LeanStream)
        assert sink.ready.wait(20)
        stream.pause(True)
        go.set()
        assert eventually(lambda: sum(map(len, stream._arrived)) == 500_000)
        assert sink.chunks == []
        sshd.kill_connections()
        assert sink.over.wait(20)
    assert b"".join(sink.chunks) == CONTENT
    assert isinstance(sink.error, NetworkError)


def test_streams_that_are_over_are_forgotten(connection: Connection) -> None:
    streams = connection._pump
    assert isinstance(streams, LeanStreams)
    with serving(echo) as port, forward_to(connection, port) as forward:
        for _ in range(20):
            with dial(forward.port) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        with dial(forward.port) as client:
            client.sendall(b"whole")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"whole"
        assert eventually(lambda: not streams._streams)
