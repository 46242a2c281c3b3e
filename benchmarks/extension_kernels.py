"""What a kernel's WebSocket costs behind `proxied_ws`, against the same kernel's own."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from contextlib import ExitStack
from urllib.parse import quote

import websocket

from tests.jupyter.conftest import Jupyter


def round_trips(server: Jupyter, pairs: int) -> dict[str, float]:
    """Run that many pairs of cells, one by each way, in turn; the median times and the median of the differences.

    A cell's time ends when the kernel says that it is idle again.
    """
    kernel = server.request("POST", "api/kernels", body=b"{}").json()["id"]
    channels = f"api/kernels/{kernel}/channels"
    auth = quote(f"http://{server.host}/?token={server.token}", safe="")
    paths = (
        f"{channels}?token={server.token}",
        f"http_over_websocket/proxied_ws/{channels}?token={server.token}&jupyter_http_over_ws_auth_url={auth}",
    )
    took: list[tuple[float, float]] = []
    with ExitStack() as opened:
        direct, carried = (server.socket(path, origin=f"http://{server.host}") for path in paths)
        opened.callback(direct.shutdown)
        opened.callback(carried.shutdown)
        for number in range(pairs + 1):
            if number % 2:
                one, other = cell(direct, carried), cell(carried, direct)
            else:
                other, one = cell(carried, direct), cell(direct, carried)
            if number:  # the first pair warms up
                took.append((one, other))
    server.request("DELETE", f"api/kernels/{kernel}")
    return {
        "direct_ms": round(statistics.median(one for one, _ in took), 3),
        "carried_ms": round(statistics.median(other for _, other in took), 3),
        "over_direct_ms": round(statistics.median(other - one for one, other in took), 3),
    }


def cell(asking: websocket.WebSocket, watching: websocket.WebSocket) -> float:
    """Run a cell, and return how many milliseconds it took; the other socket is told of it too, and has to be read."""
    asked = uuid.uuid4().hex
    header = {"msg_id": asked, "msg_type": "execute_request", "username": "", "session": asked, "version": "5.3"}
    content = {"code": "1", "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    began = time.perf_counter()
    asking.send(json.dumps(message))
    await_idle(asking, asked)
    seconds = time.perf_counter() - began
    await_idle(watching, asked)
    return seconds * 1000


def await_idle(connection: websocket.WebSocket, asked: str) -> None:
    """Read until the kernel is done with that request."""
    while True:
        reply = json.loads(connection.recv())
        if (
            reply["parent_header"].get("msg_id") == asked
            and reply["msg_type"] == "status"
            and reply["content"]["execution_state"] == "idle"
        ):
            return
