"""LocalForward over real SSH connections: many clients, big transfers, half-close, backpressure, outages."""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import ChannelRefused, NetworkError, PortInUse
from remote_runtime.forward import LocalForward, listen, local
from remote_runtime.forward.client import ClientSink
from remote_runtime.ssh import Connection
from remote_runtime.stream import Stream
from tests.openssh import Sshd
from tests.ssh.peers import PATTERN, digest, echo, pattern_digest, serving, source
from tests.ssh.test_connection import log_in

MEGABYTE = 1 << 20


@pytest.fixture(params=["lean", "stock"])
def connection(request: pytest.FixtureRequest, sshd: Sshd) -> Iterator[Connection]:
    with log_in(sshd.endpoint(), transport=request.param) as connection:
        yield connection


def forward_to(connection: Connection, port: int) -> LocalForward:
    return LocalForward(listen(0), lambda sink: connection.open_stream("127.0.0.1", port, sink))


def dial(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(60)
    return sock


def read_all(sock: socket.socket) -> bytes:
    chunks = []
    while chunk := sock.recv(MEGABYTE):
        chunks.append(chunk)
    return b"".join(chunks)


# -- the listener ----------------------------------------------------------------------------------------------------


def test_both_loopback_addresses_are_bound_and_a_second_one_is_told_who_has_them() -> None:
    with listen(0) as listener:
        families = {sock.family for sock in listener.sockets}
        assert socket.AF_INET in families
        assert all(sock.getsockname()[1] == listener.port for sock in listener.sockets)
        with pytest.raises(PortInUse) as caught:
            listen(listener.port)
        assert f"process {psutil.Process().pid}" in caught.value.message
        assert "--port auto" in caught.value.hint
        with pytest.raises(PortInUse) as caught:
            listen(listener.port, hint="Choose another one for -L.")
        assert caught.value.hint == "Choose another one for -L."
    with listen(listener.port):
        pass  # it is free again at once


def test_a_port_taken_on_one_family_only_is_taken() -> None:
    if not socket.has_ipv6:
        pytest.skip("this host has no IPv6")
    with socket.socket(socket.AF_INET6) as stranger:
        stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            stranger.bind(("::1", 0))
        except OSError:
            pytest.skip("this host has no IPv6 loopback")
        stranger.listen()
        with pytest.raises(PortInUse):
            listen(stranger.getsockname()[1])


def test_clients_that_come_before_the_forward_wait_in_the_backlog(connection: Connection) -> None:
    with serving(echo) as port, listen(0) as listener, dial(listener.port) as early:
        early.sendall(b"early")
        with LocalForward(listener, lambda sink: connection.open_stream("127.0.0.1", port, sink)):
            assert early.recv(10) == b"early"


# -- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
def test_half_close_passes_each_way_by_itself(connection: Connection, family: str) -> None:
    """The client ends its side first and still gets the answer, which needs the whole of the question."""
    with serving(digest) as port, forward_to(connection, port) as forward:
        try:
            client = socket.create_connection((family, forward.port))
        except OSError:
            pytest.skip(f"no {family} on this host")
        with client:
            client.sendall(PATTERN * 3)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client).decode() == pattern_digest(3 * len(PATTERN))


def test_the_far_side_may_end_first_and_still_read(connection: Connection) -> None:
    heard = threading.Event()

    def end_then_listen(far: socket.socket) -> None:
        far.shutdown(socket.SHUT_WR)
        if far.recv(10) == b"still here":
            heard.set()

    with serving(end_then_listen) as port, forward_to(connection, port) as forward, dial(forward.port) as client:
        assert client.recv(10) == b""
        client.sendall(b"still here")
        assert heard.wait(10)


def test_curl_downloads_and_uploads_through_it(connection: Connection, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def answer(far: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += far.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        while len(body) < length:
            body += far.recv(65536)
        reply = hashlib.sha256(body).hexdigest().encode()
        far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(reply), reply))

    (tmp_path / "upload").write_bytes(PATTERN * 20)
    with serving(answer) as port, forward_to(connection, port) as forward:
        url = f"http://localhost:{forward.port}/"
        argv = ["curl", "-sS", "--max-time", "30", "-H", "Expect:", "--data-binary", f"@{tmp_path / 'upload'}", url]
        done = subprocess.run(argv, capture_output=True, check=True)
    assert done.stdout.decode() == pattern_digest(20 * len(PATTERN))


