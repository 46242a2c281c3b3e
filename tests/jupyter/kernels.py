"""A client of a kernel's WebSocket, as small as it can be."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import websocket


def run_cell(
    connection: websocket.WebSocket, code: str, *, on_output: Callable[[str], None] = lambda text: None
) -> str:
    """Run ``code`` and return all that it printed; ``on_output`` is told of each piece as it arrives."""
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "username": "tester",
        "session": uuid.uuid4().hex,
        "date": "2024-01-01T00:00:00Z",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    connection.send(json.dumps(request))
    printed = ""
    for message in _replies(connection, message_id):
        if message["msg_type"] == "stream":
            text = message["content"]["text"]
            printed += text
            on_output(text)
        if message["msg_type"] == "error":
            raise AssertionError("\n".join(message["content"]["traceback"]))
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    return printed


def ask(connection: websocket.WebSocket) -> None:
    """Ask the kernel something that it answers at once, and wait until it has."""
    asked = uuid.uuid4().hex
    header = {"msg_id": asked, "msg_type": "kernel_info_request", "session": "s"}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"}
    connection.send(json.dumps(message))
    next(_replies(connection, asked))


def _replies(connection: websocket.WebSocket, message_id: str) -> Any:
    while True:
        message = json.loads(connection.recv())
        if message["parent_header"].get("msg_id") == message_id:
            yield message
