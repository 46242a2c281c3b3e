"""HTTP over a WebSocket: what a page sends, and what it gets."""

from __future__ import annotations

import base64
import json
import socket
import time
from typing import Any
from urllib.parse import quote

import pytest
import websocket

from tests.jupyter.conftest import COLAB, Jupyter, OpenPage, auth_query


def closing(connection: websocket.WebSocket) -> tuple[int, str]:
    """Wait for the close frame: its code and reason."""
    while (frame := connection.recv_frame()).opcode != websocket.ABNF.OPCODE_CLOSE:
        pass
    return int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()


def test_the_line_that_people_wait_for_is_printed(jupyter: Jupyter) -> None:
    assert "jupyter_http_over_ws extension initialized. Listening on /http_over_websocket\n" in jupyter.logged()


def test_an_answer_is_what_the_server_says_directly(jupyter: Jupyter, open_page: OpenPage) -> None:
    for path in ("/api/kernelspecs", "/api/contents", "/no/such/page"):
        direct = jupyter.request("GET", path)
        status, headers, body = open_page(jupyter).ask("GET", path)
        assert (status, body) == (direct.status, direct.body)
        assert headers["Content-Type"] == direct.headers["Content-Type"]
        assert headers["Content-Length"] == direct.headers["Content-Length"]


