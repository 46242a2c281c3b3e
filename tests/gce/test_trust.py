"""Which certificates the calls of Google's APIs trust."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.jupyter.packages import make_authority


class Empty(BaseHTTPRequestHandler):
    """A project without VMs."""

    def do_GET(self) -> None:
        content = json.dumps({"kind": "compute#instanceAggregatedList", "items": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def https(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The compute API over https, and the certificate of the unknown authority that vouches for it."""
    authority, tls = make_authority(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}/compute/v1/", authority
        server.shutdown()
        thread.join()


def listing(url: str, **environment: str) -> tuple[int, str]:
    answer = run(
        *("list", "--vms", "--json"),
        CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE=url,
        CLOUDSDK_AUTH_DISABLE_CREDENTIALS="true",
        CLOUDSDK_CORE_PROJECT="test-project",
        **environment,
    )
    return answer.returncode, answer.stdout + answer.stderr


def test_an_authority_of_ones_own(https: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)  # this would go first
    url, authority = https
    status, said = listing(url, SSL_CERT_FILE=str(authority))
    assert status == 0, said
    assert json.loads(said)["vms"] == []


def test_an_authority_that_is_not_named(https: tuple[str, Path]) -> None:
    status, said = listing(https[0])
    assert status == 1, said
    assert '"certificate_untrusted"' in said
    assert "SSL_CERT_FILE" in said