def test_500_megabytes_each_way_with_flat_memory(connection: Connection) -> None:
    size = 500 * MEGABYTE
    process = psutil.Process()
    with serving(source(size)) as down, serving(digest) as up, ExitStack() as opened:
        download = opened.enter_context(dial(opened.enter_context(forward_to(connection, down)).port))
        before = process.memory_info().rss
        highest, seen = before, hashlib.sha256()
        while chunk := download.recv(MEGABYTE):
            seen.update(chunk)
            highest = max(highest, process.memory_info().rss)
        assert seen.hexdigest() == pattern_digest(size)

        upload = opened.enter_context(dial(opened.enter_context(forward_to(connection, up)).port))
        for _ in range(size // len(PATTERN)):
            upload.sendall(PATTERN)
            highest = max(highest, process.memory_info().rss)
        upload.shutdown(socket.SHUT_WR)
        assert read_all(upload).decode() == pattern_digest(size)
    assert highest - before < 48 * MEGABYTE


def test_a_client_that_never_reads_stalls_nobody_and_costs_little(connection: Connection) -> None:
    before = psutil.Process().memory_info().rss
    with serving(source(100 * MEGABYTE)) as big, serving(echo) as small, ExitStack() as opened:
        stalled = opened.enter_context(forward_to(connection, big))
        lively = opened.enter_context(forward_to(connection, small))
        for _ in range(5):
            opened.enter_context(dial(stalled.port)).sendall(b"go")
        for _ in range(50):
            with dial(lively.port) as client:
                client.sendall(b"hello")
                assert client.recv(10) == b"hello"
        assert psutil.Process().memory_info().rss - before < 64 * MEGABYTE


def test_220_clients_at_once(connection: Connection) -> None:
    with serving(echo) as port, forward_to(connection, port) as forward, ExitStack() as opened:
        clients = [opened.enter_context(dial(forward.port)) for _ in range(220)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"%d" % number
        ours = [t.name for t in threading.enumerate() if t.name.startswith(("ssh-", "forward-"))]
        assert len(ours) <= 11, "threads serve all clients together"  # the loop, reader, writer and eight openers


def test_a_reset_is_a_reset_on_the_other_side_too(connection: Connection) -> None:
    """What is cut is cut: the far side's reset must not look like the end of a whole answer."""
    with serving(echo) as port, forward_to(connection, port) as forward:
        client = dial(forward.port)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        connection.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()


# -- outages ---------------------------------------------------------------------------------------------------------


def test_clients_wait_while_there_is_no_connection(connection: Connection) -> None:
    up = threading.Event()

    with serving(echo) as port:

        def opener(sink: ClientSink) -> Stream:
            if not up.is_set():
                raise NetworkError("down", code="reconnecting")
            return connection.open_stream("127.0.0.1", port, sink)

        with LocalForward(listen(0), opener) as forward, dial(forward.port) as client:
            client.sendall(b"patience")
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
            up.set()
            forward.retry()
            client.settimeout(30)
            assert client.recv(100) == b"patience"


def test_who_waited_too_long_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(local, "WAITING_CLIENTS", 1)

    def opener(sink: ClientSink) -> Stream:
        raise NetworkError("down", code="reconnecting")

    with LocalForward(listen(0), opener) as forward, dial(forward.port) as first, dial(forward.port) as second:
        for client in (second, first):  # one too many, and one too long
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_an_http_client_that_waited_too_long_hears_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WAIT_SECONDS", 0.3)

    def opener(sink: ClientSink) -> Stream:
        raise NetworkError("down", code="reconnecting")

    with LocalForward(listen(0), opener) as forward:
        connection = http.client.HTTPConnection("127.0.0.1", forward.port, timeout=20)
        connection.request("POST", "/api/kernels", body=b"x" * 1000)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert b"try again" in answer.read()
        connection.close()


def test_a_refused_stream_is_told_and_tried_again(connection: Connection) -> None:
    told: list[ChannelRefused] = []
    refused = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        target = unused.getsockname()[1]

    def on_refused(error: ChannelRefused) -> bool:
        told.append(error)
        refused.set()
        return True

    with LocalForward(
        listen(0), lambda sink: connection.open_stream("127.0.0.1", target, sink), on_refused=on_refused
    ) as forward:
        with dial(forward.port) as client:
            client.sendall(b"anybody?")
            assert refused.wait(10)
            with serving(echo) as target:
                forward.retry()
                assert client.recv(100) == b"anybody?"
    assert [error.code for error in told] == ["channel_refused"]


def test_without_anybody_to_mend_it_a_refused_client_is_cut(connection: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with forward_to(connection, port) as forward:
        with pytest.raises(ConnectionResetError), dial(forward.port) as client:
            client.recv(1)


def test_closing_cuts_the_clients_and_frees_the_port(connection: Connection) -> None:
    with serving(echo) as port:
        forward = forward_to(connection, port)
        client = dial(forward.port)
        client.sendall(b"x")
        client.recv(1)
        forward.close()
        forward.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()
        with listen(forward.port):
            assert Deadline(1).remaining()
