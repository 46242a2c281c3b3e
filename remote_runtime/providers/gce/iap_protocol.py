"""The relay protocol of Identity-Aware Proxy, version 4: its messages, and what this side has to remember.  Pure.

Two byte streams go over a WebSocket that may be cut at any moment.  Each side counts the bytes that it received and
tells the other now and then; what the other has not confirmed is kept, and sent again over the next WebSocket::

    relay   CONNECT_SUCCESS_SID    the session's name             first on the first WebSocket
    relay   RECONNECT_SUCCESS_ACK  bytes received by the relay    first on every later one
    both    DATA                   up to 16384 bytes
    both    ACK                    bytes received in all, so far
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Union
from urllib.parse import urlencode, urlsplit

from remote_runtime.errors import UsageError

ENDPOINT = "wss://tunnel.cloudproxy.app/v4"
SUBPROTOCOL = "relay.tunnel.cloudproxy.app"
ORIGIN = "bot:iap-tunneler"

DATA_BYTES = 16384
"""One message carries so much data at most."""

ACK_BYTES = 2 * DATA_BYTES
"""The relay is told what was received when it is more than that; sooner only if nothing else happens."""

UNCONFIRMED_BYTES = 4 << 20
"""So much is kept for another time at most: with it a path of 100 ms carries 40 MB/s."""

_CONNECTED, _RECONNECTED, _DATA, _ACK = 1, 2, 4, 7
_TAG = struct.Struct(">H")
_WITH_LENGTH = struct.Struct(">HI")
_WITH_COUNT = struct.Struct(">HQ")


class Malformed(ValueError):
    """The relay broke the protocol; the session can't go on."""


@dataclass(frozen=True)
class Target:
    """What to reach: a port of a VM's network interface."""

    project: str
    zone: str
    instance: str
    port: int
    interface: str = "nic0"


@dataclass(frozen=True)
class Connected:
    """The session began; it is taken up again by its name ``sid``."""

    sid: bytes


@dataclass(frozen=True)
class Reconnected:
    """The session goes on; the relay has received so many bytes in all."""

    received: int


@dataclass(frozen=True)
class Data:
    """Bytes from the VM."""

    payload: memoryview


@dataclass(frozen=True)
class Ack:
    """The relay has received so many bytes in all."""

    received: int


Message = Union[Connected, Reconnected, Data, Ack]


def decode(message: bytes | bytearray | memoryview) -> Message | None:
    """Read one message of the relay's; None for a kind that is not known, which is to be ignored.

    Bytes after the end of what a message says of itself are ignored, too.  Raises :class:`Malformed`.
    """
    try:
        (tag,) = _TAG.unpack_from(message)
        if tag in (_RECONNECTED, _ACK):
            _, count = _WITH_COUNT.unpack_from(message)
            return Ack(count) if tag == _ACK else Reconnected(count)
        if tag not in (_CONNECTED, _DATA):
            return None
        _, length = _WITH_LENGTH.unpack_from(message)
    except struct.error as error:
        raise Malformed(f"a message of {len(message)} bytes is too short") from error
    payload = memoryview(message)[_WITH_LENGTH.size : _WITH_LENGTH.size + length]
    if len(payload) < length:
        raise Malformed(f"a message promises {length} bytes and has {len(payload)}")
    return Data(payload) if tag == _DATA else Connected(bytes(payload))


def encode_data(payload: bytes | memoryview) -> bytes:
    """A message with bytes for the VM, not more than ``DATA_BYTES``."""
    return b"".join((_WITH_LENGTH.pack(_DATA, len(payload)), payload))


def encode_ack(received: int) -> bytes:
    """A message that says how many bytes were received in all."""
    return _WITH_COUNT.pack(_ACK, received)


def endpoint_from(override: str) -> str:
    """Where the relay is; ``override`` is ``wss://host:port/v4``, or empty for Google's.

    Raises :class:`UsageError` (``bad_endpoint``): a token goes there, so nothing but wss will do.
    """
    try:
        parts = urlsplit(override or ENDPOINT)
        good = parts.scheme == "wss" and parts.hostname and parts.port != 0
        extra = parts.username or parts.password or parts.query or parts.fragment
    except ValueError:  # not a port
        good, extra = False, ""
    if not good or extra:
        raise UsageError(
            "The option iap_endpoint is not the address of a relay",
            hint="Correct REMOTE_RUNTIME_IAP_ENDPOINT, or iap_endpoint in the profile: wss://HOST:PORT/v4",
            code="bad_endpoint",
        )
    return f"wss://{parts.netloc}{parts.path.rstrip('/') or '/v4'}"


