"""The far side of the benchmark of IAP: a relay, and the VM behind it, that cost less than any client of theirs.

What it gives is framed once, beforehand; of what it takes, it looks at the heads of the frames alone, whose tags and
lengths must be right.  It keeps no session for another WebSocket: the relay of the tests does, and is not as quick.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from remote_runtime._threads import Deadline
from remote_runtime.providers.gce.iap_tls import Secured
from tests.jupyter.packages import make_authority

MIB = 1 << 20
DATA_BYTES = 16384
BATCH = 16
WINDOW_BYTES = 4 * MIB
"""So much is sent and not confirmed at most."""

ACK_BYTES = 4 * DATA_BYTES
PATIENCE_SECONDS = 60.0
HELLO, DONE = b"\n", b"."
_CONNECTED, _DATA, _ACK = 1, 4, 7


class Over(Exception):
    """The client has closed, or the line is gone."""


def main() -> None:
    """Serve until standard input ends: a directory for the certificate, and MiB each way, are the arguments."""
    certificate, context = make_authority(Path(sys.argv[1]))
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(f"wss://localhost:{listener.getsockname()[1]}/v4", certificate, flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = Secured(sock, partial(context.wrap_bio, server_side=True))
            threading.Thread(target=serve, args=(line, int(sys.argv[2]) * MIB), daemon=True).start()


def serve(line: Secured, size: int) -> None:
    """One WebSocket."""
    with suppress(Over, OSError):
        line.handshake(Deadline(PATIENCE_SECONDS), "agreeing on encryption")
        Relay(line, size).run()
    line.close()


class Relay:
    """Says that the tunnel is open, takes or gives bytes as the VM's name says, and says when all have come."""

    def __init__(self, line: Secured, size: int) -> None:
        self._line = line
        self._size = size
        self._batch = b"".join(framed(_DATA, os.urandom(DATA_BYTES)) for _ in range(BATCH))
        self._given = self._confirmed = 0
        self._taken = self._acknowledged = 0
        self._head = memoryview(b"")  # the beginning of one
        self._left = 0  # of a frame whose head has been read

    def run(self) -> None:
        """Raises :class:`Over` when the client closes."""
        name = self._open()
        self._say(HELLO)
        if name == "download":
            self._take(len(HELLO))
        to_give = self._size if name != "upload" else 0
        while to_give or (name != "download" and self._taken < self._size):
            while to_give and self._given - self._confirmed < WINDOW_BYTES and not self._line.has_unsent:
                self._line.write(self._batch)
                self._line.flush()
                self._given += BATCH * DATA_BYTES
                to_give -= BATCH * DATA_BYTES
            self._hear()
        self._say(DONE)
        while True:
            self._hear()

    def _open(self) -> str:
        """Agree on a WebSocket and a session; the name of the VM."""
        protocol = ServerProtocol(subprotocols=[Subprotocol("relay.tunnel.cloudproxy.app")])
        while not (events := protocol.events_received()):
            protocol.receive_data(bytes(self._read()))
        request = events[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        for data in protocol.data_to_send():
            self._line.write(data)
        self._line.write(framed(_CONNECTED, b"session"))
        return dict(parse_qsl(urlsplit(request.path).query))["instance"]

    def _say(self, data: bytes) -> None:
        self._line.write(framed(_DATA, data))
        self._given += len(data)

    def _take(self, total: int) -> None:
        while self._taken < total:
            self._hear()

    def _hear(self) -> None:
        """Wait for something, and acknowledge what came."""
        self._look(self._read())
        if self._taken - self._acknowledged > ACK_BYTES:
            self._acknowledged = self._taken
            self._line.write(struct.pack(">BBHQ", 0x82, 10, _ACK, self._taken))
            self._line.flush()

    def _read(self) -> memoryview:
        self._line.flush()
        data = self._line.read(self._head)  # it may have come while the keys were agreed on
        if len(data) == len(self._head):
            writes = [self._line] if self._line.has_unsent else []
            select.select([self._line], writes, [], PATIENCE_SECONDS)
            data = self._line.read(self._head)
        if self._line.ended:
            raise Over
        return data

    def _look(self, data: memoryview) -> None:
        """Pass over frames; the beginning of a head is kept until the rest has come."""
        while self._left < len(data):
            data = data[self._left :]
            self._left, size = 0, head_size(data)
            if size > len(data):
                self._head = data
                return
            self._left = self._message(data[:size]) + size
        self._left -= len(data)
        self._head = memoryview(b"")

    def _message(self, head: memoryview) -> int:
        """Take note of a message; how many bytes of it follow its head."""
        kind, short = head[0], head[1] & 0x7F
        if kind == 0x88:
            raise Over
        length = int.from_bytes(head[2:4], "big") if short == 126 else short
        start = 4 if short == 126 else 2
        mask = head[start : start + 4]
        begins = bytes(byte ^ mask[place & 3] for place, byte in enumerate(head[start + 4 :]))
        tag, count = struct.unpack_from(">HI", begins)
        if (kind, tag, count) == (0x82, _DATA, length - 6):
            self._taken += count
        elif (kind, tag, length) == (0x82, _ACK, 10):
            (self._confirmed,) = struct.unpack_from(">Q", begins, 2)
        else:
            raise AssertionError(f"a frame {kind:#x} of {length} bytes with tag {tag}")
        return length - len(begins)


def head_size(data: memoryview) -> int:
    """Of the frame at the beginning of ``data``: what stands before its payload, and the first bytes of that."""
    if len(data) < 2:
        return 2
    length = data[1] & 0x7F
    assert data[1] & 0x80 and length < 127, "no masked frame of a client"
    return 8 + 10 if length == 126 else 6 + min(length, 10)


def framed(tag: int, payload: bytes) -> bytes:
    """A frame with a message that begins with its length."""
    size = 6 + len(payload)
    head = struct.pack(">BB", 0x82, size) if size < 126 else struct.pack(">BBH", 0x82, 126, size)
    return head + struct.pack(">HI", tag, len(payload)) + payload


if __name__ == "__main__":
    main()
