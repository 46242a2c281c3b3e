"""Other WebSockets of the server through ours: kernels above all."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import websocket

from tests.jupyter.conformance import BINARY, closing, deviates, param, read_frame, refused, same, unasked
from tests.jupyter.conftest import COLAB, Dial, Jupyter, OpenPage, StartJupyter, auth_query
from tests.jupyter.kernels import run_cell

PROXIED = "http_over_websocket/proxied_ws/"
TALK = PROXIED + "probe/talk"
V1 = "v1.kernel.websocket.jupyter.org"


@pytest.fixture
def talk(jupyter: Jupyter, dial: Dial) -> Iterator[websocket.WebSocket]:
    """A proxied socket that says back what is said to it."""
    connection = dial(jupyter, f"{TALK}?token={jupyter.token}")
    connection.recv()
    yield connection


@pytest.fixture
def kernel(jupyter: Jupyter) -> Iterator[str]:
    """The id of a kernel; it is shut down after the test."""
    kernel_id = jupyter.request("POST", "api/kernels", body=b"{}").json()["id"]
    yield kernel_id
    assert jupyter.request("DELETE", f"api/kernels/{kernel_id}").status == 204


# -- any socket


@same
def test_the_prefix_is_taken_off_and_the_query_stays(jupyter: Jupyter, dial: Dial) -> None:
    query = auth_query(jupyter) + "&x=%20&x=2"
    connection = dial(jupyter, TALK + query)
    assert json.loads(connection.recv())["uri"] == "/probe/talk" + query


@deviates("takes it out of the query as well")
def test_the_prefix_stays_where_it_is_none(jupyter: Jupyter, dial: Dial) -> None:
    query = f"?token={jupyter.token}&of=/http_over_websocket/proxied_ws/x"
    connection = dial(jupyter, TALK + query)
    assert json.loads(connection.recv())["uri"] == "/probe/talk" + query


@same
def test_what_is_sent_right_after_the_handshake_arrives(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, f"{TALK}?token={jupyter.token}")
    for number in range(20):
        connection.send(str(number))
    assert [connection.recv() for _ in range(21)][1:] == [str(number) for number in range(20)]


@deviates("sends it on as text")
def test_binary_messages_stay_binary(talk: websocket.WebSocket) -> None:
    talk.send_binary(b"\x00\xff" * 100)
    assert read_frame(talk) == (BINARY, b"\x00\xff" * 100)


@deviates("takes it for the end")
def test_an_empty_message_is_a_message(talk: websocket.WebSocket) -> None:
    talk.send("")
    assert talk.recv() == ""
    talk.send_binary(b"")
    assert read_frame(talk) == (BINARY, b"")


@deviates("closes at 10 MiB")
def test_messages_of_more_than_10_mb_get_through(talk: websocket.WebSocket) -> None:
    big = b"\x01\x02\x03" * 4_000_000
    talk.send_binary(big)
    assert read_frame(talk) == (BINARY, big)


@same
def test_the_close_code_and_reason_of_the_server_reach_the_page(talk: websocket.WebSocket) -> None:
    talk.send("close 4321 with a reason")
    assert closing(talk) == (4321, "with a reason")


@same
def test_the_close_code_of_the_page_reaches_the_server(jupyter: Jupyter, open_page: OpenPage, dial: Dial) -> None:
    connection = dial(jupyter, f"{TALK}?token={jupyter.token}")
    connection.recv()
    connection.close(4567, b"the page is done")
    assert jupyter.request("GET", "probe/wait/closed").status == 200
    assert "closed 4567 the page is done" in jupyter.request("GET", "probe/set/closed").json()["done"]


@deviates("does not negotiate any")
def test_the_subprotocol_is_negotiated_by_the_server(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, f"{TALK}?token={jupyter.token}", subprotocols=["one", "two"])
    assert connection.subprotocol == "two"


@unasked("does not compress, and has been read to fail where the server does")
def test_compression_is_the_servers_own(start_jupyter: StartJupyter, dial: Dial) -> None:
    jupyter = start_jupyter(websocket_compression_options={"compression_level": 1})
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    connection = dial(jupyter, f"{TALK}?token={jupyter.token}", headers=offer)
    assert connection.getheaders()["sec-websocket-extensions"] == "permessage-deflate"
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    _, data = read_frame(connection)
    assert json.loads(inflate.decompress(data + b"\x00\x00\xff\xff"))["uri"].startswith("/probe/talk")


@deviates("replaces them by those of the auth URL")
def test_the_auth_url_replaces_cookies(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, TALK + auth_query(jupyter), headers={"Cookie": "a=1"})
    assert json.loads(connection.recv())["cookie"] == ""
    connection = dial(jupyter, f"{TALK}?token={jupyter.token}", headers={"Cookie": "a=1"})
    assert json.loads(connection.recv())["cookie"] == "a=1"


LATER = "opens first, and closes with the status as its code then"


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        param("probe/talk", COLAB, 403, why=LATER),  # no login
        param("probe/talk?token=wrong", COLAB, 403, why=LATER),
        param("no/such/socket?token={token}", COLAB, 404, why=LATER),
        param("api/kernels/none/channels?token={token}", COLAB, 404, why=LATER),
        param("http_over_websocket/proxied_ws/probe/talk?token={token}", COLAB, 404, why="takes off both prefixes"),
        param("probe/talk?token={token}", "https://evil.example", 403),
    ],
)
def test_what_a_socket_is_refused_for(jupyter: Jupyter, path: str, origin: str, status: int, dial: Dial) -> None:
    assert refused(lambda: dial(jupyter, PROXIED + path.format(token=jupyter.token), origin=origin)) == status


@deviates(LATER)
def test_the_auth_url_of_another_server_logs_nobody_in(jupyter: Jupyter, dial: Dial) -> None:
    assert refused(lambda: dial(jupyter, TALK + auth_query(jupyter, host="localhost:1"))) == 403


@same
def test_only_a_handshake_is_proxied(jupyter: Jupyter) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": COLAB}
    answer = jupyter.request("POST", PROXIED + "probe/echo", body=b"x", headers=upgrade)
    assert answer.status in (403, 405)  # some ask for the token against XSRF first
    assert jupyter.request("GET", PROXIED + "probe/echo").status == 400


# -- kernels


@same
def test_a_cell_runs_and_its_output_streams(jupyter: Jupyter, kernel: str, tmp_path: Path, dial: Dial) -> None:
    flag = tmp_path / "go-on"
    code = (
        "import pathlib, time\n"
        "print('first', flush=True)\n"
        f"while not pathlib.Path({str(flag)!r}).exists():\n"
        "    time.sleep(0.01)\n"
        "print('second', flush=True)\n"
    )

    def go_on(text: str) -> None:
        if "first" in text:
            flag.touch()  # the cell can only end if its first line got here before

    connection = dial(jupyter, f"{PROXIED}api/kernels/{kernel}/channels{auth_query(jupyter)}&session_id=s")
    assert run_cell(connection, code, on_output=go_on) == "first\nsecond\n"


@same
def test_a_kernel_is_driven_by_http_over_the_socket_alone(jupyter: Jupyter, open_page: OpenPage, dial: Dial) -> None:
    page = open_page(jupyter)
    status, _, body = page.ask("POST", "/api/kernels", '{"name": "python3"}')
    kernel_id = json.loads(body)["id"]
    assert status == 201
    connection = dial(jupyter, f"{PROXIED}api/kernels/{kernel_id}/channels{auth_query(jupyter)}")
    assert run_cell(connection, "print('hi')") == "hi\n"
    assert page.ask("DELETE", f"/api/kernels/{kernel_id}")[0] == 204


@deviates("agrees on nothing with the page, while the server speaks it")
def test_the_binary_protocol_is_the_kernels_own(jupyter: Jupyter, kernel: str, dial: Dial) -> None:
    url = f"{PROXIED}api/kernels/{kernel}/channels?token={jupyter.token}"
    connection = dial(jupyter, url, subprotocols=[V1])
    assert connection.subprotocol == V1
    content = {"code": "print(6 * 7)", "silent": False, "store_history": False, "user_expressions": {}}
    connection.send_binary(v1_message("execute_request", content))
    while (message := v1_fields(connection.recv()))[1]["msg_type"] != "stream":
        pass
    assert message[4] == {"name": "stdout", "text": "42\n"}


def v1_message(kind: str, content: dict[str, Any]) -> bytes:
    """A message of the shell channel in the binary protocol: offsets, then the parts."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": "", "session": "s", "version": "5.3"}
    header["date"] = "2024-01-01T00:00:00Z"
    parts = [b"shell", *(json.dumps(part).encode() for part in (header, {}, {}, {**content, "allow_stdin": False}))]
    start = 8 * (len(parts) + 2)
    offsets = [start + sum(map(len, parts[:count])) for count in range(len(parts) + 1)]
    return b"".join(number.to_bytes(8, "little") for number in (len(offsets), *offsets)) + b"".join(parts)


