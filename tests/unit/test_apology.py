"""Who gets a 503, and what it says."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.forward.apology import apology


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
