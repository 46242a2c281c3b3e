"""Asking our own server: the least HTTP, and the proof."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest import loopback
from remote_runtime.guest.clock import Deadline

TOKEN = "t" * 48


@contextmanager
def answering(make: object) -> Iterator[tuple[int, list[bytes]]]:
    """A listener that answers one request with ``make(request)``, then closes."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(make(requests[0]))  # type: ignore[operator]

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], requests
        thread.join(10)


def test_an_answer_has_a_status_and_a_body() -> None:
    with answering(lambda _: b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello\r\n\r\n") as (port, requests):
        assert loopback.get(port, "/x", token=TOKEN, deadline=Deadline(5)) == (200, b"hello\r\n\r\n")
    assert requests[0].startswith(b"GET /x HTTP/1.0\r\n")
    assert b"Authorization: token " + TOKEN.encode() in requests[0]


def test_a_server_that_knows_the_token_proves_it_and_is_not_told() -> None:
    def prove(request: bytes) -> bytes:
        nonce = request.split(b"nonce=")[1].split()[0].decode()
        return b"HTTP/1.1 200 OK\r\n\r\n" + loopback.proof(TOKEN, nonce).encode() + b"\n"

    with answering(prove) as (port, requests):
        assert loopback.proves(port, "/", TOKEN, Deadline(5))
    assert TOKEN.encode() not in requests[0]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n" + b"0" * 64, b"HTTP/1.1 404 No\r\n\r\n"])
def test_a_server_that_does_not_know_the_token_is_found_out(answer: bytes) -> None:
    with answering(lambda _: answer) as (port, _):
        assert not loopback.proves(port, "/", TOKEN, Deadline(5))


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n"])
def test_an_answer_that_says_nothing_about_it(answer: bytes) -> None:
    with answering(lambda _: answer) as (port, _), pytest.raises(OSError):
        loopback.proves(port, "/", TOKEN, Deadline(5))


def test_a_server_that_never_answers_costs_no_more_than_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TimeoutError):
        loopback.get(listener.getsockname()[1], "/", deadline=Deadline(0.2))


def test_an_endless_answer_is_cut() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (loopback.ANSWER_LIMIT + 1)
    with answering(lambda _: answer) as (port, _), pytest.raises(OSError, match="too long"):
        loopback.get(port, "/", deadline=Deadline(5))


@given(st.binary())
def test_no_answer_breaks_the_parser(answer: bytes) -> None:
    try:
        status, _ = loopback.parse_answer(answer)
    except OSError:
        return
    assert status >= 0
