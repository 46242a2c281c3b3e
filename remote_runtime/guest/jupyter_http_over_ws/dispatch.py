"""One request through the server's own handlers, inside the process.

A request so takes the way of any other one, through routing, authentication, XSRF checks and the authorizer, but has
no address to go to, no limit of a client's, and needs no second socket.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Awaitable, Callable, Iterator, Optional, Set

from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, RequestStartLine
from tornado.iostream import StreamClosedError
from tornado.web import Application

from . import access, codec
from .exchange import Exchange, Target
from .line import Line

MOST_REDIRECTS = 5


class Dispatcher:
    """Runs requests for one socket, whose handshake said who the user is."""

    def __init__(
        self,
        application: Application,
        handshake: Any,
        line: Line,
        *,
        cookies: Optional[str],
        xsrf: Optional[str],
        log: Any,
        give_up: Callable[[], None],
    ) -> None:
        """``cookies`` replace those of the handshake, unless they are None; ``xsrf`` is the XSRF token among them.

        ``give_up`` is called when the page has a part of an answer whose rest will not come.
        """
        self._application = application
        self._handshake = handshake
        self._line = line
        self._xsrf = xsrf
        self._logger = log
        self._give_up = give_up
        # The same for every request, and not cheap to find out: a tenth of the time of a small one.
        self._lasting = HTTPHeaders()
        handshaken = list(handshake.headers.get_all())
        for name, value in access.inner_headers(handshaken, cookies=cookies, writing=False, xsrf=None, size=0):
            self._lasting.add(name, value)
        self._running: Set[Exchange] = set()
        self._feeding: Set[asyncio.Future[None]] = set()
        self._closed = False

    def start(self, request: codec.Request, over: Callable[[], None]) -> None:
        """Begin to answer ``request``; ``over`` is called once when it is answered, or the page is gone."""
        self._start(request, MOST_REDIRECTS, over)

    def close(self) -> None:
        """The page is gone: tell every handler that still answers, and run nothing more."""
        self._closed = True
        for exchange in list(self._running):
            exchange.abort()

    def _start(self, request: codec.Request, redirects: int, over: Callable[[], None]) -> None:
        if self._closed:
            over()
            return

        def ended(target: Optional[Target]) -> None:
            self._running.discard(exchange)
            if target is None:
                over()
                return
            method, path = target
            body = request.body if method == request.method else b""
            self._start(replace(request, method=method, path=path, body=body), redirects - 1, over)

        exchange = Exchange(
            request.message_id,
            self._line,
            method=request.method,
            remote_ip=self._handshake.remote_ip,
            protocol=self._handshake.protocol,
            redirect=partial(self._redirected, request, redirects),
            over=ended,
            broken=self._broken_off,
        )
        self._running.add(exchange)
        with self._answered(request, exchange):
            self._deliver(request, exchange)

    def _redirected(self, request: codec.Request, redirects: int, start_line: Any, headers: Any) -> Optional[Target]:
        if not redirects:
            return None
        return access.redirected(
            start_line.code,
            headers.get("Location"),
            method=request.method,
            path=request.path,
            scheme=self._handshake.protocol,
            host=self._handshake.host,
        )

    def _broken_off(self, begun: bool) -> None:
        self._logger.error("A handler ended before it had written as many bytes as it had announced")
        if begun:
            self._give_up()

    def _deliver(self, request: codec.Request, exchange: Exchange) -> None:
        headers = self._lasting.copy()
        writing = request.method in access.WRITING
        size = len(request.body)
        form = request.method == "POST" and size > 0
        own = access.inner_headers((), cookies=None, writing=writing, xsrf=self._xsrf, size=size, form=form)
        for name, value in own:
            headers.add(name, value)
        start_line = RequestStartLine(request.method, request.path, "HTTP/1.1")
        delegate = self._application.start_request(self._handshake.server_connection, exchange)
        ready = delegate.headers_received(start_line, headers)
        if ready is None:
            if request.body:
                delegate.data_received(request.body)
            delegate.finish()
        else:
            feeding = asyncio.ensure_future(self._feed(request, exchange, delegate, ready))
            self._feeding.add(feeding)  # the loop itself keeps no strong reference
            feeding.add_done_callback(self._feeding.discard)

    async def _feed(
        self, request: codec.Request, exchange: Exchange, delegate: HTTPMessageDelegate, ready: Awaitable[None]
    ) -> None:
        """Give the body to a handler that reads it as it comes, and may refuse it by an answer."""
        with self._answered(request, exchange):
            await ready
            if request.body and not exchange.finished:
                taken = delegate.data_received(request.body)
                if taken is not None:
                    await taken
            if not exchange.finished:
                delegate.finish()

    @contextmanager
    def _answered(self, request: codec.Request, exchange: Exchange) -> Iterator[None]:
        """See to it that the page gets an answer whatever happens in the block."""
        try:
            yield
            return
        except StreamClosedError:
            pass  # nobody is left to be answered
        except HTTPInputError:
            self._line.send(partial(codec.bad_request_frame, request.message_id))
        except Exception:  # the page must not wait for ever
            self._logger.exception("A request over a WebSocket failed")
            self._line.send(partial(codec.error_frame, 500, codec.UNCAUGHT, request.message_id))
        exchange.abort()