def v1_fields(message: bytes) -> list[Any]:
    """Channel, header, parent header, metadata and content of a message in the binary protocol."""
    count = int.from_bytes(message[:8], "little")
    offsets = [int.from_bytes(message[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    parts = [message[start:end] for start, end in pairwise(offsets)]
    return [parts[0].decode(), *(json.loads(part) for part in parts[1:5])]


@deviates("sends them on as text, and closes at 10 MiB")
def test_a_large_buffer_of_a_kernel_arrives(jupyter: Jupyter, kernel: str, dial: Dial) -> None:
    connection = dial(jupyter, f"{PROXIED}api/kernels/{kernel}/channels{auth_query(jupyter)}")
    size = 12_000_000
    run_cell(connection, "pass")
    code = f"from comm import create_comm\ncreate_comm(target_name='t', buffers=[b'\\xff' * {size}])"
    connection.send(execute_request(code))
    while (frame := read_frame(connection))[0] != BINARY:
        pass
    assert frame[1].endswith(b"\xff" * size)


@deviates("closes at 10 MiB")
def test_a_large_message_to_a_kernel_arrives(jupyter: Jupyter, kernel: str, dial: Dial) -> None:
    connection = dial(jupyter, f"{PROXIED}api/kernels/{kernel}/channels{auth_query(jupyter)}")
    run_cell(connection, "pass")
    connection.send(execute_request("print('got it')", padding=12_000_000))
    while (message := json.loads(connection.recv()))["msg_type"] != "stream":
        pass
    assert message["content"]["text"] == "got it\n"


def execute_request(code: str, *, padding: int = 0) -> str:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s"}
    header |= {"date": "2024-01-01T00:00:00Z", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    metadata = {"padding": "x" * padding}
    return json.dumps(
        {"header": header, "parent_header": {}, "metadata": metadata, "content": content, "channel": "shell"}
    )
