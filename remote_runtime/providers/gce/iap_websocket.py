"""One WebSocket over TLS that never blocks once it is open.

Import this late: it brings its library with it.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Union
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from remote_runtime._threads import Deadline
from remote_runtime.errors import NetworkError
from remote_runtime.providers.gce import iap_tcp
from remote_runtime.providers.gce.iap_failures import Ended, untrusted
from remote_runtime.providers.gce.iap_frames import WHOLE_BINARY, bounds
from remote_runtime.providers.gce.iap_protocol import ORIGIN, SUBPROTOCOL, Malformed
from remote_runtime.providers.gce.iap_tls import Secured, wait
from remote_runtime.text import printable

Payload = Union[bytes, bytearray, memoryview]

MESSAGE_BYTES = 1 << 20
CLOSE_SECONDS = 1.0

_QUIET = logging.getLogger(f"{__name__}.library")
_QUIET.setLevel(logging.WARNING)  # whatever the application wants: the library logs headers, and with them the token


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
        self._rest = memoryview(b"")  # the beginning of a frame
        self._fragments: list[Payload] = []

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

    def read(self) -> list[Payload]:
        """The messages that have come.

        Nearly all frames are whole messages and taken as they are: the library would copy each several times.  What
        else comes is the library's to judge.
        """
        messages: list[Payload] = []
        if self.end:
            return messages
        data, start = self._line.read(self._rest), 0
        while not self.end and (found := bounds(data, start)):
            payload, end = found
            if end > len(data) and end - payload <= MESSAGE_BYTES:
                break
            if data[start] == WHOLE_BINARY and data[start + 1] < 0x80 and end <= len(data) and not self._fragments:
                messages.append(data[payload:end])
            else:
                messages += self._judged(data[start:end])
            start = end
        self._rest = data[start:]
        if self._line.ended:
            self._ended(Ended())
        return messages

    def agree(self, deadline: Deadline) -> None:
        """Wait until the server has agreed to speak.  Raises as :func:`open_websocket` does."""
        self._collect()
        while self._protocol.state is State.CONNECTING:
            deadline.check("waiting for IAP's relay")
            self.flush()
            self.wait(deadline)
            self._receive_agreement()
            if self._line.ended and self._protocol.state is State.CONNECTING:
                self._protocol.receive_eof()  # a refusal may last until then
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

    def _receive_agreement(self) -> None:
        """Hand the server's answer to the library, line by line, and nothing of what comes behind it."""
        data = bytes(self._line.read(self._rest))
        while data and self._protocol.state is State.CONNECTING:
            line, newline, data = data.partition(b"\n")
            self._protocol.receive_data(line + newline)
        self._rest = memoryview(data)

    def _judged(self, frame: memoryview) -> list[Payload]:
        """What the library makes of a frame: messages that are complete with it; it answers some itself."""
        self._protocol.receive_data(bytes(frame))
        messages = [self._message(event) for event in self._protocol.events_received() if isinstance(event, Frame)]
        self._collect()
        if self._protocol.parser_exc:
            self._ended(Ended())
        return [message for message in messages if message is not None]

    def _message(self, frame: Frame) -> Payload | None:
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
    :class:`NetworkError` (``certificate_untrusted``, ``tls_failed``), ``TimedOut``, what ``token`` raises, and what
    :func:`iap_tcp.tcp` does.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    tcp = iap_tcp.tcp(host, parts.port or 443, deadline)
    try:
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
        line = Secured(tcp, partial(ssl.create_default_context().wrap_bio, server_hostname=host))
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
