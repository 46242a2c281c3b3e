"""One WebSocket of the relay, from its handshake to its end."""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import ssl
import struct
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from remote_runtime.providers.gce.iap_watch import Watch

if TYPE_CHECKING:
    from tests.gce.cloud.relay import CutKind, Relay, Session

CONNECT = {"project", "port", "newWebsocket", "zone", "instance", "interface"}
RECONNECT = {"sid", "ack", "newWebsocket", "zone"}
DATA_BYTES = 16384
SID_UNKNOWN, SID_IN_USE, REAUTHENTICATE, BAD_ACK = 4001, 4002, 4004, 4005
IDLE_SECONDS = 0.2
BACKEND_BYTES = 256 << 10
PATIENCE_SECONDS = 5.0

_QUIET = logging.getLogger(__name__)
_QUIET.setLevel(logging.WARNING)


class Hangup(Exception):
    """This WebSocket is over."""


class Line:
    """``is_silent``: nobody serves it any more, and it must stay open."""

    def __init__(self, relay: Relay, sock: ssl.SSLSocket) -> None:
        self.is_silent = False
        self.cancelled = False
        self._relay = relay
        self._socket = sock
        self._protocol = ServerProtocol(subprotocols=[Subprotocol("relay.tunnel.cloudproxy.app")], logger=_QUIET)
        self._out = bytearray()
        self._acknowledged = 0

    def run(self) -> None:
        with suppress(Hangup, OSError):
            request = self._handshake()
            session = self._session(request)
            with self._relay.lock:
                session.line = self
            try:
                self._serve(session)
            finally:
                with self._relay.lock:
                    session.line = None
                    self._relay.lock.notify_all()

    def cancel(self) -> None:
        """Another WebSocket takes over."""
        self.cancelled = True
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of TLS, its own thread takes care

    # -- opening -------------------------------------------------------------------------------------------------------

    def _handshake(self) -> Request:
        """The request, which has been answered."""
        request = None
        while request is None:
            data = self._socket.recv(65536)
            if not data:
                raise Hangup
            self._protocol.receive_data(data)
            request = next((e for e in self._protocol.events_received() if isinstance(e, Request)), None)
        refusal = self._relay.refusals[0] if self._relay.refusals else 0
        if 0 < refusal < 1000:
            self._relay.refusals.popleft()
            self._reject(refusal)
        if request.headers.get("Origin") != "bot:iap-tunneler":
            self._relay.problems.append(f"origin {request.headers.get('Origin')}")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            self._reject(401)
        self._relay.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        return request

    def _reject(self, status: int) -> None:
        self._protocol.send_response(self._protocol.reject(status, "no\n"))
        self._flush_blocking()
        raise Hangup

    def _close(self, code: int, reason: str = "") -> None:
        self._collect()
        with suppress(OSError):
            self._protocol.send_close(code, reason)
            self._flush_blocking()
            while self._socket.recv(65536):  # until the client closes, so that nothing is reset
                pass
        raise Hangup

    def _session(self, request: Request) -> Session:
        parts = urlsplit(request.path)
        verb, query = parts.path.rpartition("/")[2], dict(parse_qsl(parts.query))
        self._relay.requests[verb] += 1
        if set(query) != (CONNECT if verb == "connect" else RECONNECT) or not parts.path.startswith("/v4/"):
            self._relay.problems.append(f"asked for {parts.path} with {sorted(query)}")
            self._reject(400)
        found = self._begin(query) if verb == "connect" else None
        if isinstance(found, int) and found < 1000:
            self._reject(found)
        self._protocol.send_response(self._protocol.accept(request))
        if self._protocol.state is not State.OPEN:
            self._relay.problems.append(f"no WebSocket: {self._protocol.handshake_exc}")
        self._flush_blocking()
        if self._relay.refusals:
            self._close(self._relay.refusals.popleft(), "as the test wants")
        if isinstance(found, int):
            self._close(found)
        if found is None:
            return self._resume(query)
        assert not isinstance(found, int)
        self._send(struct.pack(">HI", 1, len(found.sid)) + found.sid.encode())
        return found

    def _begin(self, query: dict[str, str]) -> Session | int:
        from tests.gce.cloud.relay import Session

        backend = self._relay.reach(query, self._relay.tokens[-1]) if not self._relay.refusals else 4000
        if isinstance(backend, int):
            return backend
        backend.setblocking(False)
        session = Session(secrets.token_urlsafe(12), backend)
        with self._relay.lock:
            self._relay.sessions[session.sid] = session
        return session

    def _resume(self, query: dict[str, str]) -> Session:
        session = self._relay.sessions.get(query["sid"])
        if session is None:
            self._close(SID_UNKNOWN)
        assert session is not None
        if self._relay.in_use:
            self._relay.in_use -= 1
            self._close(SID_IN_USE)
        with self._relay.lock:
            if session.line:
                session.line.cancel()
            self._relay.lock.wait_for(lambda: session.line is None, PATIENCE_SECONDS)
        ack = int(query["ack"])
        if not session.confirmed <= ack <= session.sent:
            self._relay.problems.append(f"resumed at {ack}, not {session.confirmed} to {session.sent}")
            self._close(BAD_ACK)
        self._confirm(session, ack)
        session.sent = session.confirmed
        self._acknowledged = session.received
        self._send(struct.pack(">HQ", 2, session.received))
        return session

    # -- serving -------------------------------------------------------------------------------------------------------

    def _serve(self, session: Session) -> None:
        self._socket.setblocking(False)
        with Watch() as watch:
            while not self.cancelled:
                self._speak(session)
                kind = self._relay.due_cut(session)
                if kind:
                    self._cut(kind, session)
                if session.ended and session.sent == session.confirmed + len(session.to_client) and not self._out:
                    self._socket.settimeout(PATIENCE_SECONDS)
                    self._close(1000)
                self._watch(watch, session)
                owes = session.received > self._acknowledged
                ready = watch.wait(IDLE_SECONDS if owes else 5.0)
                if not ready:
                    self._acknowledge(session, 0)
                if ready.get(self._socket, 0) & selectors.EVENT_READ or self._socket.pending():
                    self._hear(session)
                if session.backend in ready:
                    self._exchange(session)

    def _watch(self, watch: Watch, session: Session) -> None:
        has_room = sum(map(len, session.to_backend)) < BACKEND_BYTES
        reads = selectors.EVENT_READ if has_room else 0
        watch.events(self._socket, reads | (selectors.EVENT_WRITE if self._out else 0))
        full = len(session.to_client) >= self._relay.window or session.ended
        reads = 0 if full else selectors.EVENT_READ
        watch.events(session.backend, reads | (selectors.EVENT_WRITE if session.to_backend else 0))

    def _exchange(self, session: Session) -> None:
        """With the backend."""
        with suppress(BlockingIOError):
            while session.to_backend:
                try:
                    count = session.backend.send(session.to_backend[0])
                except (BrokenPipeError, ConnectionResetError):
                    session.to_backend.clear()
                    session.ended = True
                    break
                first = session.to_backend.popleft()
                if count < len(first):
                    session.to_backend.appendleft(first[count:])
        with suppress(BlockingIOError):
            while len(session.to_client) < self._relay.window and not session.ended:
                try:
                    data = session.backend.recv(65536)
                except ConnectionResetError:
                    data = b""
                session.to_client += data
                session.ended = not data

    def _speak(self, session: Session) -> None:
        """Send what there is to send."""
        self._acknowledge(session, 2 * DATA_BYTES)
        with memoryview(session.to_client) as view:
            while len(self._out) < 256 << 10:
                start = session.sent - session.confirmed
                chunk = view[start : start + DATA_BYTES]
                if not chunk:
                    break
                self._out += _frame_around(6 + len(chunk)) + struct.pack(">HI", 4, len(chunk))
                self._out += chunk
                session.sent += len(chunk)
        self._flush()

    def _acknowledge(self, session: Session, beyond: int) -> None:
        if self._relay.acknowledges and session.received - self._acknowledged > beyond:
            self._acknowledged = session.received
            self._send(struct.pack(">HQ", 7, session.received))

    def _hear(self, session: Session) -> None:
        for _ in range(16):
            if sum(map(len, session.to_backend)) >= BACKEND_BYTES:
                return
            try:
                data = self._socket.recv(65536)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise Hangup
            self._protocol.receive_data(data)
            self._collect()
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._frame(session, event)

    def _frame(self, session: Session, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            code = Close.parse(frame.data).code
            if code != 1000:
                self._relay.problems.append(f"the client closes with {code}")
            self._finish(session)
        if frame.opcode is not Opcode.BINARY or not frame.fin or len(frame.data) < 6:
            self._relay.problems.append(f"an unexpected frame {frame.opcode}")
            return
        message = memoryview(frame.data)
        (tag,) = struct.unpack_from(">H", message)
        if tag == 4:
            _, length = struct.unpack_from(">HI", message)
            if not 0 < length <= DATA_BYTES or len(message) != 6 + length:
                self._relay.problems.append(f"data of {length} in a message of {len(message)}")
            session.to_backend.append(message[6:])
            session.received += length
        elif tag == 7 and len(message) == 10:
            _, total = struct.unpack_from(">HQ", message)
            if not session.confirmed <= total <= session.sent:
                self._relay.problems.append(f"confirmed {total}, not {session.confirmed} to {session.sent}")
                self._close(BAD_ACK)
            self._confirm(session, total)
        else:
            self._relay.problems.append(f"a message with tag {tag} and {len(message)} bytes")

    def _finish(self, session: Session) -> None:
        """The client is gone: what it sent before still goes to the backend."""
        self._flush_blocking()
        session.backend.settimeout(PATIENCE_SECONDS)
        with suppress(OSError):
            while session.to_backend:
                session.backend.sendall(session.to_backend.popleft())
        with self._relay.lock:
            self._relay.sessions.pop(session.sid, None)
        session.backend.close()
        raise Hangup

    def _confirm(self, session: Session, total: int) -> None:
        del session.to_client[: total - session.confirmed]
        session.confirmed = total

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _cut(self, kind: CutKind, session: Session) -> None:
        if kind == "silence":
            self.is_silent = True
            raise Hangup
        if kind == "going_away":
            self._socket.settimeout(PATIENCE_SECONDS)
            self._close(1001)
        if kind == "reauthenticate":
            self._socket.settimeout(PATIENCE_SECONDS)
            self._close(REAUTHENTICATE)
        if kind.startswith("mid_frame"):
            data = bytes(session.to_client[:DATA_BYTES]).ljust(100, b"?")
            self._protocol.send_binary(struct.pack(">HI", 4, len(data)) + data)
            frame = b"".join(self._protocol.data_to_send())
            self._out += frame[: len(frame) // 2]
            self._flush_blocking()
        if kind in ("reset", "mid_frame_reset"):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif kind == "tls_end":
            with suppress(OSError):
                self._socket.unwrap()
        else:
            self._socket.shutdown(socket.SHUT_WR)
        raise Hangup

    # -- the socket ----------------------------------------------------------------------------------------------------

    def _send(self, message: bytes) -> None:
        self._protocol.send_binary(message)
        self._collect()

    def _collect(self) -> None:
        for data in self._protocol.data_to_send():
            self._out += data

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._out[:sent]

    def _flush_blocking(self) -> None:
        self._collect()
        self._socket.settimeout(PATIENCE_SECONDS)
        while self._out:
            del self._out[: self._socket.send(self._out)]


def _frame_around(size: int) -> bytes:
    """The head of a binary frame: the library's way would be what holds the client up."""
    return struct.pack(">BB", 0x82, size) if size < 126 else struct.pack(">BBH", 0x82, 126, size)
