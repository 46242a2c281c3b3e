"""A request that is on its way when the connection is cut is made again if that is safe, else cut."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.forward import LocalForward, listen
from remote_runtime.forward.client import REPEATS
from remote_runtime.link import Link
from remote_runtime.model import ServerInfo
from tests.openssh import Sshd

PATIENCE_SECONDS = 30.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


class Slow:
    """A web server that answers when it is told to; ``asked`` are the requests it got, whole."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.first_bytes = ANSWER[:0]
        self._answer = threading.Event()
        self._news = threading.Condition()
        self._closing = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._clients: list[threading.Thread] = []
        self._thread.start()

    def until_asked(self, times: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.asked) >= times, PATIENCE_SECONDS), self.asked

    def answer(self) -> None:
        self._answer.set()

    def close(self) -> None:
        self._closing = True
        self._answer.set()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            self._thread.join(PATIENCE_SECONDS)
        self._listening.close()
        for client in self._clients:
            client.join(PATIENCE_SECONDS)

    def _serve(self) -> None:
        while not self._closing:
            client, _ = self._listening.accept()
            self._clients.append(threading.Thread(target=self._talk, args=[client]))
            self._clients[-1].start()

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                chunk = client.recv(65536)
                if not chunk:
                    return
                request += chunk
            client.sendall(self.first_bytes)
            with self._news:
                self.asked.append(request)
                self._news.notify_all()
            self._answer.wait(PATIENCE_SECONDS)
            client.sendall(ANSWER[len(self.first_bytes) :])


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.close()


@pytest.fixture
def port(sshd: Sshd, slow: Slow) -> Iterator[int]:
    """The local port that leads to it."""
    with Link(
        "machine",
        resolve=lambda deadline: sshd.endpoint(),
        prepare=lambda connection, deadline: ServerInfo(pid=1, port=slow.port, token="secret"),
        ask=None,
        on_event=lambda event: None,
        deadline=Deadline(PATIENCE_SECONDS),
    ) as link:
        with LocalForward(listen(0), lambda sink: link.open_stream("127.0.0.1", slow.port, sink)) as forward:
            link.on_settled(forward.retry)
            yield forward.port


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as clients:
        yield clients


def ask(port: int, method: str = "GET", body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, "/", body)
        return connection.getresponse().read()
    finally:
        connection.close()


def failure(asked: Future[bytes]) -> BaseException | None:
    return asked.exception(PATIENCE_SECONDS)


def test_a_request_that_changes_nothing_is_made_again(
    sshd: Sshd, slow: Slow, port: int, clients: ThreadPoolExecutor
) -> None:
    answers = [clients.submit(ask, port) for _ in range(3)]
    for cut in range(1, 4):
        slow.until_asked(3 * cut)
        assert sshd.kill_connections() > 0
    slow.until_asked(3 * 4)
    slow.answer()
    assert [answer.result(PATIENCE_SECONDS) for answer in answers] == [b"hello"] * 3
    assert len(set(slow.asked)) == 1  # word for word


@pytest.mark.parametrize(("method", "body"), [("POST", b"once"), ("POST", None), ("DELETE", None), ("GET", b"odd")])
def test_one_that_may_change_something_is_cut_and_made_once(
    sshd: Sshd, slow: Slow, port: int, clients: ThreadPoolExecutor, method: str, body: bytes | None
) -> None:
    asked = clients.submit(ask, port, method, body)
    slow.until_asked(1)
    sshd.kill_connections()
    assert isinstance(failure(asked), ConnectionResetError)
    slow.answer()
    assert ask(port) == b"hello"
    assert [request.split()[0].decode() for request in slow.asked] == [method, "GET"]


def test_an_answer_that_has_begun_is_cut(sshd: Sshd, slow: Slow, port: int, clients: ThreadPoolExecutor) -> None:
    slow.first_bytes = ANSWER[:-2]
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1)
        sshd.kill_connections()
        with pytest.raises(ConnectionResetError):
            while client.recv(65536):
                pass
    assert len(slow.asked) == 1


def test_a_request_that_ends_every_connection_is_given_up(
    sshd: Sshd, slow: Slow, port: int, clients: ThreadPoolExecutor
) -> None:
    asked = clients.submit(ask, port)
    for cut in range(1, REPEATS + 2):
        slow.until_asked(cut)
        sshd.kill_connections()
    assert isinstance(failure(asked), ConnectionResetError)
    assert len(slow.asked) == REPEATS + 1


def test_a_client_that_leaves_while_it_waits_to_be_served_again_harms_nobody(sshd: Sshd, slow: Slow, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.until_asked(1)
        sshd.stop()
    sshd.start()
    slow.answer()
    assert ask(port) == b"hello"


def test_who_waits_in_vain_to_be_served_again_hears_when_to_come_back(
    sshd: Sshd, slow: Slow, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_runtime.forward.local.WAIT_SECONDS", 0.5)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/")
        slow.until_asked(1)
        sshd.stop()
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        answer.read()
    finally:
        connection.close()
