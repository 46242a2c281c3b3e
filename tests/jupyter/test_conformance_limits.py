"""Memory: what it is bounded by, whatever pages ask for and however slowly they read."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from tests.jupyter.conformance import CLOSE, deviates, read_frame, same
from tests.jupyter.conftest import Dial, Jupyter, OpenPage, StartJupyter, auth_query, running_jupyter

MIB = 1 << 20
CHUNK = 65536
MOST_GROWTH = 20 * 1000 * 1000
"""Bytes by which the server may grow in any of these tests."""

STALLED = 40

MESSAGE_FACTOR = 7
"""What a message takes at the most while it is read, in sizes of it: 6 if its text is ASCII, and some slack."""

MOST_OF_A_MESSAGE = 128 * MIB


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """A server that has done each of these things once, so that what it loads for the first time is loaded."""
    with running_jupyter(tmp_path_factory.mktemp("fresh"), extension, log_level=30) as running:
        for number in range(5):
            connection = running.socket(f"http_over_websocket{auth_query(running)}")
            connection.send(stream(f"warm-{number}", 64))
            read_to_the_end(connection)
            connection.shutdown()
        yield running


def stream(name: str, chunks: int) -> str:
    """A request for so many chunks of 64 KiB, each written when there is room for it."""
    path = f"/probe/stream/{name}?chunks={chunks}&size={CHUNK}"
    return json.dumps({"message_id": name, "method": "GET", "path": path})


def read_to_the_end(connection: websocket.WebSocket) -> int:
    """Read the answer as fast as can be, without looking at it; the number of bytes on the wire."""
    buffer, tail, size = bytearray(MIB), b"", 0
    while not tail.endswith(b'"done": true}'):
        count = connection.sock.recv_into(buffer)
        assert count, "the connection ended before the answer"
        size += count
        tail = (tail + bytes(buffer[max(0, count - 20) : count]))[-20:]
    return size


def memory(jupyter: Jupyter) -> int:
    return int(jupyter.process.memory_info().rss)


def written(jupyter: Jupyter, name: str) -> int:
    """How many chunks the handler of a stream has got rid of."""
    return int(jupyter.request("GET", f"probe/progress/{name}").json()["count"])


def await_standstill(jupyter: Jupyter, names: list[str]) -> None:
    """Wait until no stream goes on any more, since nobody reads what is there."""
    before: list[int] = []
    while (now := [written(jupyter, name) for name in names]) != before or not any(now):
        before = now
        time.sleep(0.3)


def small_window() -> list[tuple[int, int, int]]:
    """The options of a socket for which the kernel keeps little, so that a stall is felt soon."""
    return [(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)]


@deviates("builds up in memory what it cannot send")
def test_pages_that_do_not_read_hold_no_memory(fresh: Jupyter, dial: Dial) -> None:
    before = memory(fresh)
    names = [f"stalled-{number}" for number in range(STALLED)]
    for name in names:
        connection = dial(fresh, f"http_over_websocket{auth_query(fresh)}", sockopt=small_window())
        connection.send(stream(name, 200))
    await_standstill(fresh, names)
    assert max(written(fresh, name) for name in names) < 200
    assert memory(fresh) - before < MOST_GROWTH


@deviates("runs one after the other, and reads it all")
def test_requests_of_a_page_that_does_not_read_hold_no_memory(fresh: Jupyter, dial: Dial) -> None:
    before = memory(fresh)
    names = [f"one-page-{number}" for number in range(STALLED)]
    connection = dial(fresh, f"http_over_websocket{auth_query(fresh)}", sockopt=small_window())
    for name in names:
        connection.send(stream(name, 200))
    await_standstill(fresh, names)
    assert all(written(fresh, name) < 200 for name in names)
    assert memory(fresh) - before < MOST_GROWTH


@deviates("does it all the same")
def test_nothing_new_is_begun_for_a_page_that_does_not_read(fresh: Jupyter, dial: Dial) -> None:
    connection = dial(fresh, f"http_over_websocket{auth_query(fresh)}", sockopt=small_window())
    connection.send(stream("begun", 200))
    await_standstill(fresh, ["begun"])
    for number in range(10):
        connection.send(stream(f"more-{number}", 1))
    for _ in range(20):  # the server had its chance
        assert written(fresh, "more-0") == 0
    done = set()
    while len(done) < 11:
        frame = json.loads(connection.recv())
        if frame["done"]:
            done.add(frame["message_id"])
    assert written(fresh, "more-0") == 1


def peak(jupyter: Jupyter) -> int:
    """The most memory that the server ever had."""
    lines = Path(f"/proc/{jupyter.process.pid}/status").read_text().splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found) * 1024


@deviates("closes at 10 MiB")
def test_an_upload_takes_no_more_than_its_size_times_so_much(start_jupyter: StartJupyter, open_page: OpenPage) -> None:
    jupyter = start_jupyter()  # its peak is to be this upload's
    page = open_page(jupyter)
    assert page.ask("PUT", "/probe/echo", "x")[0] == 200
    before, size = peak(jupyter), 20 * MIB
    assert json.loads(page.ask("PUT", "/probe/echo", "x" * size)[2])["size"] == size
    assert size < peak(jupyter) - before < MESSAGE_FACTOR * size


@same
def test_a_message_beyond_the_limit_is_refused_before_it_is_read(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, f"http_over_websocket{auth_query(jupyter)}")
    connection.sock.sendall(b"\x81\xff" + (MOST_OF_A_MESSAGE + 1).to_bytes(8, "big") + b"mask")
    opcode, data = read_frame(connection)
    assert (opcode, int.from_bytes(data[:2], "big")) == (CLOSE, 1009)


@pytest.mark.once
@deviates("gives up at 100 MB, and says nothing")
def test_a_gigabyte_comes_down_without_being_kept(fresh: Jupyter, dial: Dial) -> None:
    before = memory(fresh)
    connection = dial(fresh, f"http_over_websocket{auth_query(fresh)}")
    connection.send(stream("gigabyte", 1024 * MIB // CHUNK))
    assert read_to_the_end(connection) > 1024 * MIB * 4 / 3
    assert memory(fresh) - before < MOST_GROWTH
