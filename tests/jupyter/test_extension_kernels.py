"""A cell runs over a kernel's own WebSocket and over the proxied one, and nobody can tell the difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import websocket

from tests.jupyter.conftest import COLAB, Jupyter, OpenPage, auth_query, running_jupyter
from tests.jupyter.kernels import run_cell

DIRECT = ""
PROXIED = "http_over_websocket/proxied_ws/"


@pytest.fixture
def kernel(jupyter: Jupyter) -> Iterator[str]:
    """The id of a kernel; it is shut down after the test."""
    kernel_id = jupyter.request("POST", "api/kernels", body=b"{}").json()["id"]
    yield kernel_id
    assert jupyter.request("DELETE", f"api/kernels/{kernel_id}").status == 204


@pytest.mark.parametrize("way", [DIRECT, PROXIED])
def test_a_cell_runs_and_its_output_streams(jupyter: Jupyter, kernel: str, way: str, tmp_path: Path) -> None:
    flag = tmp_path / "go-on"
    code = f"""
        import pathlib, time
        print("first", flush=True)
        while not pathlib.Path({str(flag)!r}).exists():
            time.sleep(0.01)
        print("second", flush=True)
    """

    def go_on(text: str) -> None:
        if "first" in text:
            flag.touch()  # the cell can only end if its first line got here before

    connection = jupyter.socket(f"{way}api/kernels/{kernel}/channels?session_id=s&token={jupyter.token}")
    try:
        assert run_cell(connection, "\n".join(line[8:] for line in code.splitlines()), on_output=go_on) == (
            "first\nsecond\n"
        )
    finally:
        connection.shutdown()


def test_the_auth_url_logs_a_proxied_socket_in(jupyter: Jupyter, kernel: str) -> None:
    connection = jupyter.socket(f"{PROXIED}api/kernels/{kernel}/channels{auth_query(jupyter)}")
    try:
        assert run_cell(connection, "print(6 * 7)") == "42\n"
    finally:
        connection.shutdown()


def test_a_kernel_is_driven_by_http_over_the_socket_alone(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    status, _, body = page.ask("POST", jupyter.path("api/kernels"), '{"name": "python3"}')
    kernel_id = json.loads(body)["id"]
    assert status == 201
    connection = jupyter.socket(f"{PROXIED}api/kernels/{kernel_id}/channels{auth_query(jupyter)}")
    try:
        assert run_cell(connection, "print('hi')") == "hi\n"
    finally:
        connection.shutdown()
    assert page.ask("DELETE", jupyter.path(f"api/kernels/{kernel_id}"))[0] == 204


@pytest.mark.parametrize("way", [DIRECT, PROXIED])
def test_the_binary_protocol_is_the_kernels_own(jupyter: Jupyter, kernel: str, way: str) -> None:
    protocol = "v1.kernel.websocket.jupyter.org"
    url = f"{way}api/kernels/{kernel}/channels?token={jupyter.token}"
    connection = jupyter.socket(url, subprotocols=[protocol])
    try:
        assert connection.subprotocol == protocol
        opcode, _ = connection.recv_data()  # the kernel greets with its status
        assert opcode == websocket.ABNF.OPCODE_BINARY
    finally:
        connection.shutdown()


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("api/kernels/{kernel}/channels", COLAB, 403),  # no login
        ("api/kernels/{kernel}/channels?token=wrong", COLAB, 403),
        ("api/kernels/{kernel}/channels?token={token}", "https://evil.example", 403),
        ("http_over_websocket/proxied_ws/api/kernels/{kernel}/channels?token={token}", COLAB, 404),  # twice the prefix
        ("no/such/socket?token={token}", COLAB, 404),
    ],
)
def test_what_a_proxied_socket_is_refused_for(
    jupyter: Jupyter, kernel: str, path: str, origin: str, status: int
) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        jupyter.socket(PROXIED + path.format(kernel=kernel, token=jupyter.token), origin=origin)
    assert refused.value.status_code == status


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """A server below a base URL with a character that means something in a pattern."""
    with running_jupyter(tmp_path_factory.mktemp("based"), extension, base_url="/user/a.b/") as running:
        yield running


def test_everything_works_below_a_base_url(based: Jupyter, open_page: OpenPage) -> None:
    test_a_kernel_is_driven_by_http_over_the_socket_alone(based, open_page)
    assert based.request("GET", "remote-runtime/proof?nonce=" + "ab" * 16, token=False).status == 200
    diagnose = based.socket("http_over_websocket/diagnose")
    diagnose.shutdown()


@pytest.mark.parametrize("path", ["/http_over_websocket", "/user/aXb/http_over_websocket"])
def test_nothing_is_served_beside_the_base_url(based: Jupyter, path: str) -> None:
    elsewhere = replace(based, base_url="/")
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        elsewhere.socket(path)
    assert refused.value.status_code == 404
