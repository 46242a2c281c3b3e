"""The connection protocol's messages: ours are what paramiko reads, and whatever arrives is read or refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import hypothesis.strategies as st
import paramiko
import pytest
from hypothesis import given

from remote_runtime.ssh import messages

numbers = st.integers(0, 0xFFFFFFFF)


def read(message: bytes) -> paramiko.Message:
    return paramiko.Message(message)


@given(numbers, st.text(min_size=1, max_size=40), st.integers(1, 65535), numbers, numbers)
def test_a_channel_is_asked_for_as_the_standard_says(number: int, host: str, port: int, window: int, size: int) -> None:
    message = read(messages.open_direct(number, host, port, window=window, packet=size))
    assert message.get_byte()[0] == messages.CHANNEL_OPEN
    assert message.get_text() == "direct-tcpip"
    assert [message.get_int() for _ in range(3)] == [number, window, size]
    assert (message.get_text(), message.get_int()) == (host, port)
    assert (message.get_text(), message.get_int()) == ("127.0.0.1", 0)
    assert message.get_remainder() == b""


@given(numbers, st.binary(max_size=200))
def test_data_comes_back_whole(remote: int, data: bytes) -> None:
    payload = memoryview(messages.data_header(remote, len(data)) + data)
    assert messages.channel_of(payload) == remote
    assert bytes(messages.data_of(payload)) == data


@given(numbers, numbers)
def test_short_ones(remote: int, size: int) -> None:
    assert messages.adjusted_by(memoryview(messages.adjust(remote, size))) == size
    message = read(messages.short(messages.EOF, remote))
    assert (message.get_byte()[0], message.get_int()) == (messages.EOF, remote)


def test_a_keepalive_wants_an_answer_and_other_requests_are_told_apart() -> None:
    assert messages.wants_reply(messages.keepalive())
    assert not messages.wants_reply(messages.keepalive()[:-1] + b"\0")


@given(numbers, numbers, numbers, numbers)
def test_a_confirmation(number: int, remote: int, window: int, packet: int) -> None:
    payload = struct.pack(">BIIII", messages.OPEN_CONFIRMATION, number, remote, window, packet)
    assert messages.confirmation(memoryview(payload)) == messages.Confirmation(remote, window, packet)


@given(numbers, numbers, st.text(max_size=40))
def test_a_refusal(number: int, code: int, text: str) -> None:
    raw = text.encode()
    payload = struct.pack(">BIII", messages.OPEN_FAILURE, number, code, len(raw)) + raw
    assert messages.refusal(memoryview(payload)) == messages.Refusal(code, text)


@pytest.mark.parametrize("reply", [b"\0", b"\1"])
def test_a_channel_request(reply: bytes) -> None:
    payload = struct.pack(">BII", messages.CHANNEL_REQUEST, 7, 4) + b"name" + reply
    assert messages.request_wants_reply(memoryview(payload)) == bool(reply[0])


READERS: list[Callable[[memoryview], object]] = [
    messages.channel_of,
    messages.data_of,
    messages.extended_size,
    messages.adjusted_by,
    messages.confirmation,
    messages.refusal,
    messages.request_wants_reply,
]


@pytest.mark.parametrize("reader", READERS)
@given(payload=st.binary(min_size=1, max_size=60))
def test_any_bytes_are_read_or_refused(reader: Callable[[memoryview], object], payload: bytes) -> None:
    try:
        reader(memoryview(payload))
    except messages.Malformed:
        pass
