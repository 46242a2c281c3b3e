"""One request through the server's own handlers, inside the process.

The web application is given a connection that is none: what its handlers write becomes frames.  A request so takes the
way of any other one, through routing, authentication, XSRF checks and the authorizer, but has no address to go to, no
limit of a client's, and needs no second socket.
"""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any, Awaitable, Callable, List, Optional, Tuple

from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.web import Application

from . import access, codec

MOST_REDIRECTS = 5

HOLD_SECONDS = 0.05
"""How long data is held back for the next data or the end to come, so that the last data and the end are one frame."""

Send = Callable[[Callable[[], bytes]], Awaitable[None]]
"""Sends the frame that the argument makes, and returns once the page's end has room for more.

Frames that wait for their turn are not made yet: so what waits takes no more memory than the data itself.
"""

_Written = Tuple[Optional[bytes], "asyncio.Future[None]"]
"""Data, or None for the end, and what to do when it is sent."""


class Exchange(HTTPConnection):
    """The connection on which a handler answers one request.

    What it writes waits here until :meth:`relay` has sent it, and the handler that awaits its ``flush()`` waits too.
    """

    def __init__(self, remote_ip: str, protocol: str) -> None:
        self.context = SimpleNamespace(remote_ip=remote_ip, protocol=protocol)
        loop = asyncio.get_event_loop()
        self.finished = False
        self._closed = False
        self._on_close: Optional[Callable[[], None]] = None
        self._head: asyncio.Future[Tuple[ResponseStartLine, HTTPHeaders]] = loop.create_future()
        self._written: asyncio.Queue[_Written] = asyncio.Queue()

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
        if not self._head.done():
            self._head.set_result((start_line, headers))
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Take more data; the future is done when it is sent."""
        sent: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        if self._closed:
            _fail(sent)
        elif not chunk:
            sent.set_result(None)
        else:
            self._written.put_nowait((bytes(chunk), sent))
        return sent

    def finish(self) -> None:
        """Take note that no more data will come."""
        self.finished = True
        self._written.put_nowait((None, asyncio.get_event_loop().create_future()))

    def detach(self) -> Any:
        """Refuse: there is no stream that a handler could take over."""
        raise StreamClosedError

    # -- what the socket calls

    async def head(self) -> Tuple[ResponseStartLine, HTTPHeaders]:
        """Wait for the status and the headers.  Raises :class:`StreamClosedError` after :meth:`abort`."""
        return await self._head

    async def relay(self, message_id: str, send: Send) -> None:
        """Send the answer as frames.

        Data is held back until more comes, or the end, since its frame says which: but not for long, so that what a
        slow handler writes is there at once.  Then the end is a frame of its own, without data.
        """
        start_line, headers = await self.head()
        if start_line.code >= 500 and self.finished:
            self._clean(headers)
        make = partial(
            codec.first_frame,
            message_id,
            status=start_line.code,
            reason=start_line.reason,
            headers=codec.page_headers(headers.get_all()),
        )
        later = partial(codec.next_frame, message_id)
        held = b""
        while True:
            chunk, sent = await (self._next_or_pause() if held else self._next())
            if chunk is None:
                break
            if held and not chunk:
                await send(partial(make, held, done=False))
                make, held = later, b""
            for piece in codec.pieces(chunk):
                if held:
                    await send(partial(make, held, done=False))
                    make = later
                held = piece
            _done(sent)
        await send(partial(make, held, done=True))

    async def drain(self) -> None:
        """Drop the rest of the answer."""
        chunk: Optional[bytes] = b""
        while chunk is not None:
            chunk, sent = await self._next()
            _done(sent)

    def abort(self) -> None:
        """Tell the handler that the page is gone, and let nobody wait any longer."""
        if self._closed:
            return
        self._closed = True
        _fail(self._head)
        while not self._written.empty():
            _fail(self._written.get_nowait()[1])
        self._written.put_nowait((None, asyncio.get_event_loop().create_future()))
        callback, self._on_close = self._on_close, None
        if callback is not None:
            callback()

    async def _next(self) -> _Written:
        """What was written next: data, or None for the end."""
        item = await self._written.get()
        if self._closed:
            raise StreamClosedError
        return item

    async def _next_or_pause(self) -> _Written:
        """What was written next, or empty data when nothing was for a while."""
        loop = asyncio.get_event_loop()
        pause = loop.call_later(HOLD_SECONDS, self._written.put_nowait, (b"", loop.create_future()))
        try:
            return await self._next()
        finally:
            pause.cancel()

    def _clean(self, headers: HTTPHeaders) -> None:
        """Take the traceback out of an answer that was written at once, as those to uncaught exceptions are."""
        written = []
        while not self._written.empty():
            written.append(self._written.get_nowait())
        body = b"".join(chunk for chunk, _ in written if chunk)
        clean = codec.without_traceback(body)
        if clean != body:
            headers["Content-Length"] = str(len(clean))
            for _, sent in written:
                _done(sent)
            written = [(clean, written[0][1]), written[-1]]
        for item in written:
            self._written.put_nowait(item)


class Dispatcher:
    """Runs requests for one socket, whose handshake said who the user is."""

    def __init__(
        self, application: Application, handshake: Any, *, cookies: Optional[str], xsrf: Optional[str]
    ) -> None:
        """``cookies`` replace those of the handshake, unless they are None; ``xsrf`` is the XSRF token among them."""
        self._application = application
        self._handshake = handshake
        self._xsrf = xsrf
        # The same for every request, and not cheap to find out: a tenth of the time of a small one.
        self._lasting = HTTPHeaders()
        handshaken = list(handshake.headers.get_all())
        for name, value in access.inner_headers(handshaken, cookies=cookies, writing=False, xsrf=None, size=0):
            self._lasting.add(name, value)
        self._running: List[Exchange] = []
        self._closed = False

    async def run(self, request: codec.Request, send: Send) -> None:
        """Answer ``request`` by :class:`Send`.

        Raises :class:`StreamClosedError` when the page is gone, and tornado's HTTPInputError for a request that
        is none.
        """
        method, path, body = request.method, request.path, request.body
        for hops_left in range(MOST_REDIRECTS, -1, -1):
            exchange = self._begin()
            try:
                await self._deliver(exchange, method, path, body)
                start_line, headers = await exchange.head()
                target = access.redirected(
                    start_line.code,
                    headers.get("Location"),
                    method=method,
                    path=path,
                    scheme=self._handshake.protocol,
                    host=self._handshake.host,
                )
                if target is None or not hops_left:
                    await exchange.relay(request.message_id, send)
                    return
                await exchange.drain()
            finally:
                self._running.remove(exchange)
                if not exchange.finished:
                    exchange.abort()
            if target[0] != method:
                body = b""
            method, path = target

    def close(self) -> None:
        """The page is gone: tell every handler that still answers, and run nothing more."""
        self._closed = True
        for exchange in list(self._running):
            exchange.abort()

    def _begin(self) -> Exchange:
        if self._closed:
            raise StreamClosedError
        exchange = Exchange(self._handshake.remote_ip, self._handshake.protocol)
        self._running.append(exchange)
        return exchange

    async def _deliver(self, exchange: Exchange, method: str, path: str, body: bytes) -> None:
        headers = self._lasting.copy()
        writing = method in access.WRITING
        for name, value in access.inner_headers((), cookies=None, writing=writing, xsrf=self._xsrf, size=len(body)):
            headers.add(name, value)
        start_line = RequestStartLine(method, path, "HTTP/1.1")
        delegate = self._application.start_request(self._handshake.server_connection, exchange)
        ready = delegate.headers_received(start_line, headers)
        if ready is not None:
            await ready
        if body and not exchange.finished:
            ready = delegate.data_received(body)
            if ready is not None:
                await ready
        if not exchange.finished:  # a handler that streams its body may have refused it
            delegate.finish()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():  # the handler may have been cancelled while it waited
        future.set_result(None)


def _fail(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StreamClosedError())
        future.exception()  # or asyncio complains that nobody looked, which is a handler's good right
