"""TLS on a socket that never blocks once it is open."""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable
from typing import cast

from remote_runtime._threads import SLICE_SECONDS, Deadline
from remote_runtime.providers.gce.iap_watch import HasFileno

READ_BYTES = 256 << 10
"""How much is read before others get their turn."""

RECORD_BYTES = 17 << 10
"""What a record of TLS takes at most."""


class Secured:
    """A non-blocking socket with TLS on it, where reading and writing never wait for each other.

    ``wrap`` is a context's ``wrap_bio`` with what it wants besides.  ``ended``: nothing more will come.
    """

    def __init__(self, tcp: socket.socket, wrap: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject]) -> None:
        self.ended = False
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = wrap(self._incoming, self._outgoing)
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

    def read(self, before: memoryview) -> memoryview:
        """What has come, behind the bytes ``before``; :attr:`ended` says whether it is the last."""
        size, data = len(before), before
        try:
            self._fill()
            # One record may lie in the library besides, as far as it had come.
            data = memoryview(bytearray(size + self._incoming.pending + RECORD_BYTES))
            data[:size] = before
            while not self.ended:
                count = cast(int, self._tls.read(len(data) - size, data[size:]))  # with a buffer it is a number
                size += count
                self.ended = not count
        except ssl.SSLWantReadError:
            pass
        except OSError:
            self.ended = True
        # Whoever keeps a little of it must not keep a large buffer with it.
        return data[:size] if 2 * size > len(data) else memoryview(bytes(data[:size]))

    def _fill(self) -> None:
        """Raises :class:`OSError` if the line was cut."""
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


def wait(source: HasFileno, deadline: Deadline, *, write: bool) -> None:
    """Until there is something to read (or room to write), or for a moment."""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0))
        selector.select(deadline.bounded(SLICE_SECONDS))
