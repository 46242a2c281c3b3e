"""A TCP socket that nobody waits for to write, and of which one thread reads.

What can't be sent at once waits in a queue, and the reading thread sends it as soon as there is room.  It has the few
methods of a socket that paramiko uses.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

BUFFER_BYTES = 512 << 10
UNSENT_BYTES = 128 << 10
"""So much unsent data the kernel may hold (where it has TCP_NOTSENT_LOWAT): the rest waits here, where the streams can
take turns.  With less, a path that loses packets would not be kept busy whenever this thread is late."""

PATIENCE_SECONDS = 0.5
"""How long a read waits before it says so; paramiko uses the pause to look at its timers."""

_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class Wire:
    """Owns ``sock`` from now on.

    ``on_turn`` is called by the reading thread whenever it has dealt with all that came, and after each :meth:`wake`.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if _NOTSENT_LOWAT is not None:
            with suppress(OSError):  # not a TCP socket
                sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)
        self.on_turn: Callable[[], None] = lambda: None
        self.closed = False
        self.queued = 0
        self.accepted = 0  # bytes to send, ever
        self.heard = time.monotonic()  # when something came last
        self._sock = sock
        self._lock = threading.Lock()
        self._queue: deque[memoryview] = deque()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._near, self._far = socket.socketpair()  # the reader sleeps on the near end
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(self._near, selectors.EVENT_READ)
        self._watches_room = False

    # -- any thread ----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Send ``data``, now or later, in the order of the calls.  Raises OSError if the connection is closed."""
        with self._lock:
            if self.closed:
                raise BrokenPipeError("closed")
            self.accepted += len(data)
            waiting = bool(self._queue)
            sent = 0 if waiting else self._try(memoryview(data))
            if sent < len(data):
                self._queue.append(memoryview(data)[sent:])
                self.queued += len(data) - sent
        if sent < len(data) and not waiting:
            self.wake()
        return len(data)

    def wake(self) -> None:
        """Have the reading thread look after what there is to do."""
        with suppress(OSError):  # it has been woken often enough, or is gone
            self._far.send(b".")

    def settimeout(self, seconds: float | None) -> None:
        """Take note of paramiko's wish, which is met already."""

    @property
    def _closed(self) -> bool:
        """Paramiko looks at this name of a socket's."""
        return self.closed

    def close(self) -> None:
        """Let the reading thread, and whoever sends, hear of an end."""
        with self._lock:
            self.closed = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.wake()

    def release(self) -> None:
        """Free everything; to be called when the reading thread reads no more."""
        self.close()
        self._selector.close()
        self._near.close()
        self._far.close()
        self._sock.close()
        self._queue.clear()
        self._buffer = bytearray()  # whoever still knows this wire shall not keep it
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    # -- the reading thread --------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes.  Raises TimeoutError if none came for a while, EOFError at the end."""
        if self._start == self._end and not self.fill():
            raise TimeoutError
        size = min(size, self._end - self._start)
        return bytes(self.take(size))

    def peek(self, size: int) -> memoryview | None:
        """The next ``size`` bytes, which stay; None if they have not come yet."""
        return self._view[self._start : self._start + size] if self._end - self._start >= size else None

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes, which have come; valid until the next read."""
        self._start += size
        return self._view[self._start - size : self._start]

    def fill(self, wanted: int = 1) -> bool:
        """Read what there is, and send what waits; whether something came.  Makes room for ``wanted`` bytes at once.

        Raises EOFError at the end, OSError if the connection broke.
        """
        self._make_room(wanted)
        self.on_turn()
        while True:
            self._send_queue()
            try:
                count = self._sock.recv_into(self._view[self._end :])
            except (BlockingIOError, InterruptedError):
                if not self._wait():
                    return False
                continue
            if not count:
                raise EOFError
            self._end += count
            self.heard = time.monotonic()
            return True

    def _wait(self) -> bool:
        """Until there is something to read or to send; False if nothing came in time."""
        ready = self._selector.select(PATIENCE_SECONDS)
        if self.closed:
            raise EOFError
        for key, _ in ready:
            if key.fileobj is self._near:
                with suppress(BlockingIOError):
                    self._near.recv(4096)
                self.on_turn()
        return bool(ready)

    def _make_room(self, wanted: int) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._buffer) - self._start < wanted or self._end == len(self._buffer):
            size = max(wanted, BUFFER_BYTES)
            rest = bytes(self._view[self._start : self._end])
            if size > len(self._buffer):
                self._buffer = bytearray(size)
                self._view = memoryview(self._buffer)
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _send_queue(self) -> None:
        with self._lock:
            waited = bool(self._queue)
            while self._queue:
                first = self._queue[0]
                sent = self._try(first)
                self.queued -= sent
                if sent < len(first):
                    self._queue[0] = first[sent:]
                    break
                self._queue.popleft()
            watch = bool(self._queue)
        if watch != self._watches_room:
            self._watches_room = watch
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if watch else 0)
            self._selector.modify(self._sock, events)
        if waited and not watch:
            self.on_turn()

    def _try(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
