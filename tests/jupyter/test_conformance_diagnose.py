"""The socket that tells any client what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.jupyter.conformance import deviates, param, same
from tests.jupyter.conftest import Dial, Jupyter

DIAGNOSE = "http_over_websocket/diagnose"
FINE = {"has_authentication_cookie": False, "is_outdated_extension": False}


@pytest.mark.parametrize(
    ("query", "cookie", "expected"),
    [
        param("", "", FINE),
        param("?min_version=0.0.7", "_xsrf=x", {**FINE, "has_authentication_cookie": True}),
        param("?min_version=9.0", "other=x", {**FINE, "is_outdated_extension": True}),
        param("?min_version=0.0.8", "", FINE, why="is 0.0.8 and says 0.0.7"),
        param("?min_version=abc", "", FINE),
        param("?min_version=", "", FINE, why="raises"),
        param("?min_version=%ff", "", FINE, why="raises"),
    ],
)
def test_what_it_tells(jupyter: Jupyter, query: str, cookie: str, expected: dict[str, Any], dial: Dial) -> None:
    connection = dial(jupyter, DIAGNOSE + query, headers={"Cookie": cookie} if cookie else {})
    connection.send("any text")
    answer = json.loads(connection.recv())
    assert answer == {"message_id": "any text", "extension_version": "0.0.7", **expected}


@same
def test_a_message_is_an_id_whatever_it_says(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, f"{DIAGNOSE}?min_version=9.0")
    for message in ("any text", "{}", "", '{"message_id": 1}', "ü\u2028", "[" * 1000):
        connection.send(message)
        assert json.loads(connection.recv())["message_id"] == message


@deviates("drops the connection")
def test_a_binary_message_is_answered_too(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, DIAGNOSE)
    for message in (b"bytes", b"\xff"):
        connection.send_binary(message)
        assert json.loads(connection.recv())["message_id"] == message.decode("utf-8", "replace")
