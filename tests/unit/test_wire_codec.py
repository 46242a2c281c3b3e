"""Messages, frames and the decisions around them, without a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import logging
import math
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest.jupyter_http_over_ws import access, codec, flow, proof, redact, versions
from tests.messages import JSON, REQUESTS, check


@given(st.binary() | st.text())
def test_anything_is_answered(message: str | bytes) -> None:
    check(message)


@given(REQUESTS | JSON)
def test_any_json_is_answered(message: Any) -> None:
    check(json.dumps(message))
    check(json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "message",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"message_id": 1e999, "method": "GET", "path": "/"}',
        '{"message_id": -Infinity, "method": "GET", "path": "/"}',
        '{"message_id": "\\ud800", "method": "\\ud800", "path": "/\\ud800", "body": "\\ud800"}',
        '{"message_id": 1, "method": "GET", "path": "/", "body": "\\ud800"}',
        '{"message_id": 1, "method": "GET", "path": "/", "body_base64": "é"}',
        '{"message_id": %s, "method": "GET", "path": "/"}' % ("9" * 10_000),
        b"\xff\xfe{\x00}\x00",
        b"",
    ],
)
def test_what_breaks_other_parsers_is_answered(message: str | bytes) -> None:
    check(message)


def test_a_deeply_nested_message_id_is_answered() -> None:
    depth = sys.getrecursionlimit() // 2
    check('{"message_id": %s, "method": "GET", "path": "/"}' % ("[" * depth + "]" * depth))


def test_a_request_is_read() -> None:
    message = {"message_id": [1], "method": "put", "path": "api/é?q=ü#x", "body": "ignored", "body_base64": "AP8="}
    assert codec.decode(json.dumps(message)) == codec.Request(
        message_id="[1]", method="PUT", path="/api/%C3%A9?q=%C3%BC", body=b"\x00\xff"
    )
    del message["body_base64"]
    assert codec.decode(json.dumps(message).encode()) == codec.Request("[1]", "PUT", "/api/%C3%A9?q=%C3%BC", b"ignored")


def test_missing_keys_are_named() -> None:
    outcome = codec.decode('{"message_id": 7, "other": 1}')
    assert isinstance(outcome, codec.Refusal)
    assert json.loads(outcome.frame) == {
        "message_id": 7,
        "done": True,
        "status": 400,
        "statusText": "Invalid request. The body must contain the following keys: {'message_id', 'method', 'path'}. "
        "Got: dict_keys(['message_id', 'other'])",
    }
    outcome = codec.decode('{"message_id": 0}')
    assert isinstance(outcome, codec.Refusal) and "message_id" not in json.loads(outcome.frame)


def test_what_http_cannot_say_is_a_bad_request() -> None:
    outcome = codec.decode('{"message_id": "a", "method": "GET", "path": "/a b"}')
    assert isinstance(outcome, codec.Refusal)
    frame = json.loads(outcome.frame)
    assert frame == {
        "message_id": "a",
        "data": "",
        "done": True,
        "status": 400,
        "statusText": "Bad Request",
        "headers": {},
    }


@given(st.binary(max_size=300_000))
def test_pieces_make_up_the_whole(data: bytes) -> None:
    pieces = list(codec.pieces(data))
    assert b"".join(pieces) == data
    assert len(pieces) == math.ceil(len(data) / codec.CHUNK_BYTES)
    assert all(0 < len(piece) <= codec.CHUNK_BYTES for piece in pieces)


@given(JSON.map(lambda value: json.dumps(value).replace("NaN", "0").replace("Infinity", "0")), st.binary(), st.text())
def test_a_first_frame_can_be_read(message_id: str, data: bytes, reason: str) -> None:
    frame = codec.first_frame(message_id, data, status=299, reason=reason, headers={"A": reason}, done=False)
    assert json.loads(frame) == {
        "message_id": json.loads(message_id),
        "data": base64.b64encode(data).decode(),
        "done": False,
        "status": 299,
        "statusText": reason,
        "headers": {"A": reason},
    }


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 90_000])
def test_a_clients_own_reader_finds_the_message(size: int) -> None:
    sent = io.BytesIO(codec.websocket_head(size) + b"x" * size)
    frame = websocket.frame_buffer(sent.read, skip_utf8_validation=True).recv_frame()
    assert (frame.fin, frame.opcode, frame.data) == (1, websocket.ABNF.OPCODE_TEXT, b"x" * size)


@pytest.mark.parametrize(
    ("body", "clean"),
    [
        (b"", b""),
        (b'{"message": "x"}', b'{"message": "x"}'),
        (b'{"traceback": ""}', b'{"traceback": ""}'),
        (b'{"a": 1, "traceback": "Traceback (most recent call last):\\n x"}', b'{"a": 1, "traceback": ""}'),
        (b'["Traceback (most recent call last):"]', b""),
        (b"It failed.\nTraceback (most recent call last):\n x", b"It failed.\n"),
        (b"\xffTraceback (most recent call last):\n x", b"\xff"),
        (b"[" * 10_000 + b"Traceback (most recent call last):", b"[" * 10_000),
    ],
)
def test_a_traceback_is_taken_out(body: bytes, clean: bytes) -> None:
    assert codec.without_traceback(body) == clean


def test_headers_for_the_page() -> None:
    headers = [("A", "1"), ("Set-Cookie", "x"), ("set-cookie", "y"), ("A", "2"), ("B", "3")]
    assert codec.page_headers(headers) == {"A": "1,2", "B": "3"}


# -- versions


@given(st.text() | st.from_regex(r"\d{1,4}(\.\d{1,4}){1,3}([ab]\d)?", fullmatch=True))
def test_any_version_is_judged_and_the_reason_fits_a_close_frame(text: str) -> None:
    reason = versions.refusal(text)
    assert len(reason.encode()) <= 123
    assert bool(reason) == (versions.parse(text) is None or versions.is_outdated(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1.2", "1.2"),
        ("1.2.0", "1.2"),
        ("0.0.7", "0.0.7"),
        ("1.2.3a4", "1.2.3a4"),
        ("1.0b2", "1.0b2"),
        ("01.02", "1.2"),
    ],
)
def test_a_version_is_shown_in_its_short_form(text: str, shown: str) -> None:
    assert str(versions.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "1", "1.2.3.4", "v1.2", "1.2rc1", "1.2 ", "١.٢", "1.2a"])
def test_what_is_no_version(text: str) -> None:
    assert versions.parse(text) is None and not versions.is_outdated(text)


@pytest.mark.parametrize(("text", "outdated"), [("0.0.8", False), ("0.0.8b1", False), ("0.0.9a1", True), ("0.1", True)])
def test_up_to_which_version_we_serve(text: str, outdated: bool) -> None:
    assert versions.is_outdated(text) is outdated


# -- access

HOST = "localhost:8888"
COLAB = "https://colab.research.google.com"


@given(st.text())
def test_no_origin_but_the_allowed_one_is_allowed(origin: str) -> None:
    origins = access.Origins(COLAB)
    assert origins.allow(origin) == (origin == COLAB)
    assert not access.Origins("").allow(origin)
    assert not access.Origins("*").allow(origin)
    assert not access.Origins("null").allow("null")
    if "localhost" not in origin:
        assert origins.allow_socket(origin, HOST) == (origin == COLAB)


def test_who_may_open_a_socket() -> None:
    origins = access.Origins(COLAB)
    assert origins.allow_socket(None, HOST)
    assert origins.allow_socket(f"http://{HOST}", HOST)
    assert not origins.allow_socket("http://localhost:9999", HOST)
    assert not origins.allow_socket("null", "")
    assert not origins.allow_socket("", "")
    assert not origins.allow_socket("http://[", HOST)


def test_an_exact_origin_goes_before_a_pattern() -> None:
    assert not access.Origins(COLAB, re.compile(".*")).allow("https://other.example")
    assert access.Origins("", re.compile("https://a")).allow("https://a")
    assert not access.Origins("", re.compile("https://a")).allow("https://a.evil")


@given(st.text())
def test_an_auth_url_gives_a_token_or_is_refused(url: str) -> None:
    for text in (url, f"http://{HOST}/{url}", f"http://{HOST}/?token={url}", f"http://{HOST}/?{url}"):
        try:
            token = access.token_of(text, "http", HOST)
        except access.ForeignAuthUrl:
            continue
        assert re.fullmatch(r"[\x21-\x7e]*", token)


def test_the_token_of_an_auth_url() -> None:
    assert access.token_of(f"http://{HOST}/?token=a%2Bb", "http", HOST) == "a+b"
    assert access.token_of(f"http://{HOST}/lab?x=1&token=t#y", "http", HOST) == "t"
    assert access.token_of(f"http://{HOST}/", "http", HOST) == ""
    for url in (
        f"https://{HOST}/",
        "http://localhost/",
        f"http://u:p@{HOST}/",
        "http://127.0.0.1:8888/",
        "",
        "//" + HOST,
    ):
        with pytest.raises(access.ForeignAuthUrl):
            access.token_of(url, "http", HOST)


def test_a_refused_auth_url_is_not_in_the_error() -> None:
    with pytest.raises(access.ForeignAuthUrl) as refused:
        access.token_of("http://elsewhere/?token=s3cret", "http", HOST)
    assert "s3cret" not in repr(refused.value)


def test_the_headers_of_an_inner_request() -> None:
    handshake = [
        *(("Host", HOST), ("Cookie", "a=1"), ("X-A", "1"), ("X-A", "2"), ("Upgrade", "websocket")),
        *(("Sec-WebSocket-Key", "k"), ("If-Match", "*"), ("Content-Length", "9")),
    ]
    kept = [("Host", HOST), ("X-A", "1"), ("X-A", "2")]
    bare = access.inner_headers(handshake, cookies="", writing=True, xsrf=None, size=0)
    assert bare == [*kept, ("Content-Length", "0")]
    other = access.inner_headers(handshake, cookies="b=2", writing=False, xsrf=None, size=0)
    assert other == [*kept, ("Cookie", "b=2")]
    read = access.inner_headers(handshake, cookies=None, writing=False, xsrf="x", size=0)
    assert read == [kept[0], ("Cookie", "a=1"), *kept[1:]]
    write = access.inner_headers(handshake, cookies=None, writing=True, xsrf="x", size=3)
    assert write == [*read, ("X-XSRFToken", "x"), ("Content-Length", "3")]
    split = access.inner_headers(handshake, cookies=None, writing=True, xsrf="x\r\nEvil: y", size=0)
    assert split == [*read, ("Content-Length", "0")]
    hop = access.inner_headers([*handshake, ("Connection", "Upgrade, x-a")], cookies="", writing=False, xsrf="", size=0)
    assert hop == [("Host", HOST)]


@given(st.sampled_from([200, 301, 302, 303, 307, 308, 404]), st.none() | st.text(), st.sampled_from(["GET", "POST"]))
def test_a_redirect_never_leaves_the_server(status: int, location: str | None, method: str) -> None:
    target = access.redirected(status, location, method=method, path="/a/b?c", scheme="http", host=HOST)
    if target is not None:
        assert status in (301, 302, 303, 307, 308)
        assert re.fullmatch(r"/[\x21-\x7e]*", target[1])


@pytest.mark.parametrize(
    ("status", "method", "location", "expected"),
    [
        (302, "GET", "c?d=1", ("GET", "/a/c?d=1")),
        (302, "POST", "/x", ("GET", "/x")),
        (303, "PUT", "/x", ("GET", "/x")),
        (303, "HEAD", "/x", ("HEAD", "/x")),
        (307, "PUT", f"http://{HOST}/x", ("PUT", "/x")),
        (302, "GET", "//evil/x", None),
        (302, "GET", "http://localhost:1/x", None),
        (302, "GET", f"https://{HOST}/x", None),
        (302, "GET", "http://[", None),
        (302, "GET", "", None),
        (200, "GET", "/x", None),
    ],
)
def test_where_a_redirect_leads(status: int, method: str, location: str, expected: tuple[str, str] | None) -> None:
    assert access.redirected(status, location, method=method, path="/a/b", scheme="http", host=HOST) == expected


# -- the proof


@given(st.text(), st.binary(min_size=16, max_size=64))
def test_a_proof_is_an_hmac_of_the_nonces_text(token: str, nonce: bytes) -> None:
    token = token.encode("utf-8", "ignore").decode()
    expected = hmac.new(token.encode(), nonce.hex().encode(), hashlib.sha256).hexdigest()
    assert proof.answer(token, nonce.hex()) == expected


@given(st.text())
def test_only_a_nonce_is_answered(nonce: str) -> None:
    fits = re.fullmatch("[0-9a-fA-F]{32,128}", nonce) is not None and len(nonce) % 2 == 0
    assert (proof.answer("t", nonce) is not None) == fits


# -- flow


@given(st.lists(st.floats(min_value=0, max_value=0.2), max_size=100), st.integers(1, 5))
def test_nobody_is_faster_than_the_pace(gaps: list[float], at_once: int) -> None:
    pace, now, passed = flow.Pace(10, at_once), 1000.0, []
    for gap in gaps:
        now += gap
        now += pace.delay(now)  # who has to wait comes no earlier
        passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= at_once + 10 * (passed[last] - passed[first]) + 1e-6


def test_who_is_slow_enough_does_not_wait() -> None:
    pace = flow.Pace(10, 2)
    assert [pace.delay(now) for now in (5.0, 5.0, 5.1, 5.2, 9.0, 9.0)] == pytest.approx([0] * 6)
    assert pace.delay(9.0) == pytest.approx(0.1)


def test_the_gate_holds_back_what_is_too_much() -> None:
    async def story() -> None:
        gate = flow.Gate(2, 100)
        await gate.enter(10)
        await gate.enter(20)
        third = asyncio.ensure_future(gate.enter(0))
        await asyncio.sleep(0)
        assert gate.closed and not third.done()
        gate.leave(10)
        await third
        assert not gate.closed
        gate.leave(0)
        large = asyncio.ensure_future(gate.enter(90))  # there is room for one more, but not for its size
        await asyncio.sleep(0)
        assert gate.closed
        gate.leave(20)
        await large
        gate.leave(90)
        await gate.enter(1000)  # alone anything gets in

    asyncio.run(story())


@given(st.lists(st.tuples(st.sampled_from(["GET", "PUT", "POST"]), st.sampled_from(["/a", "/a?x", "/b"])), max_size=12))
def test_nothing_runs_before_an_earlier_write_to_its_path(requests: list[tuple[str, str]]) -> None:
    async def story() -> list[int]:
        turns, order = flow.Turns(), []

        async def run(number: int, turn: flow.Turn) -> None:
            await turn.come()
            await asyncio.sleep(0)
            order.append(number)
            turn.end()

        taken = [turns.take(method, path) for method, path in requests]
        # Started the wrong way round, as a loop may well do it.
        await asyncio.gather(*(run(number, turn) for number, turn in reversed(list(enumerate(taken)))))
        assert not turns._last_write
        return order

    order = asyncio.run(story())
    assert sorted(order) == list(range(len(requests)))
    for later, (_, path) in enumerate(requests):
        for earlier, (method, other) in enumerate(requests[:later]):
            if method != "GET" and path.partition("?")[0] == other.partition("?")[0]:
                assert order.index(earlier) < order.index(later)


# -- the log


class Lines(logging.Handler):
    """Keeps what is logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Lines]]:
    """A logger whose parent has the handler, as the server's loggers have."""
    parent, handler = logging.getLogger("redact"), Lines()
    parent.propagate = False
    parent.addHandler(handler)
    yield logging.getLogger("redact.child"), handler
    parent.removeHandler(handler)


