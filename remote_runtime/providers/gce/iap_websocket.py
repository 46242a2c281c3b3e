"""One WebSocket over TLS that never blocks once it is open.

Import this late: it brings its library with it.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from remote_runtime._threads import SLICE_SECONDS, Deadline
from remote_runtime.errors import NetworkError
from remote_runtime.providers.gce.iap_failures import Ended, untrusted
from remote_runtime.providers.gce.iap_protocol import ORIGIN, SUBPROTOCOL, Malformed
from remote_runtime.ssh import dial
from remote_runtime.text import printable

READ_BYTES = 256 << 10
"""How much is read before others get their turn."""

PLAIN_BYTES = 16 << 10
"""What a record of TLS holds at most."""

MESSAGE_BYTES = 1 << 20
CLOSE_SECONDS = 1.0

_QUIET = logging.getLogger(f"{__name__}.library")
_QUIET.setLevel(logging.WARNING)  # whatever the application wants: the library logs headers, and with them the token


class Secured:
    """A socket with TLS on it, where reading and writing never wait for each other."""

    def __init__(self, tcp: socket.socket, host: str) -> None:
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = ssl.create_default_context().wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._front = memoryview(b"")

    def fileno(self) -> int:
        """For selectors."""
        return self._tcp.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for room on the line."""
        return bool(self._front or self._outgoing.pending)

    def handshake(self, deadline: Deadline, doing: str) -> None:
        """Agree on keys.  Raises :class:`OSError` (:class:`ssl.SSLError` among them) and ``TimedOut``."""
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                pass
            finally:
                self.flush()  # in case of an error too: an alert tells the server why
            deadline.check(doing)
            wait(self, deadline, write=self.has_unsent)
            self._fill()

    def write(self, data: bytes) -> None:
        """Encrypt it; :meth:`flush` sends it."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]

    def flush(self) -> None:
        """Send what there is room for."""
        while self.has_unsent:
            self._front = self._front or memoryview(self._outgoing.read())
            try:
                sent = self._tcp.send(self._front)
            except (BlockingIOError, InterruptedError):
                return
            self._front = self._front[sent:]

    def read(self) -> list[bytes]:
        """What has come, in pieces; an empty one is the end."""
        self._fill()
        pieces: list[bytes] = []
        with suppress(ssl.SSLWantReadError):
            while not pieces or pieces[-1]:
                pieces.append(self._tls.read(PLAIN_BYTES))
        return pieces

    def _fill(self) -> None:
        try:
            count = self._tcp.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        if count:
            self._incoming.write(self._buffer[:count])
        else:
            self._incoming.write_eof()

    def close(self) -> None:
        """Free it."""
        self._tcp.close()


class WebSocket:
    """Made by :func:`open_websocket`; for one thread.

    ``end`` says how it ended, as soon as that is known.  ``queued``: so many bytes wait to be encrypted.
    """

    def __init__(self, line: Secured, protocol: ClientProtocol) -> None:
        self.end: Ended | None = None
        self.queued = 0
        self._line = line
        self._protocol = protocol
        self._queue: list[bytes] = []
        self._fragments: list[bytes | bytearray | memoryview] = []

    def fileno(self) -> int:
        """For selectors."""
        return self._line.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether it waits for room on the line."""
        return bool(self.queued or self._line.has_unsent)

    def send(self, message: bytes) -> None:
        """Queue a message; :meth:`flush` sends it."""
        if not self.end:
            self._protocol.send_binary(message)
            self._collect()

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            self._line.flush()
            while self.queued and not self._line.has_unsent:
                self._line.write(b"".join(self._queue))
                self._queue.clear()
                self.queued = 0
                self._line.flush()
        except OSError:
            self._ended(Ended())

    def read(self) -> list[bytes | bytearray | memoryview]:
        """The messages that have come."""
        self._receive()
        messages = []
        for event in self._protocol.events_received():
            message = self._message(event) if isinstance(event, Frame) else None
            if message is not None:
                messages.append(message)
        return messages

    def agree(self, deadline: Deadline) -> None:
        """Wait until the server has agreed to speak.  Raises as :func:`open_websocket` does."""
        self._collect()
        while self._protocol.state is State.CONNECTING:
            deadline.check("waiting for IAP's relay")
            self.flush()
            self.wait(deadline)
            self._receive()
            if self.end:
                self._protocol.receive_eof()  # an answer may last until then
            if self._protocol.handshake_exc:
                raise self._refusal(self._protocol.handshake_exc)

    def wait(self, deadline: Deadline) -> None:
        """Until something has come, or there is room for what is queued, or for a moment."""
        wait(self, deadline, write=self.wants_write)

    def close(self, code: int, deadline: Deadline) -> None:
        """Say good-bye, wait for the answer (it shows that all that was sent has been received) and free everything."""
        patience = deadline.sooner(CLOSE_SECONDS)
        if not self.end:
            self._protocol.send_close(code)
            self._collect()
        while not self.end and not patience.expired:
            self.flush()
            self.wait(patience)
            self.read()
        self.abandon()

    def abandon(self) -> None:
        """Free everything at once."""
        self._line.close()

    def _receive(self) -> None:
        if self.end:
            return
        try:
            pieces = self._line.read()
        except OSError:
            pieces = [b""]
        for piece in pieces:
            if not piece:
                self._ended(Ended())
                return
            self._protocol.receive_data(piece)
        self._collect()
        if self._protocol.parser_exc:
            self._ended(Ended())

    def _message(self, frame: Frame) -> bytes | bytearray | memoryview | None:
        """The message that a frame completes, if it does."""
        if frame.opcode is Opcode.CLOSE:
            said = Close.parse(frame.data)
            self._ended(Ended(code=said.code, reason=said.reason))
        elif frame.opcode is Opcode.TEXT:
            self._ended(Ended(code=1003))
        elif frame.opcode in (Opcode.BINARY, Opcode.CONT):
            if frame.fin and not self._fragments:
                return frame.data
            self._fragments.append(frame.data)
            if frame.fin:
                message = b"".join(self._fragments)
                self._fragments = []
                return message
        return None

    def _refusal(self, error: Exception) -> Exception:
        """What the server said instead of agreeing."""
        answers = [event for event in self._protocol.events_received() if isinstance(event, Response)]
        if answers and answers[0].status_code != 101:
            return Ended(status=answers[0].status_code)
        return Ended() if isinstance(error.__cause__, EOFError) else Malformed("that is no WebSocket")

    def _ended(self, end: Ended) -> None:
        self.end = self.end or end

    def _collect(self) -> None:
        """Queue what the library has to send."""
        written = self._protocol.data_to_send()
        self._queue += written
        self.queued += sum(map(len, written))


