"""Requests: that they get where they should, as what they are, many of them at once."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.jupyter.conformance import deviates, param, same
from tests.jupyter.conftest import COLAB, Jupyter, OpenPage, Page, auth_query

UPSTREAMS_LIMIT_SECONDS = 20.0
TWO_QUERIES = "puts its own query behind the page's, with a question mark of its own"


@pytest.fixture(scope="module")
def long_request(jupyter: Jupyter) -> Iterator[tuple[Page, str, float]]:
    """A request that takes longer than upstream waits; sent with the first test, asked for in the last one."""
    page = Page(jupyter.socket(f"http_over_websocket{auth_query(jupyter)}"))
    yield page, page.send("GET", "/probe/wait/long"), time.monotonic()
    page.socket.shutdown()


@same
@pytest.mark.parametrize("path", ["/api/kernelspecs", "/api/contents", "/no/such/page"])
def test_an_answer_is_what_the_server_says_directly(
    jupyter: Jupyter, open_page: OpenPage, long_request: object, path: str
) -> None:
    direct = jupyter.request("GET", path)
    status, headers, body = open_page(jupyter).ask("GET", path)
    assert (status, body) == (direct.status, direct.body)
    assert headers["Content-Type"] == direct.headers["Content-Type"]
    assert headers["Content-Length"] == direct.headers["Content-Length"]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        param("probe/echo", "/probe/echo"),
        param("/probe/echo?q=1&r=%20", "/probe/echo?q=1&r=%20"),
        param("/probe/echo/%C3%A9?q=1#gone", "/probe/echo/%C3%A9?q=1"),
        param("/probe/echo/'()!~\"<>`{}|", "/probe/echo/'()!~\"<>`{}|"),
        param("/probe/echo/é?q=ü", "/probe/echo/%C3%A9?q=%C3%BC", why="sends UTF-8 that is read as Latin-1"),
    ],
)
def test_a_path_arrives_as_it_is(jupyter: Jupyter, open_page: OpenPage, path: str, uri: str) -> None:
    assert json.loads(open_page(jupyter).ask("GET", path)[2])["uri"] == uri


@pytest.mark.parametrize("query", [param(""), param("?a=1", why=TWO_QUERIES), param("?q=ü", why=TWO_QUERIES)])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writing_gets_past_the_xsrf_check(jupyter: Jupyter, open_page: OpenPage, method: str, query: str) -> None:
    status, _, body = open_page(jupyter).ask(method, f"/probe/echo{query}", "x")
    assert (status, json.loads(body)["method"]) == (200, method)


@pytest.mark.parametrize(
    "path",
    [
        param("/http_over_websocket", why="opens a socket to itself, and waits for its end"),
        *map(param, ("//evil.example/", "/http://evil.example/", "@evil", ":1")),
    ],
)
def test_a_path_leads_nowhere_else(jupyter: Jupyter, open_page: OpenPage, path: str) -> None:
    assert open_page(jupyter).ask("GET", path)[0] in (400, 404)


@deviates("sends the request to whatever the Host header names")
def test_the_host_header_is_no_target(jupyter: Jupyter, open_page: OpenPage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as victim:
        host = f"localhost:{victim.getsockname()[1]}"
        page = open_page(jupyter, auth_query(jupyter, host=host), origin=None, host=host)
        assert json.loads(page.ask("PUT", "/probe/echo", "x")[2])["host"] == host
        victim.settimeout(0)
        with pytest.raises(BlockingIOError):
            victim.accept()


@same
def test_redirects_are_followed_within_the_server(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    status, _, body = page.ask("GET", "/probe/redirect?to=/probe/echo?x=1")
    assert (status, json.loads(body)["uri"]) == (200, "/probe/echo?x=1")
    assert page.ask("GET", "/probe/redirect?to=/probe/redirect%3Fto%3D/api")[0] == 200


@same
def test_a_redirected_request_becomes_a_get_or_stays_what_it_is(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter, headers={"Authorization": f"token {jupyter.token}"})
    page.socket.send(json.dumps({"message_id": 1, "method": "POST", "path": "/probe/redirect?to=/probe/echo"}))
    seen = json.loads(page.answer(1)[2])
    assert (seen["method"], seen["size"]) == ("GET", 0)


@deviates("loses the query that it has put the token against XSRF into")
def test_a_body_goes_along_with_a_redirect_that_keeps_the_method(jupyter: Jupyter, open_page: OpenPage) -> None:
    seen = json.loads(open_page(jupyter).ask("POST", "/probe/redirect?status=307&to=/probe/echo", "text")[2])
    assert (seen["method"], seen["body"]) == ("POST", "text")


@deviates("goes wherever it is sent")
def test_a_redirect_elsewhere_is_for_the_page_to_follow(jupyter: Jupyter, open_page: OpenPage) -> None:
    foreign = "http://localhost:1/"
    status, headers, _ = open_page(jupyter).ask("GET", f"/probe/redirect?to={foreign}")
    assert (status, headers["Location"]) == (302, foreign)


@same
def test_an_endless_redirect_ends(jupyter: Jupyter, open_page: OpenPage) -> None:
    target = "/api"
    for _ in range(8):  # each hop quotes the next one once more; there are more of them than are followed
        target = "/probe/redirect?to=" + quote(target, safe="")
    assert open_page(jupyter).ask("GET", target)[0] == 302


@same
def test_other_headers_of_the_handshake_go_along(jupyter: Jupyter, open_page: OpenPage) -> None:
    seen = json.loads(open_page(jupyter, headers={"X-Anything": "kept"}).ask("GET", "/probe/echo")[2])
    names = {name.lower(): value for name, value in seen["headers"]}
    assert (names["x-anything"], names["origin"], seen["host"]) == ("kept", COLAB, jupyter.host)
    assert seen["remote_ip"] == "127.0.0.1"


@deviates("sends all of them")
def test_headers_about_the_handshake_itself_do_not(jupyter: Jupyter, open_page: OpenPage) -> None:
    header = {"If-None-Match": "*", "Accept-Encoding": "gzip", "Range": "bytes=0-1", "X-Hop": "1"}
    connection = "Connection: Upgrade, X-Hop"
    page = open_page(jupyter, headers=header, connection=connection)
    names = [name.lower() for name, _ in json.loads(page.ask("GET", "/probe/echo")[2])["headers"]]
    about = ("sec-websocket", "if-", "accept-enc", "range", "upgrade", "connection", "x-hop")
    assert not [name for name in names if name.startswith(about)]


@same
def test_the_body_of_a_post_is_a_form_if_a_handler_wants_one(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    assert json.loads(page.ask("POST", "/probe/form", "a=1&b=2")[2]) == {"a": "1"}
    headers = json.loads(page.ask("POST", "/probe/echo", "a=1")[2])["headers"]
    assert ["Content-Type", "application/x-www-form-urlencoded"] in headers


# -- large ones


@deviates("closes at 10 MiB")
def test_a_file_larger_than_tornados_limit_goes_up_and_comes_down(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    content = bytes(range(256)) * (12 * 4096)  # 12 MiB
    model = {"type": "file", "format": "base64", "content": base64.b64encode(content).decode()}
    assert page.ask("PUT", "/api/contents/big.bin", json.dumps(model))[0] == 201
    assert (jupyter.root_dir / "big.bin").read_bytes() == content
    status, headers, body = page.ask("GET", f"/files/big.bin?token={jupyter.token}")
    assert (status, headers["Content-Length"], body == content) == (200, str(len(content)), True)


@deviates("closes at 10 MiB")
def test_one_message_may_be_larger_than_all_that_run_at_once(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    big = page.send("POST", "/probe/echo", "x" * (65 * 1024 * 1024))
    small = page.send("POST", "/probe/echo", "x")
    assert json.loads(page.answer(big)[2])["size"] == 65 * 1024 * 1024
    assert json.loads(page.answer(small)[2])["size"] == 1


# -- many at once


@same
def test_more_requests_than_run_at_once_are_all_answered(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    ids = [page.send("GET", f"/probe/echo?n={number}") for number in range(200)]
    assert [json.loads(page.answer(i)[2])["uri"] for i in ids] == [f"/probe/echo?n={number}" for number in range(200)]


@deviates("answers one after the other")
def test_a_slow_request_delays_no_other_one(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    slow = [page.send("GET", f"/probe/wait/slow?tag={number}") for number in range(10)]
    assert page.ask("GET", "/probe/set/slow")[0] == 200  # it could not come otherwise
    assert {page.answer(message_id)[0] for message_id in slow} == {200}


@deviates("has ten connections for all sockets together")
def test_slow_requests_of_one_page_delay_no_other_page(jupyter: Jupyter, open_page: OpenPage) -> None:
    pages = [open_page(jupyter) for _ in range(15)]
    slow = [page.send("GET", "/probe/wait/pages") for page in pages]
    assert open_page(jupyter).ask("GET", "/probe/set/pages")[0] == 200
    assert {page.answer(message_id)[0] for page, message_id in zip(pages, slow, strict=True)} == {200}


@deviates("answers one after the other")
def test_writes_to_one_path_keep_their_order(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    sent = [
        page.send("PUT", "/probe/wait/order?event=late&tag=order"),
        page.send("DELETE", "/probe/wait/orde%72?event=early&tag=order"),
        page.send("GET", "/probe/wait/order?event=early&tag=order"),
        page.send("PUT", "/probe/wait/elsewhere?event=early&tag=order"),
    ]
    page.ask("GET", "/probe/set/early")  # now all but the first one could go on
    assert page.answer(sent[3])[0] == 200
    page.ask("GET", "/probe/set/late")
    assert [page.answer(message_id)[0] for message_id in sent[:3]] == [200, 200, 200]
    done = json.loads(page.ask("GET", "/probe/set/order")[2])["done"]
    assert [entry for entry in done if "order" in entry] == ["PUT order", "PUT order", "DELETE order", "GET order"]


@same
def test_a_page_reads_what_it_wrote_without_waiting(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    for number in range(3):
        model = {"type": "file", "format": "text", "content": str(number)}
        written = page.send("PUT", "/api/contents/note.txt", json.dumps(model))
        read = page.send("GET", "/api/contents/note.txt")
        assert page.answer(written)[0] in (200, 201)
        assert json.loads(page.answer(read)[2])["content"] == str(number)


FILE = json.dumps({"type": "file", "format": "text", "content": "text"})


@same
def test_a_page_fills_the_directory_that_it_made_without_waiting(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    for number in range(3):
        sent = [
            page.send("PUT", f"/api/contents/made{number}", '{"type": "directory"}'),
            page.send("PUT", f"/api/contents/made{number}/a.txt", FILE),
            page.send("GET", f"/files/made{number}/a.txt?token={jupyter.token}"),
        ]
        assert [page.answer(message_id)[0] for message_id in sent] == [201, 201, 200]


@same
def test_a_page_finds_what_it_renamed_without_waiting(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    for number in range(3):
        (jupyter.root_dir / f"old{number}").write_text("text")
        renamed = page.send("PATCH", f"/api/contents/old{number}", json.dumps({"path": f"new{number}"}))
        read = page.send("GET", f"/api/contents/new{number}")
        assert (page.answer(renamed)[0], page.answer(read)[0]) == (200, 200)


@pytest.mark.once
@deviates("says nothing at all after 20 s")
def test_a_request_may_take_long(jupyter: Jupyter, open_page: OpenPage, long_request: tuple[Page, str, float]) -> None:
    page, message_id, sent = long_request
    time.sleep(max(0.0, sent + UPSTREAMS_LIMIT_SECONDS + 1 - time.monotonic()))
    page.socket.settimeout(10)
    assert open_page(jupyter).ask("GET", "/probe/set/long")[0] == 200
    assert page.answer(message_id)[0] == 200
