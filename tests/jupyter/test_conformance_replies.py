"""Answers: their frames, when they come, and what is not in them."""

from __future__ import annotations

import base64
import json
import time

import pytest

from tests.jupyter.conformance import CLOSE, deviates, read_frame, same
from tests.jupyter.conftest import Jupyter, OpenPage


@same
def test_frames_have_the_agreed_keys(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    first, *later = page.frames(page.send("GET", "/probe/stream/keys?chunks=5&size=65536"))
    assert set(first) == {"message_id", "data", "status", "statusText", "headers", "done"}
    assert (first["status"], first["statusText"], first["done"]) == (200, "OK", False)
    assert all(set(frame) == {"message_id", "data", "done"} for frame in later)
    assert [frame["done"] for frame in later] == [False] * (len(later) - 1) + [True]
    sizes = [len(base64.b64decode(frame["data"])) for frame in (first, *later)]
    assert sum(sizes) == 5 * 65536 and max(sizes) <= 65536


@deviates("reads from its own connection as it comes")
def test_as_few_frames_as_can_be_carry_what_was_written(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    frames = page.frames(page.send("GET", "/probe/stream/few?chunks=4&size=100000"))
    sizes = [len(base64.b64decode(frame["data"])) for frame in frames]
    assert sizes == [65536, 34464] * 4


@same
def test_an_answer_without_a_body_is_one_frame(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    (jupyter.root_dir / "short-lived").write_text("")
    (frame,) = page.frames(page.send("DELETE", "/api/contents/short-lived"))
    assert (frame["status"], frame["statusText"], frame.get("data", ""), frame["done"]) == (204, "No Content", "", True)


@same
@pytest.mark.parametrize(("path", "text"), [("/no/such/page", "Not Found"), ("/probe/redirect", "Bad Request")])
def test_a_failure_is_passed_on_as_it_is(jupyter: Jupyter, open_page: OpenPage, path: str, text: str) -> None:
    page = open_page(jupyter)
    frames = page.frames(page.send("GET", path))
    assert frames[0]["statusText"] == text
    assert b"".join(base64.b64decode(frame["data"]) for frame in frames) == jupyter.request("GET", path).body


UNCAUGHT = "Uncaught server-side exception. Check logs for additional details."
SILENT = "says nothing more, and lets the page wait"


@deviates(SILENT)
@pytest.mark.parametrize("query", ["", "?fail=1"])
def test_an_answer_that_is_shorter_than_announced_is_a_failure(
    jupyter: Jupyter, open_page: OpenPage, query: str
) -> None:
    page = open_page(jupyter)
    (frame,) = page.frames(page.send("GET", f"/probe/short/400{query}"))
    assert frame == {"message_id": "m1", "done": True, "status": 500, "statusText": UNCAUGHT}
    assert page.ask("GET", "/probe/short/1000")[2] == b"x" * 1000
    assert "before it had written as many bytes as it had announced" in jupyter.logged()


@deviates(SILENT)
@pytest.mark.parametrize("query", ["", "&fail=1"])
def test_an_answer_that_breaks_off_is_not_said_to_be_done(jupyter: Jupyter, open_page: OpenPage, query: str) -> None:
    page = open_page(jupyter)
    event = "broken-" + query[1:5]
    page.send("GET", f"/probe/short/400?event={event}{query}")
    frame = json.loads(page.socket.recv())
    assert (frame["status"], len(base64.b64decode(frame["data"])), frame["done"]) == (200, 400, False)
    assert jupyter.request("GET", f"probe/set/{event}").status == 200
    opcode, data = read_frame(page.socket)
    assert (opcode, int.from_bytes(data[:2], "big")) == (CLOSE, 1011)


@same
def test_an_answer_to_head_announces_what_it_does_not_bring(jupyter: Jupyter, open_page: OpenPage) -> None:
    status, headers, body = open_page(jupyter).ask("HEAD", "/probe/short/0")
    assert (status, headers["Content-Length"], body) == (200, "1000", b"")


@deviates("shows the last one alone")
def test_repeated_headers_are_joined(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert open_page(jupyter).ask("GET", "/probe/cookies")[1]["X-Many"] == "a,b"


@deviates("shows them to the page, the one of the login as well")
def test_no_cookie_reaches_the_page(jupyter: Jupyter, open_page: OpenPage) -> None:
    assert "Set-Cookie" in jupyter.request("GET", "/probe/cookies").headers
    for path in ("/probe/cookies", "/login"):
        headers = open_page(jupyter).ask("GET", path)[1]
        assert not [name for name in headers if name.lower() == "set-cookie"]


@deviates("passes it on")
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_traceback_reaches_the_page(jupyter: Jupyter, open_page: OpenPage, form: str) -> None:
    assert b"secret.py" in jupyter.request("GET", f"/probe/fault/{form}").body
    status, headers, body = open_page(jupyter).ask("GET", f"/probe/fault/{form}")
    assert (status, headers["Content-Length"]) == (500, str(len(body)))
    if form == "json":
        assert json.loads(body) == {"message": "Unhandled error", "reason": None, "traceback": ""}
    else:
        assert body == b"It failed.\n"


@same
def test_the_traceback_of_an_uncaught_exception_is_for_the_log(jupyter: Jupyter, open_page: OpenPage) -> None:
    status, _, body = open_page(jupyter).ask("GET", "/probe/fail")
    assert (status, json.loads(body)["traceback"]) == (500, "")
    assert "RuntimeError: a secret of the server's" in jupyter.logged()


@deviates("holds each piece back until the next one is there")
def test_a_piece_is_there_as_soon_as_it_is_written(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    message_id = page.send("GET", "/probe/drip/drop")
    first = json.loads(page.socket.recv())
    assert (first["status"], first["data"], first["done"]) == (200, base64.b64encode(b"one").decode(), False)
    assert jupyter.request("GET", "/probe/set/drop").status == 200
    rest = page.frames(message_id)
    assert b"".join(base64.b64decode(frame["data"]) for frame in rest) == b"two"


@deviates("puts everything into its own memory")
def test_a_page_that_does_not_read_stops_the_handler(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    chunks = 1000  # of 64 KiB: far more than the sockets' buffers hold
    message_id = page.send("GET", f"/probe/stream/stalled?chunks={chunks}&size=65536")
    before = -1
    while (now := jupyter.request("GET", "/probe/progress/stalled").json()["count"]) != before or now == 0:
        before = now
        time.sleep(0.3)
    assert 0 < now < chunks / 2
    assert page.ask("GET", "/api")[0] == 200  # reading on lets everything through
    assert len(page.answer(message_id)[2]) == chunks * 65536


@deviates("reads on until the end")
def test_a_page_that_leaves_is_noticed_by_the_handler(jupyter: Jupyter, open_page: OpenPage) -> None:
    page = open_page(jupyter)
    page.send("GET", "/probe/wait/never")
    page.send("GET", "/probe/stream/left?chunks=100000&size=65536")
    page.socket.recv()
    page.socket.shutdown()
    end = time.monotonic() + 20
    while not jupyter.request("GET", "/probe/progress/left").json()["gone"]:
        assert time.monotonic() < end