def open_websocket(url: str, token: Callable[[], str], deadline: Deadline) -> WebSocket:
    """Open a WebSocket to ``url``; ``token`` is asked for an access token once the server has proved who it is.

    Raises :class:`Ended` if the server does not agree, :class:`Malformed` if it is no such server,
    :class:`NetworkError` (``unknown_host``, ``connection_refused``, ``unreachable``, ``certificate_untrusted``,
    ``tls_failed``), ``TimedOut``, and what ``token`` raises.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    tcp = dial.tcp(host, parts.port or 443, deadline)
    try:
        tcp.setblocking(False)
        line = _secured(tcp, host, deadline)
        protocol = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_BYTES, logger=_QUIET
        )
        request = protocol.connect()
        request.headers["Origin"] = ORIGIN
        request.headers["User-Agent"] = f"remote-runtime/{version('remote-runtime')}"
        request.headers["Authorization"] = f"Bearer {token()}"
        protocol.send_request(request)
        websocket = WebSocket(line, protocol)
        websocket.agree(deadline)
        return websocket
    except BaseException:
        tcp.close()
        raise


def _secured(tcp: socket.socket, host: str, deadline: Deadline) -> Secured:
    """TLS on it, after the server has shown a certificate for ``host``."""
    try:
        line = Secured(tcp, host)
        line.handshake(deadline, f"agreeing on encryption with {host}")
        return line
    except ssl.SSLCertVerificationError as error:
        raise untrusted(host, error.verify_message) from error
    except OSError as error:
        raise NetworkError(
            f"No encrypted connection to {host}: {printable(str(error.strerror or error))}",
            hint="Does something on the way stop it: a proxy, a page to log in to the network?",
            code="tls_failed",
        ) from error


def wait(source: Secured | WebSocket, deadline: Deadline, *, write: bool) -> None:
    """Until there is something to read (or room to write), or for a moment."""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0))
        selector.select(deadline.bounded(SLICE_SECONDS))
