"""The proof that a server holds its token, and that its log never shows it."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote

import pytest
import websocket

from tests.jupyter.conftest import COLAB, TOKEN, Jupyter, OpenPage, StartJupyter, auth_query
from tests.jupyter.kernels import run_cell

NONCE = "00ff" * 8


@pytest.mark.parametrize("nonce", [NONCE, "Ab" * 16, "ab" * 32, "01" * 64])
def test_the_proof_is_an_hmac_and_needs_no_login(jupyter: Jupyter, nonce: str) -> None:
    answer = jupyter.request("GET", f"remote-runtime/proof?nonce={nonce}", token=False)
    expected = hmac.new(TOKEN.encode(), nonce.encode(), hashlib.sha256).hexdigest()
    assert (answer.status, answer.body.decode()) == (200, expected)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("query", ["", "?nonce=", f"?nonce={NONCE[2:]}", "?nonce=" + "0" * 130, "?nonce=" + "xy" * 16])
def test_what_is_no_nonce_is_refused(jupyter: Jupyter, query: str) -> None:
    assert jupyter.request("GET", f"remote-runtime/proof{query}", token=False).status == 400


def test_no_page_can_read_the_proof(jupyter: Jupyter) -> None:
    for method in ("GET", "OPTIONS"):
        answer = jupyter.request(method, f"remote-runtime/proof?nonce={NONCE}", token=False, headers={"Origin": COLAB})
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert answer.status == (200 if method == "GET" else 405)


@pytest.mark.once
def test_a_server_without_a_token_has_nothing_to_prove(start_jupyter: StartJupyter) -> None:
    jupyter = start_jupyter(token="")
    assert jupyter.request("GET", f"remote-runtime/proof?nonce={NONCE}", token=False).status == 404


def test_a_strict_server_lets_in_the_same(start_jupyter: StartJupyter, open_page: OpenPage) -> None:
    jupyter = start_jupyter(allow_unauthenticated_access=False)
    assert jupyter.request("GET", f"remote-runtime/proof?nonce={NONCE}", token=False).status == 200
    assert jupyter.request("OPTIONS", "api", token=False, headers={"Origin": COLAB}).status == 204
    assert open_page(jupyter).ask("GET", "/api/contents")[0] == 200
    assert open_page(jupyter, "").ask("GET", "/api/contents")[0] == 403
    warned_about = [line for line in jupyter.logged().splitlines() if " registered for " in line]
    assert not [line for line in warned_about if "http_over_websocket" in line or "remote-runtime" in line]


def test_the_log_never_shows_the_token(start_jupyter: StartJupyter, open_page: OpenPage) -> None:
    token = "s3cret/with+signs=0123456789"
    quoted = quote(token, safe="")
    jupyter = start_jupyter(token=token, log_level=10)  # DEBUG
    for path in ("api/contents/none", "probe/fail", "no/such/page", "files/none", "lab", ""):
        jupyter.request("GET", f"{path}?token={quoted}", token=False)
        jupyter.request("POST", f"{path}?token={quoted}", token=False, body=b"no json")
    for query in (None, f"?token={quoted}", f"?min_version=9.0&token={quoted}", auth_query(jupyter, token=quoted)):
        page = open_page(jupyter, query)
        page.send("GET", f"/api/contents/none?token={quoted}")
        page.send("POST", f"/probe/fail?token={quoted}", token)
        page.send("GET", f"/{quoted}/{token}")
        page.send("GET", "/probe/fail")
        page.ask("GET", "/api") if query is None else page.socket.recv_frame()
    kernel = jupyter.request("POST", "api/kernels", body=b"{}").json()["id"]
    for way in ("", "http_over_websocket/proxied_ws/"):
        for query in (f"?token={quoted}", auth_query(jupyter) + f"&token={quoted}"):
            connection = jupyter.socket(f"{way}api/kernels/{kernel}/channels{query}")
            assert run_cell(connection, "print(1)") == "1\n"
            connection.shutdown()
        with pytest.raises(websocket.WebSocketBadStatusException):
            jupyter.socket(f"{way}api/kernels/none/channels?token={quoted}")
    logged = jupyter.logged()
    assert "a secret of the server's" in logged and "[secret]" in logged  # it did log what we are looking for
    assert token not in logged
    assert quoted not in logged