class Session:
    """Both byte streams of one session, over as many WebSockets as it takes.

    Call :meth:`begin` and ask for :meth:`url` for each WebSocket, and give every message that comes over it to
    :meth:`hear`.  Not more than ``limit`` bytes should be taken and not confirmed: see :attr:`room`.
    """

    def __init__(self, target: Target, *, limit: int = UNCONFIRMED_BYTES) -> None:
        self.is_open = False  # the relay has agreed to go on, over the present WebSocket
        self._target = target
        self._limit = limit
        self._sid = b""
        self._kept: deque[memoryview] = deque()  # taken and not confirmed
        self._kept_bytes = 0
        self._sent = 0  # so many of them went out over the present WebSocket
        self._confirmed = 0  # from here on all counts are of bytes since the beginning
        self._position = 0  # the next byte to send
        self._furthest = 0  # the first byte that was never sent
        self._received = 0
        self._delivered = 0
        self._acknowledged = 0

    @property
    def began(self) -> bool:
        """Whether the relay knows of the session, so that it can be taken up again."""
        return bool(self._sid)

    def begin(self) -> None:
        """A new WebSocket is about to be opened: what went over the last one may not have arrived."""
        self.is_open = False
        self._sent = 0

    def url(self, endpoint: str) -> str:
        """Where to open the next WebSocket; it also tells the relay what was received."""
        target = self._target
        query: dict[str, str | int | bytes] = {"newWebsocket": "True", "zone": target.zone}
        if self._sid:
            self._acknowledged = self._received
            return f"{endpoint}/reconnect?{urlencode({**query, 'sid': self._sid, 'ack': self._received})}"
        where = {"project": target.project, "instance": target.instance, "interface": target.interface}
        return f"{endpoint}/connect?{urlencode({**query, **where, 'port': target.port})}"

    # -- from the relay ------------------------------------------------------------------------------------------------

    def hear(self, message: bytes | bytearray | memoryview) -> memoryview | None:
        """Take note of a message; the bytes for this side, if it brought some.

        Raises :class:`Malformed`.
        """
        heard = decode(message)
        if heard is None:
            return None
        if isinstance(heard, (Connected, Reconnected)):
            self._open(heard)
            return None
        if not self.is_open:
            raise Malformed("the relay went on before it had agreed to")
        if isinstance(heard, Ack):
            self._confirm(heard.received, self._position)
            return None
        self._received += len(heard.payload)
        return heard.payload

    def _open(self, heard: Connected | Reconnected) -> None:
        if self.is_open or self.began == isinstance(heard, Connected):
            raise Malformed("the relay agreed twice, or to something else")
        if isinstance(heard, Connected):
            if not heard.sid:
                raise Malformed("the session has no name")
            self._sid = heard.sid
        else:
            self._confirm(heard.received, self._furthest)
            self._position = self._confirmed
        self.is_open = True

    def _confirm(self, total: int, at_most: int) -> None:
        """Let go of what the relay has."""
        if not self._confirmed <= total <= at_most:
            raise Malformed(f"the relay confirms {total} bytes, not {self._confirmed} to {at_most}")
        while self._confirmed < total:
            first = self._kept[0]
            count = min(len(first), total - self._confirmed)
            self._confirmed += count
            self._kept_bytes -= count
            if count < len(first):
                self._kept[0] = first[count:]
            else:
                self._kept.popleft()
                self._sent = max(0, self._sent - 1)

    # -- to the relay --------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes may be taken now."""
        return max(0, self._limit - self._kept_bytes)

    @property
    def unsent(self) -> bool:
        """Whether there is something to send."""
        return self._sent < len(self._kept)

    @property
    def unconfirmed(self) -> bool:
        """Whether something was sent that the relay has not confirmed."""
        return self._sent > 0

    def take(self, data: bytes) -> None:
        """Take bytes that are to go to the VM."""
        view = memoryview(data)
        self._kept.extend(view[start : start + DATA_BYTES] for start in range(0, len(data), DATA_BYTES))
        self._kept_bytes += len(data)

    def next_data(self) -> bytes | None:
        """The next message with data, which is then sent; None if there is none now."""
        if not (self.is_open and self.unsent):
            return None
        chunk = self._kept[self._sent]
        self._sent += 1
        self._position += len(chunk)
        self._furthest = max(self._furthest, self._position)
        return encode_data(chunk)

    def deliver(self, count: int) -> None:
        """So many of the bytes that were received have been handed on: only those are acknowledged."""
        self._delivered += count

    def next_ack(self, *, idle: bool = False) -> bytes | None:
        """The acknowledgement that is due, which is then sent; None if none is.

        ``idle``: nothing else has been going on for a while, so that even a little is worth one.
        """
        if not self.is_open or self._delivered - self._acknowledged <= (0 if idle else ACK_BYTES):
            return None
        self._acknowledged = self._delivered
        return encode_ack(self._delivered)

    @property
    def ack_owed(self) -> bool:
        """Whether there is something to acknowledge, be it ever so little."""
        return self.is_open and self._delivered > self._acknowledged
