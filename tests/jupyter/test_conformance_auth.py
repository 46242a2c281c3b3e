"""On whose behalf requests are made, what may be done without a login, and that the log keeps the secret."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import websocket

from tests.jupyter.conformance import deviates, is_legal, param, read_frame, same, unasked
from tests.jupyter.conftest import Dial, Jupyter, OpenPage, auth_query, running_jupyter

UNCAUGHT = "Uncaught server-side exception. Check logs for additional details."
DIAGNOSE = "http_over_websocket/diagnose"
PROXIED = "http_over_websocket/proxied_ws/"


@same
@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_without_a_login_the_handlers_refuse(jupyter: Jupyter, open_page: OpenPage, token: str | None) -> None:
    query = "" if token is None else auth_query(jupyter, token=token)
    assert open_page(jupyter, query).ask("GET", "/api/contents")[0] == 403


@same
def test_the_auth_url_logs_in(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert open_page(jupyter).ask("GET", "/api/contents")[0] == 200
    for path in ("/lab", "/tree?x=1"):
        url = f"http://{jupyter.host}{path}{'&' if '?' in path else '?'}token={jupyter.token}"
        query = f"?jupyter_http_over_ws_auth_url={quote(url, safe='')}"
        assert open_page(jupyter, query).ask("GET", "/api/contents")[0] in (200, 500)  # the page may not be there


@same
def test_a_header_of_the_handshake_logs_in(jupyter: Jupyter, open_page: OpenPage) -> None:
    header = {"Authorization": f"token {jupyter.token}"}
    assert open_page(jupyter, "", headers=header).ask("GET", "/api/contents")[0] == 200


@deviates("does not hand it on")
def test_the_token_may_be_in_the_query(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert open_page(jupyter, f"?token={jupyter.token}").ask("GET", "/api/contents")[0] == 200
    assert open_page(jupyter, "?token=wrong").ask("GET", "/api/contents")[0] == 403


@same
@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:{port}/", "http://localhost:1/", "https://{host}/", "http://u@{host}/", "http://[", "x"),
        *("//{host}/", "http://{host}.evil.example/", "http://localhost/"),
    ],
)
def test_the_auth_url_of_another_server_is_refused(jupyter: Jupyter, open_page: OpenPage, url: str) -> None:
    named = url.format(host=jupyter.host, port=jupyter.port) + f"?token={jupyter.token}"
    page = open_page(jupyter, f"?jupyter_http_over_ws_auth_url={quote(named, safe='')}")
    (frame,) = page.frames(page.send("PUT", "/api/contents/foreign", '{"type": "directory"}'))
    assert frame == {"message_id": "m1", "done": True, "status": 500, "statusText": UNCAUGHT}
    assert not (jupyter.root_dir / "foreign").exists()


@same
def test_cookies_do_not_make_up_for_a_wrong_auth_url(jupyter: Jupyter, open_page: OpenPage) -> None:
    header = {"Cookie": cookies_of(jupyter)}
    own = f"http://{jupyter.host}"
    query = auth_query(jupyter, token="wrong")
    assert open_page(jupyter, "", origin=own, headers=header).ask("GET", "/api/contents")[0] == 200
    assert open_page(jupyter, query, origin=own, headers=header).ask("GET", "/api/contents")[0] == 403


def cookies_of(jupyter: Jupyter, *, but: str = "") -> str:
    """What a browser has that is logged in: one cookie says who, the other proves that a page is the server's own."""
    found = {}
    for path, token in (("/api/contents", True), ("/login", False)):
        for line in jupyter.request("GET", path, token=token).headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            found.setdefault(name, value)
    assert "_xsrf" in found and len(found) == 2
    return "; ".join(f"{name}={value}" for name, value in found.items() if name != but)


@pytest.mark.parametrize("query", [param(""), param("?a=1", why="puts a second question mark")])
def test_a_page_of_the_servers_own_writes_with_its_cookies(jupyter: Jupyter, open_page: OpenPage, query: str) -> None:
    own = {"origin": f"http://{jupyter.host}", "headers": {"Cookie": cookies_of(jupyter)}}
    assert open_page(jupyter, "", **own).ask("POST", f"/probe/echo{query}", "x")[0] == 200


@same
def test_without_the_cookie_against_xsrf_it_only_reads(jupyter: Jupyter, open_page: OpenPage) -> None:
    own = {"origin": f"http://{jupyter.host}", "headers": {"Cookie": cookies_of(jupyter, but="_xsrf")}}
    page = open_page(jupyter, "", **own)
    assert page.ask("GET", "/probe/echo")[0] == 200
    assert page.ask("POST", "/probe/echo", "x")[0] == 403


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """A server without a token, and with an authorizer that lets nobody write to what asks it."""
    directory = tmp_path_factory.mktemp("lenient")
    with running_jupyter(directory, extension, token="", authorizer_class="served_probe.ReadOnly") as running:
        yield running


