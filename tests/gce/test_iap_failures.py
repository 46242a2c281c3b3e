"""What people are told when Identity-Aware Proxy does not let them through; and that nothing is left open then."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, NetworkError, RemoteRuntimeError, TimedOut, UsageError
from remote_runtime.providers.gce import iap
from tests.gce.cloud.relay import Relay
from tests.jupyter.packages import make_authority

SECRET = "ya29.secret-of-the-test"
asked: list[str] = []


def token() -> str:
    asked.append(SECRET)
    return SECRET


def dial(endpoint: str, token: Callable[[], str], deadline: Deadline) -> iap.Tunnel:
    where: dict[str, Any] = {"project": "p", "zone": "z", "instance": "trainer", "port": 22, "endpoint": endpoint}
    return iap.dial(**where, token=token, deadline=deadline)


def fails(endpoint: str, *, seconds: float = 20.0) -> RemoteRuntimeError:
    """The error of a dial; the token must not be in it, nor in what it came from."""
    asked.clear()
    with pytest.raises(RemoteRuntimeError) as caught:
        dial(endpoint, token, Deadline(seconds))
    error: BaseException | None = caught.value
    while error:
        assert SECRET not in f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__
    return caught.value


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    with Relay(tmp_path, lambda query, token: 4003) as relay:
        for name, value in relay.environment().items():
            monkeypatch.setenv(name, value)
        yield relay
    assert relay.problems == []


@pytest.mark.parametrize(
    ("status_or_code", "kind", "code", "cure"),
    [
        (401, InstanceError, "credentials_rejected", "gcloud auth application-default login"),
        (403, InstanceError, "permission_denied", "--role=roles/iap.tunnelResourceAccessor"),
        (404, InstanceError, "iap_refused", "gcloud services enable iap.googleapis.com --project=p"),
        (302, InstanceError, "iap_refused", ""),
        (200, InstanceError, "iap_refused", ""),
        (429, NetworkError, "iap_failing", ""),
        (503, NetworkError, "iap_failing", ""),
        (4003, NetworkError, "unreachable", "--allow=tcp:22 --source-ranges=35.235.240.0/20"),
        (4004, InstanceError, "credentials_rejected", "gcloud auth application-default login"),
        (4033, InstanceError, "permission_denied", "--role=roles/iap.tunnelResourceAccessor"),
        (4047, NetworkError, "instance_not_running", "remote-runtime start"),
        (4010, NetworkError, "iap_failing", ""),
        (1001, NetworkError, "iap_failing", ""),
    ],
)
def test_refusals(relay: Relay, status_or_code: int, kind: type, code: str, cure: str) -> None:
    relay.refuse(status_or_code, times=2)
    error = fails(relay.url)
    assert (type(error), error.code) == (kind, code)
    assert error.retryable == (kind is NetworkError)
    assert cure in error.hint
    assert "trainer" in error.message or code == "credentials_rejected"
    assert len(relay.refusals) == 1, "it is for whoever calls to try again"


def test_reason_of_the_relay_is_shown_without_control_characters(relay: Relay) -> None:
    relay.refuse(4000)
    assert "as the test wants" in fails(relay.url).message


def test_unknown_certificate_gets_no_token(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    error = fails(relay.url)
    assert (type(error), error.code) == (NetworkError, "certificate_untrusted")
    assert "SSL_CERT_FILE" in error.hint
    assert asked == relay.tokens == []


def test_certificate_of_somebody_else_gets_no_token(relay: Relay) -> None:
    assert fails(relay.url.replace("localhost", "127.0.0.1")).code == "certificate_untrusted"
    assert asked == relay.tokens == []


@pytest.mark.parametrize(
    "url", ["ws://localhost:1/v4", "https://localhost/v4", "http://x/", "localhost", "wss://u:p@h/v4"]
)
def test_no_other_endpoint_than_wss(url: str) -> None:
    error = fails(url)
    assert (type(error), error.code) == (UsageError, "bad_endpoint")
    assert asked == []


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert fails(f"wss://localhost:{port}/v4").code == "connection_refused"


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server without TLS that gives everybody this answer; its port."""

    def serve() -> None:
        with suppressed_reset(), listener.accept()[0] as client:
            client.recv(4096)
            client.sendall(answer)
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


@contextmanager
def suppressed_reset() -> Iterator[None]:
    try:
        yield
    except ConnectionResetError:
        pass


def test_no_tls() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n<h1>Log in to this network</h1>") as port:
        error = fails(f"wss://localhost:{port}/v4")
    assert (error.code, error.retryable) == ("tls_failed", True)
    assert asked == []


def test_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = fails(f"wss://localhost:{listener.getsockname()[1]}/v4", seconds=1.0)
    assert isinstance(error, TimedOut)


class _Handler(http.server.BaseHTTPRequestHandler):
    answer = b""

    def do_GET(self) -> None:
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "iap_protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "iap_protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "iap_refused"),
        (b"HTTP/1.1 503 Busy\r\n\r\nuntil the end", "iap_failing"),
        (b"HTTP/1.1 503 Bu", "connection_lost"),
        (b"", "connection_lost"),
    ],
)
def test_other_servers_with_tls(answer: bytes, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, context = make_authority(tmp_path)
    handler = type("Handler", (_Handler,), {"answer": answer})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            assert fails(f"wss://localhost:{server.server_port}/v4").code == code
        finally:
            thread.join()


def test_error_of_the_credentials_comes_through(relay: Relay) -> None:
    def none() -> str:
        raise InstanceError("There are no credentials", code="credentials_missing")

    with pytest.raises(InstanceError) as caught:
        dial(relay.url, none, Deadline(20))
    assert caught.value.code == "credentials_missing"


def test_cancelled_deadline_ends_it() -> None:
    deadline = Deadline(60)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        timer = threading.Timer(0.3, deadline.cancel)
        timer.start()
        with pytest.raises(TimedOut):
            dial(f"wss://localhost:{listener.getsockname()[1]}/v4", token, deadline)
        timer.join()
