"""What a handler writes to answer one request, on its way to the page.

The handler is given a connection that is none: its answer is cut to pieces, and each piece becomes a frame.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import Any, Callable, Deque, Optional, Tuple

from tornado.httputil import HTTPConnection, HTTPHeaders, ResponseStartLine
from tornado.iostream import StreamClosedError

from . import codec
from .line import Line, Make, fail, succeed

HOLD_SECONDS = 0.05
"""How long data is held back for the next data or the end to come, so that the last data and the end are one frame."""

Target = Tuple[str, str]
"""The method and the path of the request to run instead, after a redirect."""


class Exchange(HTTPConnection):
    """The connection on which a handler answers one request.

    One piece is held back, as the frame of the last one says that it is the last; but not for long, so that what a slow
    handler writes is there at once: then the end is a frame of its own, without data.  The piece before that one may
    wait in the line, and the handler that awaits its ``flush()`` waits with it: there are no more of them in memory,
    unless a handler does not wait or writes them as a whole.

    An answer that ends before it is as long as it said gets no last frame: a part must not be taken for the whole.

    Nothing here is a task: what need not wait is sent within the handler's own call.
    """

    def __init__(
        self,
        message_id: str,
        line: Line,
        *,
        method: str,
        remote_ip: str,
        protocol: str,
        redirect: Callable[[ResponseStartLine, HTTPHeaders], Optional[Target]],
        over: Callable[[Optional[Target]], None],
        broken: Callable[[bool], None],
    ) -> None:
        """Answer ``message_id``, a request by ``method``, through ``line``.

        ``redirect`` says whether an answer is to be dropped and followed, ``over`` is called once: with where to, or
        with None when the answer is sent or nobody is left to read it.  ``broken`` is called if the answer is shorter
        than announced, with whether the page has a part of it already; if it has none, it gets a 500 instead.
        """
        self.context = SimpleNamespace(remote_ip=remote_ip, protocol=protocol)
        self.finished = False
        self._line = line
        self._redirect = redirect
        self._over: Optional[Callable[[Optional[Target]], None]] = over
        self._broken = broken
        self._bodiless = method == "HEAD"
        self._announced = 0
        self._written = 0
        self._loop = asyncio.get_event_loop()
        self._on_close: Optional[Callable[[], None]] = None
        self._closed = False
        self._target: Optional[Target] = None
        self._message_id = message_id
        self._later = self._make = partial(codec.next_frame, message_id)  # the frames after the next, and the next
        self._pieces: Deque[Tuple[Any, Optional[asyncio.Future[None]]]] = deque()  # with who waits for them
        self._held: Any = b""
        self._held_since = 0.0
        self._alarm: Optional[asyncio.TimerHandle] = None
        self._waits = True  # for the head at first, for the line later
        self._waiting: Optional[asyncio.Future[None]] = None  # the handler, for what waits in the line
        self._ended = False  # the last frame is made

    # -- what a handler calls

    def set_close_callback(self, callback: Optional[Callable[[], None]]) -> None:
        """Remember whom to tell when the page is gone."""
        self._on_close = callback

    def set_max_body_size(self, max_body_size: int) -> None:
        """Accept the call of a handler that streams its body; the body is here already."""

    def set_body_timeout(self, timeout: float) -> None:
        """Accept the call of a handler that streams its body; the body is here already."""

    def write_headers(
        self, start_line: Any, headers: HTTPHeaders, chunk: Optional[bytes] = None
    ) -> asyncio.Future[None]:
        """Take the status and the headers, and maybe the first data."""
        self._target = self._redirect(start_line, headers)
        if start_line.code >= 500:  # to be looked at as a whole, if it is written at once
            self._loop.call_soon(self._begin, start_line, headers)
        else:
            self._begin(start_line, headers)
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Take more data; the future is done when all of it but what is held back is sent."""
        sent: asyncio.Future[None] = self._loop.create_future()
        if self._closed:
            fail(sent)
        elif not chunk or self._target is not None:
            sent.set_result(None)
        else:
            self._written += len(chunk)
            *before, last = codec.pieces(bytes(chunk))
            self._pieces.extend((piece, None) for piece in before)
            self._pieces.append((last, sent))
            self._pump()
        return sent

    def finish(self) -> None:
        """Take note that no more data will come."""
        self.finished = True
        if self._closed:
            return
        if self._target is not None:
            self._close(self._target)
        else:
            self._pump()

    def detach(self) -> Any:
        """Refuse: there is no stream that a handler could take over."""
        raise StreamClosedError

    # -- what the socket calls

    def abort(self) -> None:
        """Tell the handler that the page is gone, and let nobody wait any longer."""
        if self._closed:
            return
        callback, self._on_close = self._on_close, None
        for sent in (self._waiting, *(sent for _, sent in self._pieces)):
            if sent is not None:
                fail(sent)
        self._pieces.clear()
        self._close(None)
        if callback is not None:
            callback()

    # -- the way to the line

    def _begin(self, start_line: ResponseStartLine, headers: HTTPHeaders) -> None:
        if start_line.code >= 500 and self.finished:
            self._clean(headers)
        if not self._bodiless and start_line.code not in (204, 304):
            self._announced = codec.announced(headers.get("Content-Length"))
        self._make = partial(
            codec.first_frame,
            self._message_id,
            status=start_line.code,
            reason=start_line.reason,
            headers=codec.page_headers(headers.get_all()),
        )
        self._waits = False
        self._pump()

    def _pump(self) -> None:
        """Send what there is until something has to wait."""
        while not (self._waits or self._closed):
            if self._pieces:
                piece, waiting = self._pieces.popleft()
                sent = not self._held or self._send(self._held, done=False)
                self._held, self._held_since = piece, self._loop.time()
                if not sent:
                    self._waiting = waiting
                elif waiting is not None:
                    succeed(waiting)
            elif self._ended:
                self._close(None)
            elif self.finished:
                self._ended = True
                self._end()
            else:
                if self._held and self._alarm is None:
                    self._alarm = self._loop.call_later(HOLD_SECONDS, self._ring)
                return

    def _end(self) -> None:
        """Send the last frame, but not to an answer of which something is missing."""
        if self._written >= self._announced:
            self._send(self._held, done=True)
            return
        begun = self._make is self._later
        self._broken(begun)
        if not begun:
            self._put(partial(codec.error_frame, 500, codec.UNCAUGHT, self._message_id))

    def _send(self, data: Any, *, done: bool) -> bool:
        """Put the next frame into the line; False if it has to wait there."""
        make, self._make = partial(self._make, data, done=done), self._later
        return self._put(make)

    def _put(self, make: Make) -> bool:
        sent = self._line.send(make)
        if sent is not None:
            self._waits = True
            sent.add_done_callback(self._sent)
        return sent is None

    def _sent(self, sent: asyncio.Future[None]) -> None:
        if self._closed or sent.cancelled() or sent.exception():
            return  # whoever waits is told by abort()
        self._waits = False
        if self._waiting is not None:
            succeed(self._waiting)
            self._waiting = None
        self._pump()

    def _ring(self) -> None:
        """Hold back no longer what nothing has followed for a while."""
        self._alarm = None
        if self._waits or not self._held:
            return  # it is set anew when something is held and nothing waits
        left = self._held_since + HOLD_SECONDS - self._loop.time()
        if left > 0:
            self._alarm = self._loop.call_later(left, self._ring)
        else:
            held, self._held = self._held, b""
            self._send(held, done=False)

    def _close(self, target: Optional[Target]) -> None:
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        # All that leads back here, by the alarm's context to the handler and its connection: so memory is free at once,
        # and there is no garbage for the collector, which would stop the whole server for a while.
        self._alarm, self._held = None, b""
        over, self._over = self._over, None
        if over is not None:
            over(target)

    def _clean(self, headers: HTTPHeaders) -> None:
        """Take the traceback out of an answer that was written at once, as those to uncaught exceptions are."""
        body = b"".join(piece for piece, _ in self._pieces)
        clean = codec.without_traceback(body)
        if clean != body:
            headers["Content-Length"] = str(len(clean))
            self._written = len(clean)
            for _, sent in self._pieces:
                if sent is not None:
                    succeed(sent)
            self._pieces = deque((piece, None) for piece in codec.pieces(clean))
