"""What comes from the VM is data: only what is in order gets through, and nothing makes the host stumble."""

from __future__ import annotations

import base64
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import frames
from remote_runtime.errors import GuestError, ServerError

NONCE = "00112233445566778899aabbccddeeff"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)
GOOD: dict[str, Any] = {
    "pid": 4242,
    "port": 8888,
    "token": "t" * 48,
    "base_url": "/",
    "root_dir": "/home/ada",
    "version": "2.14.0",
    "python": "/usr/bin/python3",
    "adopted": True,
    "installed": ["jupyterlab 4"],
}


def line(frame: object, before: str = "") -> bytes:
    return f"{before}{NONCE} {json.dumps(frame)}".encode()


def test_a_frame_is_found_behind_a_prompt_without_a_newline() -> None:
    assert frames.parse_line(line({"type": "result"}, before="Welcome! $ "), NONCE) == {"type": "result"}


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"Welcome",
        b'{"type": "result"}',
        NONCE.encode(),
        NONCE.encode() + b" ",
        NONCE.encode() + b" {",
        line([]),
        line({"type": "other"}),
        line({"type": ["result"]}),
        line({"kind": "result"}),
        NONCE.encode() + b" " + b"[" * 100_000,
        NONCE.encode() + b' {"type": "\xff"}',
    ],
)
def test_everything_else_is_noise(noise: bytes) -> None:
    assert frames.parse_line(noise, NONCE) is None


@given(st.binary(), st.binary())
def test_no_line_breaks_the_parser(before: bytes, after: bytes) -> None:
    frame = frames.parse_line(before + NONCE.encode() + b" " + after, NONCE)
    assert frame is None or isinstance(frame, dict)


@given(json_values)
def test_no_json_breaks_the_parser(value: object) -> None:
    frame = frames.parse_line(line(value), NONCE)
    assert frame is None or isinstance(frame, dict)
    typed = frames.parse_line(line({"type": value}), NONCE)
    assert typed is None or isinstance(typed["type"], str)


def shown(error: GuestError) -> str:
    return "".join([error.message, error.hint, *error.log])


@given(
    st.dictionaries(st.sampled_from(["code", "message", "hint", "retryable", "log"]), json_values | st.lists(st.text()))
)
def test_every_error_frame_gives_an_error_that_is_fit_to_be_shown(frame: dict[str, Any]) -> None:
    error = frames.parse_error(frame)
    assert error.message
    assert error.code.isascii()
    assert isinstance(error.retryable, bool)
    assert not any(unicodedata.category(char) in ("Cc", "Cf") for char in shown(error))


def test_an_error_keeps_what_the_guest_says() -> None:
    error = frames.parse_error(
        {"code": "server_died", "message": "It died", "hint": "Look", "retryable": True, "log": ["  a", "\x1b[31mb"]}
    )
    assert isinstance(error, ServerError)
    assert (error.code, error.message, error.hint, error.retryable) == ("server_died", "It died", "Look", True)
    assert error.log == ("  a", "b")
    assert type(frames.parse_error({"code": "guest_busy"})) is GuestError


@pytest.mark.parametrize("code", [None, 7, "", "A", "no spaces", "x" * 100, "\x1b[2J"])
def test_a_strange_code_becomes_the_general_one(code: object) -> None:
    assert frames.parse_error({"code": code}).code == "guest_failed"


def test_a_server_is_read_back() -> None:
    server = frames.parse_server(GOOD)
    assert (server.pid, server.port, server.token, server.adopted) == (4242, 8888, "t" * 48, True)
    assert server.installed == ("jupyterlab 4",)
    assert server.url(9000) == "http://localhost:9000/?token=" + "t" * 48


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "1"},
        {"pid": 0},
        {"pid": True},
        {"pid": 2**40},
        {"port": 0},
        {"port": 65536},
        {"port": 80.0},
        {"token": None},
        {"token": ""},
        {"token": "a b"},
        {"token": "a&b"},
        {"token": "t" * 300},
        {"base_url": "//evil.example/"},
        {"base_url": "x"},
        {"base_url": "/a"},
        {"base_url": "/\x1b[2J/"},
        {"base_url": "/" + "a/" * 5000},
    ],
)
def test_a_server_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(GuestError) as caught:
        frames.parse_server({**GOOD, **change})
    assert caught.value.code == "guest_protocol"
    assert "t" * 48 not in str(caught.value)


@given(st.dictionaries(st.sampled_from([*GOOD]), json_values))
def test_no_result_breaks_the_reader(change: dict[str, Any]) -> None:
    try:
        server = frames.parse_server({**GOOD, **change})
    except GuestError:
        return
    assert 0 < server.port < 65536
    assert server.url(1).startswith("http://localhost:1/")


@given(st.sampled_from(["stdout", "stderr"]), st.binary())
def test_output_is_read_back(stream: str, data: bytes) -> None:
    frame = {"stream": stream, "data": base64.b64encode(data).decode()}
    assert frames.parse_output(frame) == (stream, data)


@pytest.mark.parametrize(
    "frame", [{}, {"stream": "x", "data": ""}, {"stream": "stdout", "data": "?"}, {"stream": "stdout", "data": 1}]
)
def test_output_that_is_none(frame: dict[str, Any]) -> None:
    with pytest.raises(GuestError):
        frames.parse_output(frame)


def test_a_result_without_a_value_is_refused() -> None:
    with pytest.raises(GuestError):
        frames.parse_result({"type": "result", "value": 1})