def test_frames_have_the_agreed_keys(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    first, *middle, last = page.frames(page.send("GET", "/probe/stream/keys?chunks=5&size=65536"))
    assert set(first) == {"message_id", "data", "status", "statusText", "headers", "done"}
    assert (first["status"], first["statusText"], first["done"]) == (200, "OK", False)
    assert len(middle) == 3
    for frame in [*middle, last]:
        assert set(frame) == {"message_id", "data", "done"}
        assert len(base64.b64decode(frame["data"])) == 65536
    assert [frame["done"] for frame in middle] == [False] * 3 and last["done"] is True


def test_an_answer_without_a_body_is_one_frame(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    (jupyter.root_dir / "short-lived").write_text("")
    (frame,) = page.frames(page.send("DELETE", "/api/contents/short-lived"))
    assert (frame["status"], frame["statusText"], frame["data"], frame["done"]) == (204, "No Content", "", True)


@pytest.mark.parametrize("message_id", ["text", 7, None, ["a", {"b": 1.5}], "ü\u2028"])
def test_a_message_id_is_any_json(jupyter: Jupyter, open_page: OpenPage, message_id: Any) -> None:
    page = open_page(jupyter)
    page.socket.send(json.dumps({"message_id": message_id, "method": "get", "path": "api/status"}))
    frame = json.loads(page.socket.recv())
    assert frame["message_id"] == message_id and frame["status"] == 200


def test_a_binary_message_is_as_good(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    page.socket.send_binary(json.dumps({"message_id": 1, "method": "GET", "path": "/api"}).encode())
    assert json.loads(page.socket.recv())["status"] == 200


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        "null",
        '"text"',
        "{}",
        '{"message_id": 1, "method": "GET"}',
        '{"message_id": 1, "method": "GET", "path": 5}',
        '{"message_id": 1, "method": "GET", "path": null}',
        '{"message_id": 1, "method": "GET", "path": "/a b"}',
        '{"message_id": 1, "method": "GET", "path": "/a\\r\\nX: y"}',
        '{"message_id": 1, "method": "G\\r\\nET", "path": "/"}',
        '{"message_id": 1, "method": "POST", "path": "/", "body": 5}',
        '{"message_id": 1, "method": "POST", "path": "/", "body": {}}',
        '{"message_id": 1, "method": "POST", "path": "/", "body_base64": 5}',
        '{"message_id": 1, "method": "POST", "path": "/", "body_base64": "x"}',
        '{"message_id": 1e999, "method": "GET", "path": "/"}',
        '{"message_id": NaN, "method": "GET", "path": "/"}',
        "[" * 60000,
    ],
)
def test_a_malformed_message_is_answered_and_the_socket_lives(
    jupyter: Jupyter, open_page: OpenPage, message: str
) -> None:
    page = open_page(jupyter)
    page.socket.send(message)
    frame = json.loads(page.socket.recv())
    assert frame["status"] == 400 and frame["done"] is True
    assert page.ask("GET", "/api")[0] == 200


def test_bytes_that_are_no_text_are_answered(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    page.socket.send_binary(b"\xff\xfe\x00")
    assert json.loads(page.socket.recv()) == {"done": True, "status": 400, "statusText": "JSON input is required."}


def test_a_request_that_tornado_itself_refuses_is_answered(jupyter: Jupyter, open_page: OpenPage) -> None:
    too_many = "&".join("a=1" for _ in range(20000))
    assert open_page(jupyter).ask("GET", f"/api?{too_many}")[0] in (200, 400)  # old tornados have no such limit


def test_unusual_methods_get_the_handlers_405(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    for method in ("BREW", 5, None):
        page.socket.send(json.dumps({"message_id": 1, "method": method, "path": "/api"}))
        assert json.loads(page.socket.recv())["status"] == 405


@pytest.mark.parametrize("path", ["/http_over_websocket", "//evil.example/", "/http://evil.example/", "/@evil", "/:1"])
def test_a_path_leads_nowhere_else(jupyter: Jupyter, open_page: OpenPage, path: str) -> None:
    assert open_page(jupyter).ask("GET", path)[0] in (400, 404)


def test_text_in_paths_and_bodies_arrives_as_it_is(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    status, _, body = page.ask("PUT", "/probe/echo/é/%20?q=ü&a=1#gone", "ünï")
    seen = json.loads(body)
    assert status == 200
    assert seen["uri"] == "/probe/echo/%C3%A9/%20?q=%C3%BC&a=1"
    assert seen["body"].encode("latin-1").decode() == "ünï"
    assert json.loads(page.ask("POST", "/probe/echo", b"\x00\xff")[2])["body"] == "\x00\xff"


def test_a_file_larger_than_tornados_limit_goes_up_and_comes_down(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    content = bytes(range(256)) * (12 * 4096)  # 12 MiB
    model = {"type": "file", "format": "base64", "content": base64.b64encode(content).decode()}
    assert page.ask("PUT", "/api/contents/big.bin", json.dumps(model))[0] == 201
    assert (jupyter.root_dir / "big.bin").read_bytes() == content
    status, headers, body = page.ask("GET", f"/files/big.bin?token={jupyter.token}")
    assert (status, headers["Content-Length"], body == content) == (200, str(len(content)), True)


def test_no_cookie_reaches_the_page_and_repeated_headers_are_joined(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert "Set-Cookie" in jupyter.request("GET", "/probe/cookies").headers
    _, headers, _ = open_page(jupyter).ask("GET", "/probe/cookies")
    assert headers["X-Many"] == "a,b"
    assert not [name for name in headers if name.lower() == "set-cookie"]


def test_the_handshake_sets_no_cookie(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert "set-cookie" not in open_page(jupyter).socket.getheaders()


def test_redirects_are_followed_within_the_server_only(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    status, _, body = page.ask("GET", "/probe/redirect?to=/probe/echo?x=1")
    assert (status, json.loads(body)["uri"]) == (200, "/probe/echo?x=1")
    status, _, body = page.ask("POST", "/probe/redirect?to=/probe/echo", "text")
    assert (json.loads(body)["method"], json.loads(body)["size"]) == ("GET", 0)
    status, _, body = page.ask("POST", "/probe/redirect?status=307&to=/probe/echo", "text")
    assert (json.loads(body)["method"], json.loads(body)["body"]) == ("POST", "text")
    foreign = "http://localhost:1/"
    status, headers, _ = page.ask("GET", f"/probe/redirect?to={foreign}")
    assert (status, headers["Location"]) == (302, foreign)
    assert page.ask("GET", "/probe/redirect?to=/probe/redirect%3Fto%3D/api")[0] == 200
    endless = "/probe/redirect?to=" + "/probe/redirect"
    assert page.ask("GET", endless)[0] == 400  # it ends at the one that lacks its argument


def test_an_endless_redirect_ends(jupyter: Jupyter, open_page: OpenPage) -> None:
    # Each hop quotes the next one once more; there are more of them than are followed.
    target = "/api"
    for _ in range(8):
        target = "/probe/redirect?to=" + quote(target, safe="")
    assert open_page(jupyter).ask("GET", target)[0] == 302


def test_a_handler_that_fails_gives_what_it_gives_directly(jupyter: Jupyter, open_page: OpenPage) -> None:
    status, _, body = open_page(jupyter).ask("GET", "/probe/fail")
    assert (status, body) == (500, jupyter.request("GET", "/probe/fail").body)


# -- credentials


def test_without_a_login_the_handlers_refuse(jupyter: Jupyter, open_page: OpenPage) -> None:
    for query in ("", auth_query(jupyter, token="wrong"), "?token=wrong"):
        assert open_page(jupyter, query).ask("GET", "/api/contents")[0] == 403


def test_the_token_may_be_in_the_query_or_a_header(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert open_page(jupyter, f"?token={jupyter.token}").ask("GET", "/api/contents")[0] == 200
    header = {"Authorization": f"token {jupyter.token}"}
    assert open_page(jupyter, "", headers=header).ask("GET", "/api/contents")[0] == 200


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "http://localhost:1/", "https://{host}/", "http://u@{host}/", "http://[", "x"]
)
def test_the_auth_url_of_another_server_is_refused(jupyter: Jupyter, open_page: OpenPage, url: str) -> None:
    named = url.format(host=jupyter.host, port=jupyter.port) + f"?token={jupyter.token}"
    page = open_page(jupyter, f"?jupyter_http_over_ws_auth_url={quote(named, safe='')}")
    (frame,) = page.frames(page.send("GET", "/api/contents"))
    text = "Uncaught server-side exception. Check logs for additional details."
    assert frame == {"message_id": "m1", "done": True, "status": 500, "statusText": text}


def test_a_cookie_login_writes_with_its_xsrf_cookie_only(jupyter: Jupyter, open_page: OpenPage) -> None:
    # A page of the server's own is logged in by cookies: one says who, the other proves that the page is its own.
    cookies = {}
    for path, token in (("/api/contents", True), ("/login", False)):
        for line in jupyter.request("GET", path, token=token).headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            cookies.setdefault(name, value)
    assert "_xsrf" in cookies and len(cookies) == 2
    own = f"http://{jupyter.host}"
    both = "; ".join(f"{name}={value}" for name, value in cookies.items())
    page = open_page(jupyter, "", origin=own, headers={"Cookie": both})
    assert page.ask("POST", "/probe/echo?a=1", "x")[0] == 200
    login = "; ".join(f"{name}={value}" for name, value in cookies.items() if name != "_xsrf")
    page = open_page(jupyter, "", origin=own, headers={"Cookie": login})
    assert page.ask("GET", "/probe/echo")[0] == 200
    assert page.ask("POST", "/probe/echo?a=1", "x")[0] == 403


def test_headers_of_the_handshake_do_not_reach_the_handler(jupyter: Jupyter, open_page: OpenPage) -> None:
    header = {"X-Anything": "kept", "If-None-Match": "*", "Accept-Encoding": "gzip", "Range": "bytes=0-1"}
    seen = json.loads(open_page(jupyter, headers=header).ask("GET", "/probe/echo")[2])
    names = {name.lower(): value for name, value in seen["headers"]}
    assert (names["x-anything"], names["origin"], seen["host"]) == ("kept", COLAB, jupyter.host)
    assert seen["remote_ip"] == "127.0.0.1"
    assert not [n for n in names if n.startswith(("sec-websocket", "if-", "accept-enc", "range", "upgrade", "connect"))]


def test_the_host_header_is_no_target(jupyter: Jupyter, open_page: OpenPage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as victim:
        host = f"localhost:{victim.getsockname()[1]}"
        page = open_page(jupyter, f"?token={jupyter.token}", origin=None, host=host)
        assert json.loads(page.ask("PUT", "/probe/echo", "x")[2])["host"] == host
        victim.settimeout(0)
        with pytest.raises(BlockingIOError):
            victim.accept()


def test_a_foreign_host_is_refused(jupyter: Jupyter, open_page: OpenPage) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_page(jupyter, origin=None, host="rebound.example:8888")
    assert refused.value.status_code == 403


def test_before_a_login_messages_are_small(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter, "")
    page.send("POST", "/api", "x" * 70000)
    assert closing(page.socket)[0] == 1009


# -- who may open a socket

SOCKETS = ("http_over_websocket", "http_over_websocket/diagnose", "http_over_websocket/proxied_ws/api/events/subscribe")


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", COLAB + ".evil.example", COLAB + "/", "http://colab.research.google.com"]
)
def test_a_foreign_page_opens_no_socket_even_with_the_token(jupyter: Jupyter, path: str, origin: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        jupyter.socket(f"{path}?token={jupyter.token}", origin=origin)
    assert refused.value.status_code == 403


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", [COLAB, None, "http://{host}"])
def test_the_allowed_page_the_own_page_and_a_program_open_sockets(
    jupyter: Jupyter, path: str, origin: str | None
) -> None:
    own = origin.format(host=jupyter.host) if origin else None
    jupyter.socket(f"{path}?token={jupyter.token}", origin=own).shutdown()


def test_a_pattern_must_match_the_whole_origin(start_jupyter: Any) -> None:
    import re

    pattern = re.escape("https://a.example")
    jupyter = start_jupyter(allow_origin="", allow_origin_pat=pattern)
    jupyter.socket("http_over_websocket", origin="https://a.example").shutdown()
    with pytest.raises(websocket.WebSocketBadStatusException):
        jupyter.socket("http_over_websocket", origin="https://a.example.evil.example")


# -- versions and diagnosis


@pytest.mark.parametrize("version", ["0.0.7", "0.0.8", "0.0.1a3", "0.0"])
def test_a_page_that_wants_what_there_is_is_served(jupyter: Jupyter, open_page: OpenPage, version: str) -> None:
    assert open_page(jupyter, f"?min_version={version}&token={jupyter.token}").ask("GET", "/api")[0] == 200


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("9.0", "Requested version (9.0) > Current version (0.0.7). Please upgrade this package."),
        ("0.0.9", "Requested version (0.0.9) > Current version (0.0.7). Please upgrade this package."),
        ("abc", 'Invalid "min_version" provided: abc'),
        ("", 'Invalid "min_version" provided: '),
        ("v" * 300, 'Invalid "min_version" provided: ' + "v" * 91),
    ],
)
def test_a_page_that_wants_more_is_refused_and_nothing_runs(
    jupyter: Jupyter, open_page: OpenPage, version: str, reason: str
) -> None:
    page = open_page(jupyter, f"?min_version={version}&token={jupyter.token}")
    page.send("PUT", "/api/contents/refused", json.dumps({"type": "directory"}))
    assert closing(page.socket) == (4400, reason)
    assert not (jupyter.root_dir / "refused").exists()


@pytest.mark.parametrize(
    ("query", "cookie", "expected"),
    [
        ("", "", {"has_authentication_cookie": False, "is_outdated_extension": False}),
        ("?min_version=0.0.8", "_xsrf=x", {"has_authentication_cookie": True, "is_outdated_extension": False}),
        ("?min_version=9.0", "other=x", {"has_authentication_cookie": False, "is_outdated_extension": True}),
        ("?min_version=abc", "", {"has_authentication_cookie": False, "is_outdated_extension": False}),
    ],
)
def test_diagnose(jupyter: Jupyter, query: str, cookie: str, expected: dict[str, Any]) -> None:
    headers = {"Cookie": cookie} if cookie else {}
    connection = jupyter.socket(f"http_over_websocket/diagnose{query}", headers=headers)
    try:
        for message in ("any text", "{}", ""):
            connection.send(message)
            answer = json.loads(connection.recv())
            assert answer == {"message_id": message, "extension_version": "0.0.7", **expected}
        connection.send_binary(b"\xff")
        assert json.loads(connection.recv())["extension_version"] == "0.0.7"
    finally:
        connection.shutdown()


def test_a_plain_get_is_told_that_this_is_a_websocket(jupyter: Jupyter) -> None:
    for path in ("http_over_websocket", "http_over_websocket/diagnose", "http_over_websocket/proxied_ws/api"):
        answer = jupyter.request("GET", path, token=False)
        assert (answer.status, answer.body) == (400, b'Can "Upgrade" only to "WebSocket".')


# -- many requests at once


def test_a_slow_request_delays_no_other_one(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    slow = [page.send("GET", f"/probe/wait/slow?tag={number}") for number in range(10)]
    assert page.ask("GET", "/probe/set/slow")[0] == 200  # it could not come otherwise
    assert {page.answer(message_id)[0] for message_id in slow} == {200}


def test_writes_to_one_path_keep_their_order(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    sent = [
        page.send("PUT", "/probe/wait/order?event=late&tag=order"),
        page.send("DELETE", "/probe/wait/order?event=early&tag=order"),
        page.send("GET", "/probe/wait/order?event=early&tag=order"),
        page.send("PUT", "/probe/wait/elsewhere?event=early&tag=order"),
    ]
    page.ask("GET", "/probe/set/early")  # now all but the first one could go on
    assert page.answer(sent[3])[0] == 200
    page.ask("GET", "/probe/set/late")
    assert [page.answer(message_id)[0] for message_id in sent[:3]] == [200, 200, 200]
    done = json.loads(page.ask("GET", "/probe/set/order")[2])["done"]
    assert [entry for entry in done if "order" in entry] == ["PUT order", "PUT order", "DELETE order", "GET order"]


def test_more_requests_than_run_at_once_are_all_answered(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    ids = [page.send("GET", f"/probe/echo?n={number}") for number in range(200)]
    assert [json.loads(page.answer(i)[2])["uri"] for i in ids] == [f"/probe/echo?n={number}" for number in range(200)]


def test_a_page_that_does_not_read_stops_the_handler(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    chunks = 2000  # of 64 KiB: far more than the sockets' buffers hold
    message_id = page.send("GET", f"/probe/stream/stalled?chunks={chunks}&size=65536")
    before = -1
    while (now := jupyter.request("GET", "/probe/progress/stalled").json()["count"]) != before or now == 0:
        before = now
        time.sleep(0.3)
    assert 0 < now < chunks / 2
    assert page.ask("GET", "/api")[0] == 200  # reading on lets everything through
    assert len(page.answer(message_id)[2]) == chunks * 65536


def test_a_page_that_leaves_is_noticed_by_the_handler(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    page.send("GET", "/probe/stream/left?chunks=100000&size=65536")
    page.socket.recv()
    page.socket.shutdown()
    end = time.monotonic() + 20
    while not jupyter.request("GET", "/probe/progress/left").json()["gone"]:
        assert time.monotonic() < end
