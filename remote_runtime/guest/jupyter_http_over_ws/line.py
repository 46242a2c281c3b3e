"""Where the answers on one socket take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Optional, Tuple

from tornado.iostream import StreamClosedError

MOST_IN_A_ROW = 32
"""How many frames are sent before the rest of the server has its turn, even to a page that takes all there is."""

Make = Callable[[], bytes]
"""Makes a frame."""


class Line:
    """Sends frames one after the other, as fast as the page takes them.

    A frame is made when its turn comes: so what waits takes no more memory than the data itself.
    """

    def __init__(self, write: Callable[[bytes], asyncio.Future[None]]) -> None:
        """``write`` sends a frame: its future is done when there is room for more.

        When it fails with :class:`StreamClosedError`, all that waits does so until :meth:`close`.
        """
        self.busy = False
        """Whether the next frame would have to wait."""
        self.sent = 0
        """How many frames the page's end has taken."""
        self._write = write
        self._loop = asyncio.get_event_loop()
        self._waiting: Deque[Tuple[Optional[Make], asyncio.Future[None]]] = deque()
        self._in_a_row = 0
        self._closed = False

    def send(self, make: Make) -> Optional[asyncio.Future[None]]:
        """Send the frame that ``make`` makes in its turn; None if it is sent, else a future that is done when it is.

        The future fails with :class:`StreamClosedError` when the page is gone.
        """
        return self._queue(make) if self.busy else self._send(make)

    async def free(self) -> None:
        """Wait until all that waits now is sent.  Raises :class:`StreamClosedError` when the page is gone."""
        if self.busy:
            await self._queue(None)

    def close(self) -> None:
        """Nobody reads any longer."""
        self.busy = self._closed = True
        while self._waiting:
            fail(self._waiting.popleft()[1])

    def _queue(self, make: Optional[Make]) -> asyncio.Future[None]:
        turn: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            fail(turn)
        else:
            self._waiting.append((make, turn))
        return turn

    def _send(self, make: Make) -> Optional[asyncio.Future[None]]:
        try:
            sent = self._write(make())
        except StreamClosedError:
            self.busy = True
            return self._queue(None)
        if not sent.done():
            self.busy = True
            sent.add_done_callback(self._next)
            return sent
        self.sent += 1
        self._in_a_row += 1
        if self._in_a_row == MOST_IN_A_ROW:
            self.busy = True
            self._loop.call_soon(self._next, None)
        return None

    def _next(self, sent: Optional[asyncio.Future[None]]) -> None:
        if self._closed or (sent is not None and sent.exception() is not None):
            return
        self.sent += sent is not None
        self._in_a_row = 0
        self.busy = False
        while self._waiting and not self.busy:
            make, turn = self._waiting.popleft()
            sent = make and self._send(make)
            if sent is None:
                succeed(turn)
            else:
                sent.add_done_callback(partial(_pass_on, turn))


def succeed(future: asyncio.Future[None]) -> None:
    """Tell who waits, unless it was cancelled meanwhile."""
    if not future.done():
        future.set_result(None)


def fail(future: asyncio.Future[Any]) -> None:
    """Tell who waits that the page is gone."""
    if not future.done():
        future.set_exception(StreamClosedError())
        future.exception()  # or asyncio complains that nobody looked, which is a handler's good right


def _pass_on(turn: asyncio.Future[None], sent: asyncio.Future[None]) -> None:
    if sent.exception() is None:
        succeed(turn)
    else:
        fail(turn)
