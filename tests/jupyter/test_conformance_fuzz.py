"""Whatever a page sends is answered, and the socket lives on; also what a fuzzer has found worth keeping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import websocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jupyter.conformance import unasked
from tests.jupyter.conftest import Jupyter, auth_query
from tests.messages import JSON, REQUESTS, check, strict_json

CORPUS = Path(__file__).with_name("corpus")
"""Messages by which a fuzzer got into new branches of the codec; see `scripts/fuzz`."""

MESSAGES = st.binary() | st.text() | (REQUESTS | JSON).map(json.dumps)

numbers = count()


@pytest.fixture(scope="module")
def socket(jupyter: Jupyter) -> Iterator[websocket.WebSocket]:
    connection = jupyter.socket(f"http_over_websocket{auth_query(jupyter)}")
    yield connection
    connection.shutdown()


def answer_to(socket: websocket.WebSocket, message: str | bytes) -> None:
    """Send ``message`` and one request that is in order: two answers must come, and nothing else."""
    if isinstance(message, bytes):
        socket.send_binary(message)
    else:
        socket.send(message.encode("utf-8", "replace").decode())
    last = f"in order {next(numbers)}"
    socket.send(json.dumps({"message_id": last, "method": "GET", "path": "/api"}))
    ended = []
    while len(ended) < 2:
        frame = strict_json(socket.recv())
        if frame["done"]:
            ended.append(frame.get("message_id"))
    assert last in ended


@unasked("it has been seen to give no answer to much less")
@given(message=MESSAGES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_is_answered(socket: websocket.WebSocket, message: str | bytes) -> None:
    answer_to(socket, message)


@unasked("it has been seen to give no answer to much less")
def test_what_a_fuzzer_found_is_answered(socket: websocket.WebSocket) -> None:
    found = sorted(CORPUS.iterdir())
    assert len(found) > 20
    for path in found:
        message = path.read_bytes()
        check(message)
        check(message.decode("utf-8", "replace"))
        answer_to(socket, message)
