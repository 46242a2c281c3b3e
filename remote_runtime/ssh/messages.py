"""The messages of SSH's connection protocol that our own streams need (RFC 4254, sections 4 and 5).  Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, OPEN_CONFIRMATION, OPEN_FAILURE = 90, 91, 92
WINDOW_ADJUST, DATA, EXTENDED_DATA, EOF, CLOSE = 93, 94, 95, 96, 97
CHANNEL_REQUEST, CHANNEL_FAILURE = 98, 100

FIRST_CHANNEL_MESSAGE, LAST_CHANNEL_MESSAGE = OPEN_CONFIRMATION, CHANNEL_FAILURE

_DATA_HEADER = struct.Struct(">BII")
DATA_OFFSET = _DATA_HEADER.size


class Malformed(ValueError):
    """A message that is not what its type promises."""


@dataclass(frozen=True)
class Confirmation:
    """The VM opened a channel: its number there, how much we may send, and how much in one message."""

    remote: int
    window: int
    packet: int


@dataclass(frozen=True)
class Refusal:
    """The VM did not open a channel, for a reason of RFC 4254, section 5.1."""

    code: int
    text: str


def open_direct(number: int, host: str, port: int, *, window: int, packet: int) -> bytes:
    """Ask for a channel to ``host:port`` as the VM sees them."""
    kind, target, origin = b"direct-tcpip", host.encode(), b"127.0.0.1"
    return b"".join(
        (
            struct.pack(">BI", CHANNEL_OPEN, len(kind)),
            kind,
            struct.pack(">IIII", number, window, packet, len(target)),
            target,
            struct.pack(">II", port, len(origin)),
            origin,
            struct.pack(">I", 0),
        )
    )


def data_header(remote: int, size: int) -> bytes:
    """What goes before ``size`` bytes of data."""
    return _DATA_HEADER.pack(DATA, remote, size)


def adjust(remote: int, size: int) -> bytes:
    """Let the VM send ``size`` bytes more."""
    return struct.pack(">BII", WINDOW_ADJUST, remote, size)


def short(kind: int, remote: int) -> bytes:
    """A message that has nothing but its type and its channel."""
    return struct.pack(">BI", kind, remote)


def keepalive() -> bytes:
    """A request that every server answers, if only by refusing it."""
    name = b"keepalive@openssh.com"
    return struct.pack(">BI", GLOBAL_REQUEST, len(name)) + name + b"\x01"


def wants_reply(request: bytes) -> bool:
    """Whether a global request is to be answered."""
    end = 5 + _number(memoryview(request), 1)
    return len(request) > end and request[end] != 0


def channel_of(payload: memoryview) -> int:
    """Our number of the channel that a channel message is for."""
    return _number(payload, 1)


def data_of(payload: memoryview) -> memoryview:
    """The bytes that a data message brings."""
    if len(payload) < DATA_OFFSET:
        raise Malformed("a data message that is too short")
    size = _number(payload, 5)
    if size != len(payload) - DATA_OFFSET:
        raise Malformed("a data message of another length than it says")
    return payload[DATA_OFFSET:]


def extended_size(payload: memoryview) -> int:
    """How many bytes an extended data message brings, of which a forwarded port has no use."""
    return _number(payload, 9)


def adjusted_by(payload: memoryview) -> int:
    """How many bytes more we may send."""
    return _number(payload, 5)


def confirmation(payload: memoryview) -> Confirmation:
    """What an open confirmation says."""
    return Confirmation(_number(payload, 5), _number(payload, 9), _number(payload, 13))


def refusal(payload: memoryview) -> Refusal:
    """What an open failure says."""
    size = _number(payload, 9)
    return Refusal(_number(payload, 5), bytes(payload[13 : 13 + size]).decode("utf-8", "replace"))


def request_wants_reply(payload: memoryview) -> bool:
    """Whether a channel request is to be answered."""
    end = 9 + _number(payload, 5)
    return len(payload) > end and payload[end] != 0


def _number(payload: memoryview, offset: int) -> int:
    if len(payload) < offset + 4:
        raise Malformed("a message that is too short")
    return int.from_bytes(payload[offset : offset + 4], "big")
