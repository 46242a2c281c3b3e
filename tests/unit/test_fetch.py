"""Fetching over real sockets: what breaks, and what must not be told to whom."""

from __future__ import annotations

import gzip
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from remote_runtime.guest.fetch import Fetcher, FetchError, connect_any, tls_context
from remote_runtime.guest.pipconf import PipConfig


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each client in turn one of ``answers`` and closes: its URL, and the requests that came."""
    requests: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            client, _ = server.accept()
            with client:
                request = client.recv(65536)
                if request:  # a probe connects and says nothing
                    requests.append(request)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/page", requests
        finally:
            thread.join()


def fetcher(**config: object) -> Fetcher:
    return Fetcher(PipConfig(**config), time.monotonic() + 10)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_a_page_may_be_compressed() -> None:
    body = gzip.compress(b"<a href=x>")
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    with answering(b"", head + body) as (url, requests):
        assert fetcher().page(url) == (b"<a href=x>", "text/html", url)
    assert b"Accept-Encoding: gzip" in requests[0]


def test_a_download_that_breaks_off_is_no_file() -> None:
    with answering(b"", b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as (url, _):
        with pytest.raises(FetchError, match="broke off") as caught:
            fetcher().copy(url, io.BytesIO())
    assert caught.value.kind == "unreachable"


def test_what_is_no_http_is_unreachable() -> None:
    with answering(b"", b"SSH-2.0-OpenSSH_9.2\r\n") as (url, _):
        with pytest.raises(FetchError) as caught:
            fetcher().page(url)
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize(("status", "kind"), [(404, "missing"), (403, "refused"), (500, "refused")])
def test_statuses(status: int, kind: str) -> None:
    with answering(b"", b"HTTP/1.0 %d No\r\n\r\n" % status) as (url, _):
        with pytest.raises(FetchError, match=str(status)) as caught:
            fetcher().page(url)
    assert caught.value.kind == kind


def test_the_account_goes_to_its_own_host_only() -> None:
    page = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n"
    with ExitStack() as opened:
        other, asked_other = opened.enter_context(answering(page))
        redirect = b"HTTP/1.0 302 Found\r\nLocation: %s\r\n\r\n" % other.encode()
        url, asked = opened.enter_context(answering(b"", redirect))
        index = url.replace("://", "://ada:s3cret@").replace("/page", "/simple")
        assert fetcher(indexes=(index,)).page(url)[2] == other
    assert b"Authorization: Basic " in asked[0]
    assert b"Authorization" not in asked_other[0]


@pytest.mark.parametrize("url", ["ftp:///x", "nonsense", "https:///nohost", "http://[::1/x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(FetchError):
        fetcher().page(url)


def test_a_lost_certificate_file_is_named() -> None:
    with pytest.raises(FetchError, match=r"/lost/ca\.pem") as caught:
        tls_context("/lost/ca.pem", trusted=False)
    assert caught.value.kind == "certificate"


def test_the_systems_certificates_are_known() -> None:
    context = tls_context("", trusted=False)
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


def test_one_address_that_answers_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect_any("localhost", server.getsockname()[1], 5)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect_any("localhost", port, 5)


@contextmanager
def dropping() -> Iterator[tuple[str, int]]:
    """An address where packets get no answer: the system drops what would overfill a listener's queue."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()


def test_a_host_that_drops_packets_is_given_up_in_time() -> None:
    with dropping() as (host, port):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connect_any(host, port, 0.5)
    assert time.monotonic() - started >= 0.4


def test_who_has_nobody_else_to_ask_may_wait_longer() -> None:
    with dropping() as (host, port):
        patient = Fetcher(PipConfig(), time.monotonic() + 10, connect_seconds=0.7)
        with pytest.raises(FetchError, match=r"no answer within 0\.7 s"):
            patient.page(f"http://{host}:{port}/page")


def test_an_index_that_was_unreachable_is_not_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    one = fetcher()
    for _ in range(2):
        with pytest.raises(FetchError, match="refused") as caught:
            one.page(f"http://127.0.0.1:{port}/")
        assert caught.value.kind == "unreachable"


def test_no_time_is_left() -> None:
    with pytest.raises(FetchError) as caught:
        Fetcher(PipConfig(), time.monotonic()).page("http://127.0.0.1:9/")
    assert caught.value.kind == "timeout"
