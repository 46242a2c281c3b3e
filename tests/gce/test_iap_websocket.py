"""What a server may send over a WebSocket besides whole binary messages, however it is cut into pieces."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from remote_runtime._threads import Deadline
from remote_runtime.providers.gce.iap_failures import Ended
from remote_runtime.providers.gce.iap_frames import WHOLE_BINARY, bounds
from remote_runtime.providers.gce.iap_websocket import open_websocket
from tests.jupyter.packages import make_authority

SECONDS = 5.0
CUT = (0, "")


def frame(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def close(code: int) -> bytes:
    return frame(Opcode.CLOSE, struct.pack(">H", code) + b"why")


class Server:
    """Agrees to one WebSocket, sends ``pieces`` each in a record of its own, the first with its answer, and goes.

    Before that it waits for so many frames as ``hears`` says; ``heard`` are those.
    """

    def __init__(self, context: ssl.SSLContext, pieces: Sequence[bytes], hears: int) -> None:
        self.heard: list[Frame] = []
        self._hears = hears
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"wss://localhost:{self._listener.getsockname()[1]}/v4"
        self._thread = threading.Thread(target=self._serve, args=(context, pieces))
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self, context: ssl.SSLContext, pieces: Sequence[bytes]) -> None:
        with self._listener.accept()[0] as tcp, context.wrap_socket(tcp, server_side=True) as sock:
            sock.settimeout(SECONDS)
            protocol = ServerProtocol(subprotocols=[Subprotocol("relay.tunnel.cloudproxy.app")])
            while not (events := protocol.events_received()):
                protocol.receive_data(sock.recv(65536))
            assert isinstance(events[0], Request)
            protocol.send_response(protocol.accept(events[0]))
            first, *rest = pieces
            sock.sendall(b"".join(protocol.data_to_send()) + first)
            for piece in rest:
                sock.sendall(piece)
            while len(self.heard) < self._hears:
                protocol.receive_data(sock.recv(65536))
                self.heard += [event for event in protocol.events_received() if isinstance(event, Frame)]
            with suppress(OSError):  # the client has had enough
                sock.unwrap()


def said_by(
    pieces: Sequence[bytes], directory: Path, *, hears: int = 0
) -> tuple[list[bytes], Ended | None, list[Frame]]:
    """The messages that the client takes, how it ends for it, and the client's own frames."""
    _, context = make_authority(directory)
    server = Server(context, pieces, hears)
    try:
        deadline = Deadline(SECONDS)
        websocket = open_websocket(server.url, lambda: "token", deadline)
        messages: list[bytes] = []
        while not websocket.end:
            deadline.check("waiting for the end")
            messages += map(bytes, websocket.read())
            websocket.flush()
            if not websocket.end:
                websocket.wait(deadline)
        websocket.abandon()
    finally:
        server.join()
    return messages, websocket.end, server.heard


LONG = bytes(range(256)) * 300  # longer than two bytes can say


@pytest.mark.parametrize(
    ("frames", "messages", "end"),
    [
        ([frame(Opcode.BINARY, b"one"), frame(Opcode.BINARY, LONG[:200])], [b"one", LONG[:200]], CUT),
        ([frame(Opcode.BINARY, LONG), close(1001)], [LONG], (1001, "why")),
        ([frame(Opcode.BINARY, b"")], [b""], CUT),
        ([frame(Opcode.BINARY, b"a", fin=False), frame(Opcode.CONT, b"b"), frame(Opcode.BINARY, b"c")],
         [b"ab", b"c"], CUT),
        ([frame(Opcode.BINARY, b"a", fin=False), frame(Opcode.BINARY, b"b")], [], CUT),
        ([frame(Opcode.CONT, b"a")], [], CUT),
        ([frame(Opcode.BINARY, b"one"), frame(Opcode.TEXT, b"two")], [b"one"], (1003, "")),
        ([frame(Opcode.BINARY, b"a" * 200, mask=True)], [], CUT),
        ([frame(Opcode.BINARY, b"one"), b"\x82\x7f" + struct.pack(">Q", 1 << 40), b"more"], [b"one"], CUT),
        ([b"\xc2\x01a"], [], CUT),  # an extension that nobody agreed on
        ([close(4003), frame(Opcode.BINARY, b"late")], [], (4003, "why")),
    ],
)  # fmt: skip
def test_frames(
    frames: list[bytes], messages: list[bytes], end: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate-0.pem"))
    joined = b"".join(frames)
    cuts: list[Sequence[bytes]] = [[joined], [b"", joined], [joined[:1], joined[1:]]]
    cuts.append([joined[:3], *(bytes([byte]) for byte in joined[3:20]), joined[20:]])
    for pieces in cuts:
        taken, ended, _ = said_by(pieces, tmp_path)
        assert taken == messages
        assert ended is not None
        assert (ended.code, ended.reason) == end


def test_ping_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate-0.pem"))
    ping = frame(Opcode.PING, b"there?")
    taken, _, heard = said_by([ping, frame(Opcode.BINARY, b"one")], tmp_path, hears=1)
    assert taken == [b"one"]
    assert [(frame.opcode, bytes(frame.data)) for frame in heard] == [(Opcode.PONG, b"there?")]


@given(st.binary(max_size=70000), st.binary(max_size=5), st.data())
def test_bounds_are_those_of_the_librarys_frames(payload: bytes, before: bytes, data: st.DataObject) -> None:
    whole = before + frame(Opcode.BINARY, payload)
    seen = memoryview(whole[: data.draw(st.integers(len(before), len(whole)))])
    found = bounds(seen, len(before))
    if found is None:
        assert len(seen) < len(whole) - len(payload)
    else:
        assert found == (len(whole) - len(payload), len(whole))
        assert whole[len(before)] == WHOLE_BINARY
