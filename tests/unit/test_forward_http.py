"""Which requests are made again after a cut, who gets a 503 instead, and what it says."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.forward.http import apology, repeatable


class _Socket:
    """As much of a socket as http.client's parser reads from."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.content)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PROPFIND"])
def test_an_http_request_gets_an_answer_that_parses(method: str) -> None:
    answer = apology(f"{method} /api/kernels?x=1 HTTP/1.1\r\nHost: localhost:8888\r\n\r\n".encode())
    parsed = http.client.HTTPResponse(_Socket(answer), method=method)  # type: ignore[arg-type]
    parsed.begin()
    assert (parsed.status, parsed.headers["Connection"]) == (503, "close")
    assert len(parsed.read()) == (0 if method == "HEAD" else int(parsed.headers["Content-Length"]))


@pytest.mark.parametrize("other", [b"", b"SSH-2.0-x\r\n", b"GET /", b"get / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00"])
def test_what_is_no_whole_request_line_gets_none(other: bytes) -> None:
    assert apology(other) == b""


@given(st.binary(max_size=200))
def test_any_bytes_are_fine(first: bytes) -> None:
    assert apology(first) == b"" or b" HTTP/1." in first


GET = b"GET /api/kernels?x=1 HTTP/1.1\r\nHost: localhost:8888\r\nAccept: */*\r\n\r\n"
HANDSHAKE = GET.replace(b"Accept: */*", b"Connection: Upgrade\r\nUpgrade: websocket")


@pytest.mark.parametrize("request_", [GET, GET.replace(b"GET", b"HEAD"), GET.replace(b"GET", b"OPTIONS"), HANDSHAKE])
def test_a_whole_safe_request_may_be_made_again(request_: bytes) -> None:
    assert repeatable(request_)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        GET[:-2],
        GET + b"x",
        GET + GET,
        GET.replace(b"GET", b"POST"),
        GET.replace(b"GET", b"DELETE"),
        GET.replace(b"Accept: */*", b"Content-Length: 3") + b"abc",
        GET.replace(b"Accept: */*", b"content-length : 3"),
        GET.replace(b"Accept: */*", b"Transfer-Encoding: chunked"),
        GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
        b"SSH-2.0-x\r\n\r\n",
    ],
)
def test_nothing_else_may(sent: bytes) -> None:
    assert not repeatable(sent)


@given(st.integers(0, len(GET) - 1))
def test_no_part_of_a_request_may(end: int) -> None:
    assert not repeatable(GET[:end])