def test_the_log_is_without_the_secret(log: tuple[logging.Logger, Lines]) -> None:
    logger, handler = log
    secret = "s3cret/+"
    redact.redact_log(logger, lambda: secret)
    logger.warning("GET /?token=%s and %s", "s3cret%2F%2B", [secret])
    logger.warning("plain %s", "text")
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("it failed")
    assert handler.lines[:2] == ["GET /?token=[secret] and ['[secret]']", "plain text"]
    assert handler.lines[2].startswith("it failed\nTraceback") and handler.lines[2].endswith("ValueError: [secret]")


# What begins with a tilde can't be taken for a part of another character's quotation, as "25" can.
SECRETS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%<>"), max_size=20).map("~".__add__)


@given(SECRETS, st.integers(0, 3))
def test_a_secret_is_found_however_it_is_quoted(secret: str, times: int) -> None:
    text, odd = quote(secret, safe=""), "".join(f"%{byte:02X}" for byte in secret.encode())
    for _ in range(times):
        text, odd = quote(text, safe=""), quote(odd, safe="")
    for spelling in (secret, text, odd, odd.lower()):
        record = logging.LogRecord("x", logging.INFO, __file__, 1, "<%s>", (spelling,), None)
        redact.Redact(lambda: secret).filter(record)
        assert record.getMessage() == f"<{redact.REPLACEMENT}>"


def test_a_record_that_nobody_can_format_is_not_our_failure() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "wrong %d", ("text",), None)
    assert redact.Redact(lambda: "s3cret").filter(record)


def test_without_a_secret_nothing_is_taken_out(log: tuple[logging.Logger, Lines]) -> None:
    logger, handler = log
    redact.redact_log(logger, lambda: "")
    logger.warning("all %s", "of it")
    assert handler.lines == ["all of it"]
