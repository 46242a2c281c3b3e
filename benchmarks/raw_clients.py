"""Clients that read answers as fast as a socket gives them, so that what is measured is the server.

They look at no more than they must: where an answer ends, and which request it belongs to.  A usual client takes the
JSON and the base64 apart, and would be ten times slower than the server that it measures.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

SECONDS = 120.0
"""How long a client waits for the next bytes at most."""

_HEAD_END = b"\r\n\r\n"
_TAIL_BYTES = 4096

AnyClient = TypeVar("AnyClient", bound="Client")


class Broken(Exception):
    """The server did not answer as it should."""


@dataclass
class Buffer:
    """What has come from a socket and was not used yet, in one piece of memory."""

    sock: socket.socket
    memory: bytearray = field(default_factory=lambda: bytearray(1 << 20))
    start: int = 0
    end: int = 0

    def more(self) -> None:
        """Read what there is; at least one byte."""
        if self.start == self.end:
            self.start = self.end = 0  # what is in the processor's cache already
        elif self.end == len(self.memory):
            self.memory[: self.end - self.start] = self.memory[self.start : self.end]
            self.start, self.end = 0, self.end - self.start
        count = self.sock.recv_into(memoryview(self.memory)[self.end :])
        if not count:
            raise Broken("the server closed the connection")
        self.end += count

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, good until the next call."""
        if count > len(self.memory):
            raise Broken(f"{count} bytes in one piece")
        while self.end - self.start < count:
            self.more()
        self.start += count
        return memoryview(self.memory)[self.start - count : self.start]

    def drop(self, count: int) -> None:
        """Pass over the next ``count`` bytes, however many."""
        while count:
            if self.start == self.end:
                self.more()
            now = min(count, self.end - self.start)
            self.start += now
            count -= now

    def until(self, mark: bytes) -> bytes:
        """All up to and with ``mark``."""
        while (at := self.memory.find(mark, self.start, self.end)) < 0:
            self.more()
        return bytes(self.take(at + len(mark) - self.start))


class Client:
    """A connection, until the end of the block."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = Buffer(self.sock)

    def __enter__(self: AnyClient) -> AnyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Direct(Client):
    """A kept connection for plain HTTP requests."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port)
        self._head = f"Host: localhost:{port}\r\nAuthorization: token {token}\r\n\r\n"

    def send(self, path: str) -> None:
        """Ask for ``path``."""
        self.sock.sendall(f"GET {path} HTTP/1.1\r\n{self._head}".encode())

    def receive(self) -> int:
        """Wait for the whole answer; the size of its body.  Raises :class:`Broken` unless its status is 200."""
        head = self._buffer.until(_HEAD_END).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise Broken(head.decode("latin-1"))
        if b"\r\ntransfer-encoding: chunked" in head:
            return sum(self._chunks())
        _, _, length = head.partition(b"\r\ncontent-length:")
        size = int(length.partition(b"\r\n")[0])
        self._buffer.drop(size)
        return size

    def get(self, path: str) -> int:
        """Ask for ``path`` and wait for the answer."""
        self.send(path)
        return self.receive()

    def _chunks(self) -> Iterator[int]:
        while size := int(self._buffer.until(b"\r\n"), 16):
            self._buffer.drop(size + 2)
            yield size
        self._buffer.drop(2)


class Carried(Client):
    """A WebSocket that carries requests."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port)
        auth = f"http%3A%2F%2Flocalhost%3A{port}%2F%3Ftoken%3D{token}"
        path = f"/http_over_websocket?min_version=0.0.7&jupyter_http_over_ws_auth_url={auth}"
        handshake(self.sock, self._buffer, port, path)

    def send(self, path: str, message_id: int = 0) -> None:
        """Ask for ``path``."""
        self.sock.sendall(text_frame(f'{{"message_id": {message_id}, "method": "GET", "path": "{path}"}}'))

    def get(self, path: str) -> int:
        """Ask for ``path`` and wait for the answer."""
        self.send(path)
        return self.receive()

    def receive_small(self) -> int:
        """Wait for the next answer, which must fit into one frame; the id of its request."""
        frame = json.loads(bytes(self._frame()))
        if frame["status"] != 200 or not frame["done"]:
            raise Broken(str(frame)[:500])
        return int(frame["message_id"])

    def receive(self) -> int:
        """Wait for the whole answer to the only request; how many bytes its frames had."""
        size = 0
        while True:
            frame = self._frame()
            # In a first frame the headers come after the data, too.
            tail = bytes(frame[-_TAIL_BYTES:])
            if not size and b'"status": 200' not in tail:
                raise Broken(tail[-500:].decode("latin-1"))
            size += len(frame)
            if b'"done": true' in tail:
                return size

    def _frame(self) -> memoryview:
        opcode, length = self._buffer.take(2)
        if opcode != 0x81:
            raise Broken(f"a frame that begins with {opcode:#x}")
        if length == 126:
            (length,) = struct.unpack("!H", self._buffer.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._buffer.take(8))
        return self._buffer.take(length)


def handshake(sock: socket.socket, buffer: Buffer, port: int, path: str) -> None:
    """Open a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()
    )
    head = buffer.until(_HEAD_END)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise Broken(head.decode("latin-1"))


def text_frame(text: str) -> bytes:
    """A client's frame.  The mask is all zeroes, which is as good as any here, and costs nothing."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
    return b"\x81" + length + bytes(4) + data


def direct_in_flight(port: int, token: str, path: str, *, total: int, width: int) -> list[float]:
    """Ask for ``path`` that often, ``width`` at once; how long each request took, in seconds."""
    took: list[float] = []
    began: dict[Direct, float] = {}
    asked = 0
    with selectors.DefaultSelector() as selector, ExitStack() as opened:
        waiting = [opened.enter_context(Direct(port, token)) for _ in range(width)]
        for client in waiting:
            selector.register(client.sock, selectors.EVENT_READ, client)
        while len(took) < total:
            for client in waiting[: total - asked]:
                began[client] = time.perf_counter()
                client.send(path)
                asked += 1
            waiting = [key.data for key, _ in selector.select(SECONDS)]
            if not waiting:
                raise Broken(f"no answer in {SECONDS:g} s")
            for client in waiting:
                client.receive()
                took.append(time.perf_counter() - began[client])
    return took


def carried_in_flight(port: int, token: str, path: str, *, total: int, width: int) -> list[float]:
    """The same, over one WebSocket."""
    took: list[float] = []
    began: list[float] = []
    with Carried(port, token) as client:
        while len(took) < total:
            while len(began) < min(total, len(took) + width):
                began.append(time.perf_counter())
                client.send(path, len(began) - 1)
            answered = client.receive_small()
            took.append(time.perf_counter() - began[answered])
    return took
