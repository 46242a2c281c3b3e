"""Messages: which ones are understood, and what is said to all others."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import websocket

from tests.jupyter.conformance import ask_raw, closing, deviates, param, same
from tests.jupyter.conftest import Jupyter, OpenPage

NO_ANSWER = "gives no answer"
CLOSES = "drops the connection"


@same
@pytest.mark.parametrize("message_id", ["text", 7, 0, "", None, False, ["a", {"b": 1.5}], "ü\u2028"])
def test_a_message_id_is_any_json(jupyter: Jupyter, open_page: OpenPage, message_id: Any) -> None:
    message = json.dumps({"message_id": message_id, "method": "GET", "path": "/api"})
    frame = ask_raw(open_page(jupyter).socket, message)
    assert frame["message_id"] == message_id and type(frame["message_id"]) is type(message_id)
    assert frame["status"] == 200


@same
def test_a_binary_message_is_as_good_as_text(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert ask_raw(open_page(jupyter).socket, b'{"message_id": 1, "method": "GET", "path": "/api"}')["status"] == 200


@same
def test_a_message_in_fragments_is_one(jupyter: Jupyter, open_page: OpenPage) -> None:
    connection = open_page(jupyter).socket
    frame = websocket.ABNF.create_frame
    connection.send_frame(frame('{"message_id": 1, "method"', websocket.ABNF.OPCODE_TEXT, fin=0))
    connection.ping("between")
    connection.send_frame(frame(': "GET", ', websocket.ABNF.OPCODE_CONT, fin=0))
    connection.send_frame(frame('"path": "/api"}', websocket.ABNF.OPCODE_CONT, fin=1))
    assert connection.recv_frame().opcode == websocket.ABNF.OPCODE_PONG
    assert json.loads(connection.recv())["status"] == 200


@same
def test_unknown_keys_mean_nothing(jupyter: Jupyter, open_page: OpenPage) -> None:
    message = {"message_id": 1, "method": "GET", "path": "/probe/echo", "headers": {"X-Mine": "1"}, "token": "x"}
    page = open_page(jupyter)
    page.socket.send(json.dumps(message))
    status, _, body = page.answer(1)
    assert status == 200 and b"X-Mine" not in body


@same
@pytest.mark.parametrize("method", ["get", "Get", "GET"])
def test_a_method_is_put_in_capitals(jupyter: Jupyter, open_page: OpenPage, method: str) -> None:
    assert open_page(jupyter).ask(method, "/api")[0] == 200


@same
@pytest.mark.parametrize("method", ["BREW", 5, None])
def test_an_unusual_method_gets_the_handlers_405(jupyter: Jupyter, open_page: OpenPage, method: Any) -> None:
    message = json.dumps({"message_id": 1, "method": method, "path": "/api"})
    assert ask_raw(open_page(jupyter).socket, message)["status"] == 405


@same
@pytest.mark.parametrize("message", ["no json", "", '{"message_id": 1', b"\xff\xfe\x00", b"\x80"])
def test_what_is_no_json_is_told_so(jupyter: Jupyter, open_page: OpenPage, message: str | bytes) -> None:
    answer = ask_raw(open_page(jupyter).socket, message)
    assert answer == {"done": True, "status": 400, "statusText": "JSON input is required."}


@same
@pytest.mark.parametrize(
    "fields", [{}, {"message_id": 7}, {"message_id": 0, "path": "/"}, {"message_id": "x", "method": "GET", "more": 1}]
)
def test_what_lacks_a_key_is_told_which_ones_there_must_be(
    jupyter: Jupyter, open_page: OpenPage, fields: dict[str, Any]
) -> None:
    answer = ask_raw(open_page(jupyter).socket, json.dumps(fields))
    text = answer.pop("statusText")
    named = re.fullmatch(
        r"Invalid request\. The body must contain the following keys: \{(.*)\}\. Got: dict_keys\((.*)\)", text
    )
    assert named and sorted(named[1].split(", ")) == ["'message_id'", "'method'", "'path'"]
    assert named[2] == str(list(fields))
    known = {"message_id": fields["message_id"]} if fields.get("message_id") else {}
    assert answer == {"done": True, "status": 400, **known}


@pytest.mark.parametrize(
    "path", [param("/a b"), param("/a\r\nX-Evil: y"), param("/\x00", why=NO_ANSWER), param("/a\tb", why=NO_ANSWER)]
)
def test_a_path_that_no_request_line_can_carry_is_a_bad_request(
    jupyter: Jupyter, open_page: OpenPage, path: str
) -> None:
    answer = ask_raw(open_page(jupyter).socket, json.dumps({"message_id": 1, "method": "GET", "path": path}))
    assert answer.pop("data", "") == ""
    assert answer == {"message_id": 1, "status": 400, "statusText": "Bad Request", "headers": {}, "done": True}


@pytest.mark.parametrize(
    "message",
    [
        param("[]", why=NO_ANSWER),
        param("null", why=NO_ANSWER),
        param('"text"', why=NO_ANSWER),
        param("7", why=NO_ANSWER),
        param('{"message_id": 1, "method": "GET", "path": 5}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "GET", "path": null}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "GET", "path": ["/"]}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "G\\r\\nET", "path": "/"}', why=CLOSES),
        param('{"message_id": 1, "method": "POST", "path": "/probe/echo", "body": 5}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "POST", "path": "/probe/echo", "body": {}}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "POST", "path": "/probe/echo", "body": "\\ud800"}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "POST", "path": "/probe/echo", "body_base64": 5}', why=NO_ANSWER),
        param('{"message_id": 1, "method": "POST", "path": "/probe/echo", "body_base64": "x"}', why=NO_ANSWER),
        param('{"message_id": 1e999, "method": "GET", "path": "/api"}', why="answers with what is no JSON"),
        param('{"message_id": NaN, "method": "GET", "path": "/api"}', why="answers with what is no JSON"),
        param("[" * 60000, why=NO_ANSWER, id="deep"),
    ],
)
def test_every_malformed_message_is_answered_and_the_socket_lives(
    jupyter: Jupyter, open_page: OpenPage, message: str
) -> None:
    page = open_page(jupyter)
    answer = ask_raw(page.socket, message)
    assert answer["status"] == 400 and answer["done"] is True
    assert page.ask("GET", "/api")[0] == 200


@deviates("has no limit, and no answer to it either")
def test_what_tornado_itself_refuses_is_answered(jupyter: Jupyter, open_page: OpenPage) -> None:
    too_many = "&".join("a=1" for _ in range(20000))
    assert open_page(jupyter).ask("GET", f"/api?{too_many}")[0] in (200, 400)  # old tornados have no such limit


@same
def test_text_that_is_none_ends_the_connection(jupyter: Jupyter, open_page: OpenPage) -> None:
    # RFC 6455 wants just that, and tornado sees to it before any handler gets to know.
    connection = open_page(jupyter).socket
    connection.send_frame(websocket.ABNF.create_frame(b"\xff\xfe", websocket.ABNF.OPCODE_TEXT))
    with pytest.raises(EOFError):
        closing(connection)


@same
def test_the_encoded_body_goes_before_the_plain_one_unless_it_is_empty(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    for encoded, expected in (("eA==", "x"), ("", "plain"), (None, "plain")):
        message = {"message_id": 1, "method": "POST", "path": "/probe/echo", "body": "plain", "body_base64": encoded}
        page.socket.send(json.dumps(message))
        assert json.loads(page.answer(1)[2])["body"] == expected


@same
def test_a_text_body_arrives_as_utf_8(jupyter: Jupyter, open_page: OpenPage) -> None:
    seen = json.loads(open_page(jupyter).ask("PUT", "/probe/echo", "ünï")[2])
    assert seen["body"].encode("latin-1").decode() == "ünï"


@deviates(CLOSES)
def test_a_body_may_be_any_bytes(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert json.loads(open_page(jupyter).ask("POST", "/probe/echo", b"\x00\xff")[2])["body"] == "\x00\xff"