@same
def test_a_server_without_a_token_is_written_to_by_whoever_has_its_auth_url(
    lenient: Jupyter, open_page: OpenPage
) -> None:
    assert open_page(lenient).ask("POST", "/probe/echo", "x")[0] == 200
    assert open_page(lenient, "").ask("GET", "/probe/echo")[0] == 200
    assert open_page(lenient, "").ask("POST", "/probe/echo", "x")[0] == 403  # by the check against XSRF


@same
def test_the_authorizer_is_asked(lenient: Jupyter, open_page: OpenPage) -> None:
    page = open_page(lenient)
    assert page.ask("GET", "/api/contents")[0] == 200
    assert page.ask("POST", "/api/contents", "{}")[0] == 403
    assert page.ask("PUT", "/api/contents/x", '{"type": "directory"}')[0] == 403


# -- before a login


@deviates("reads up to 10 MiB")
@pytest.mark.parametrize("path", ["http_over_websocket", DIAGNOSE])
def test_before_a_login_messages_are_small(jupyter: Jupyter, path: str, dial: Dial) -> None:
    connection = dial(jupyter, path)
    connection.send("x" * 70000)
    opcode, data = read_frame(connection)
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2], "big") == 1009 and is_legal(1009)


@pytest.mark.once
@unasked("does whatever is asked as fast as the machine can")
@pytest.mark.parametrize("path", ["http_over_websocket", DIAGNOSE])
def test_before_a_login_messages_are_few(jupyter: Jupyter, dial: Dial, path: str) -> None:
    connection = dial(jupyter, path)
    start = time.monotonic()
    for number in range(60):
        connection.send(json.dumps({"message_id": number, "method": "GET", "path": "/api/contents"}))
    for _ in range(60):
        connection.recv()
    assert time.monotonic() - start > 1.9  # 20 at once, and then 20 a second: what is late cannot be early


# -- the log


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """A server that logs everything, with a token that has to be quoted in a URL."""
    directory = tmp_path_factory.mktemp("talkative")
    with running_jupyter(directory, extension, token="s3cret/with+signs=0123456789", log_level=10) as running:
        yield running


@same
def test_a_token_that_the_server_made_up_is_shown_where_it_starts(
    tmp_path: Path, extension: Path, open_page: OpenPage
) -> None:
    with running_jupyter(tmp_path / "generous", extension, token=None) as jupyter:  # knows the URL by its output alone
        banner = jupyter.logged().partition("copy and paste")[2]
        assert f"/?token={jupyter.token}\n" in banner
        assert open_page(jupyter).ask("GET", "/api/contents")[0] == 200


@pytest.mark.once
@unasked("keeps the token nowhere out of the log")
def test_it_is_nowhere_else_in_the_log(tmp_path: Path, extension: Path) -> None:
    with running_jupyter(tmp_path / "generous", extension, token=None) as jupyter:
        shown = jupyter.logged().count(jupyter.token)
        url = f"http://{jupyter.host}/?token={jupyter.token}"
        for path in ("api/contents/none", "probe/fail"):
            jupyter.request("GET", f"{path}?token={jupyter.token}", headers={"Referer": url})
        logged = jupyter.logged()
        assert "[secret]" in logged
        assert logged.count(jupyter.token) == shown


@deviates("logs where it connects to, token and all")
def test_no_token_is_in_the_log(talkative: Jupyter, open_page: OpenPage, dial: Dial) -> None:
    token = talkative.token
    quoted = quote(token, safe="")
    odd = "".join(f"%{byte:02x}" for byte in token.encode())
    for query in (None, f"?token={quoted}", f"?token={odd}", auth_query(talkative, token=quoted)):
        page = open_page(talkative, query)
        for path in (f"/api/contents/none?token={quoted}", f"/{quoted}/{token}", f"/{odd}", "/probe/fail"):
            page.ask("GET", path)
        page.ask("POST", f"/probe/fail?token={quoted}", token)
    for version in ("9.0", quoted):
        connection = dial(talkative, f"http_over_websocket?min_version={version}&token={quoted}")
        read_frame(connection)
    for query in (f"?token={quoted}", f"?token={odd}", auth_query(talkative)):
        connection = dial(talkative, f"{PROXIED}probe/talk{query}")
        connection.recv()
        for path in ("probe/none", "api/kernels/none/channels"):
            try:
                dial(talkative, f"{PROXIED}{path}{query}")
            except websocket.WebSocketBadStatusException:
                pass
    logged = talkative.logged()
    assert "a secret of the server's" in logged and "[secret]" in logged  # it did log what we are looking for
    for text in (token, quoted, odd, quote(quoted, safe="")):
        assert text not in logged
