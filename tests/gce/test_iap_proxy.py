"""Identity-Aware Proxy through the proxy of a network, and what people are told when that does not let them."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, NetworkError, RemoteRuntimeError, TimedOut, UsageError
from remote_runtime.providers.gce import iap
from remote_runtime.providers.gce.iap_proxy import Proxy, connect_request, parsed, status_of
from tests.gce.cloud.relay import Relay
from tests.gce.proxy import ConnectProxy
from tests.gce.traffic import both_ways

PASSWORD = "p@ss:word"
ACCOUNT = f"Basic {base64.b64encode(f'ada:{PASSWORD}'.encode()).decode()}"


@pytest.fixture(autouse=True)
def no_other_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def backends() -> Iterator[list[socket.socket]]:
    """The far ends of the relay's sessions."""
    backends: list[socket.socket] = []
    yield backends
    for backend in backends:
        backend.close()


@pytest.fixture
def relay(tmp_path: Path, backends: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    def reach(query: dict[str, str], token: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        backends.append(ours)
        return theirs

    with Relay(tmp_path, reach) as relay:
        monkeypatch.setenv("SSL_CERT_FILE", str(relay.certificate))
        yield relay
    assert relay.problems == []


def dial(url: str, *, seconds: float = 20.0) -> iap.Tunnel:
    where: dict[str, Any] = {"project": "p", "zone": "z", "instance": "trainer", "port": 22, "endpoint": url}
    return iap.dial(**where, token=lambda: "token", deadline=Deadline(seconds))


def error_of(url: str, *, seconds: float = 20.0) -> RemoteRuntimeError:
    """The error of a dial; the password must not be in it, nor in what it came from."""
    with pytest.raises(RemoteRuntimeError) as caught:
        dial(url, seconds=seconds)
    error: BaseException | None = caught.value
    while error:
        assert not any(secret in f"{error!r} {error} {vars(error)}" for secret in (PASSWORD, "p%40ss", ACCOUNT))
        error = error.__cause__ or error.__context__
    return caught.value


def target(relay: Relay) -> str:
    return relay.url.removeprefix("wss://").removesuffix("/v4")


@pytest.mark.parametrize(("account", "user"), [("", ""), (ACCOUNT, "ada:p%40ss%3Aword@")])
def test_bytes_and_resumptions_go_through_the_proxy(
    relay: Relay, backends: list[socket.socket], account: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(account=account) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{user}{proxy.where}")
        relay.cut("reset", after=1 << 20)
        with dial(relay.url) as sock:
            both_ways(sock, backends[0], 2)
        assert proxy.asked == [f"CONNECT {target(relay)}"] * 2


def test_host_in_no_proxy_is_reached_without(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.where}")
        monkeypatch.setenv("NO_PROXY", "example.org,localhost")
        with dial(relay.url):
            pass
        assert proxy.asked == []


def test_credentials_that_the_proxy_does_not_accept(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy(account="Basic other") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:p%40ss%3Aword@{proxy.where}")
        error = error_of(relay.url)
    assert (type(error), error.code, error.retryable) == (InstanceError, "proxy_refused", False)
    assert "HTTPS_PROXY" in error.hint
    assert relay.tokens == []


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", InstanceError, "proxy_refused"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n<h1>No such host</h1>", NetworkError, "proxy_failed"),
        (b"HTTP/1.1 200 OK\r\n\r\nalready something", NetworkError, "proxy_failed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NetworkError, "proxy_failed"),
        (b"\r\n\r\n", NetworkError, "proxy_failed"),
    ],
)
def test_other_answers(
    answer: bytes, kind: type[RemoteRuntimeError], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(answer=answer) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.where}")
        error = error_of("wss://relay.invalid/v4")
        assert proxy.asked == ["CONNECT relay.invalid:443"]
    assert (type(error), error.code, error.retryable) == (kind, code, kind is NetworkError)


def test_no_proxy_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    error = error_of("wss://relay.invalid/v4")
    assert (type(error), error.code, error.retryable) == (NetworkError, "proxy_unreachable", True)


def test_silent_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert isinstance(error_of("wss://relay.invalid/v4", seconds=0.5), TimedOut)


@pytest.mark.parametrize("url", ["socks5h://p:1080", "https://p:443", "http://:80", "http://p:port", "http://p:99999"])
def test_proxies_that_are_none(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(url)
    assert caught.value.code == "proxy_unsupported"


def test_what_a_proxy_is_told() -> None:
    assert parsed("proxy:3128") == Proxy("proxy", 3128)
    assert parsed("http://[::1]") == Proxy("::1", 80)
    proxy = parsed("http://ada:p%40ss%3Aword@proxy")
    assert PASSWORD not in repr(proxy)
    assert ACCOUNT not in repr(proxy)
    request = connect_request(proxy, "2001:db8::1", 443).decode()
    assert request == (
        f"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-Authorization: {ACCOUNT}\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"HTTP/1.1 200 OK\r\n", 200), (b"HTTP/1.0 407\r\n", 407), (b"HTTP/2 200", 0), (b"HTTP/1.1 2", 0), (b"", 0)],
)
def test_status_of_answers(answer: bytes, status: int) -> None:
    assert status_of(answer) == status
