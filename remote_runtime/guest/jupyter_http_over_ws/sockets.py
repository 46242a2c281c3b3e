"""The WebSockets: one that carries requests, and one that tells a page what is wrong."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any, Awaitable, Optional, Set, Tuple, Union

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from . import access, codec, versions
from .compat import allow_unauthenticated
from .dispatch import Dispatcher
from .flow import Gate, Pace, Turn, Turns
from .line import Line

MOST_REQUESTS = 32
"""How many requests of one socket run at once."""

MOST_BYTES = 64 * 1024 * 1024
"""How many bytes of requests one socket may have in the server at once; one that is larger runs alone.

One further message waits to be let in, as large as the server lets any message be.  Of an answer there are at most two
pieces of 64 KiB per request, and one frame per socket, unless its handler builds it up as a whole.
"""

MOST_BYTES_BEFORE_LOGIN = 64 * 1024
"""The most of one message of a client that has not shown who it is; it also gets one request at a time only."""

RATE_BEFORE_LOGIN = 20
"""How many messages of such a client are answered at once, and then per second."""

CLOSE_BROKEN = 1011
"""The close code for an answer of which only a part came: internal error, as RFC 6455 has it."""

CLOSE_REFUSED = 4400
"""The close code for a demand that can't be met: a private one, as 400 is not legal on a WebSocket."""


class Socket(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """What both have in common: the Origin is checked before anything else, and there is no need to be logged in.

    A page may open a socket without a login since it may show one later, by the auth URL in the query; what it asks
    for then goes through the handlers, which want a login as ever.
    """

    def initialize(self, origins: access.Origins) -> None:
        """Called by tornado with the arguments of the routing rule."""
        self._origins = origins

    async def prepare(self) -> None:  # type: ignore[override]  # the same in effect as both of the parents'
        """Refuse a page that is not allowed, else find out who the user is."""
        if not self.check_origin():
            self.set_status(403)
            await self.finish("This page may not use this server.")
            return
        self.log_in()
        prepared: Any = super().prepare()
        if prepared is not None:
            await prepared

    def check_origin(self, origin: Optional[str] = None) -> bool:
        """Whether the page may open this socket; unlike elsewhere a token does not make up for a foreign page."""
        headers = self.request.headers
        return self._origins.allow_socket(origin or headers.get("Origin"), headers.get("Host"))

    def log_in(self) -> None:
        """Make use of credentials that are not where the server looks for them."""

    @allow_unauthenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket."""
        await super().get(*args, **kwargs)

    def set_default_headers(self) -> None:
        """Set none: they mean nothing on a WebSocket."""

    def set_cookie(self, *args: Any, **kwargs: Any) -> None:
        """Set none: a page that opens a socket must not log its whole browser in."""

    @property
    def max_message_size(self) -> int:
        """The most bytes of one message: what the server takes, once we know whose it is."""
        most: int = super().max_message_size
        return min(most, MOST_BYTES_BEFORE_LOGIN) if self.current_user is None else most

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Get ready for messages."""
        super().open(*args, **kwargs)
        self.set_nodelay(True)  # else the system holds an answer back until the page has acknowledged the last one
        self._pace = Pace(RATE_BEFORE_LOGIN, RATE_BEFORE_LOGIN)

    async def keep_pace(self) -> None:
        """Slow a client down that has not shown who it is: nothing more is read from it meanwhile."""
        if self.current_user is None:
            await asyncio.sleep(self._pace.delay(IOLoop.current().time()))

    def wanted_version(self) -> Optional[str]:
        """The version that the page demands, or None; what is no text comes out as something that is no version."""
        values = self.request.query_arguments.get("min_version")
        return values[-1].decode("utf-8", "replace").strip() if values else None


class HttpOverWebSocket(Socket):
    """Carries requests: as many at once as :data:`MOST_REQUESTS`, answered as they come."""

    _closing = False
    _foreign_auth_url = False
    _cookies: Optional[str] = None

    def log_in(self) -> None:
        """Put the token of the auth URL, or of our own query, where handlers look for it.

        It is done before the server finds out who the user is, so that its own identity provider decides, and the
        requests that come through the socket are the same user's.
        """
        request = self.request
        auth_url = self.get_query_argument(access.AUTH_URL, "")
        token = self.get_query_argument("token", "")
        if auth_url:
            # Like the cookies that the auth URL itself would set: they say that the page is one that may write.
            self._cookies = f"_xsrf={secrets.token_hex(16)}"
            try:
                token = access.token_of(auth_url, request.protocol, request.host) or token
            except access.ForeignAuthUrl as error:
                self._foreign_auth_url = True
                self.log.error("The requests of a WebSocket are refused: its auth URL is %s", error)
        if token and token.isprintable() and token.isascii():
            request.headers["Authorization"] = f"token {token}"

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Refuse a page that wants a newer version, else get ready for requests."""
        super().open(*args, **kwargs)
        self._tasks: Set[asyncio.Future[None]] = set()
        self._line = Line(self._write)
        self._seen_alive: Tuple[int, ...] = ()
        self._turns = Turns(self.settings["base_url"])
        self._gate = Gate(1 if self.current_user is None else MOST_REQUESTS, MOST_BYTES)
        xsrf = self._cookies.partition("=")[2] if self._cookies else self.get_cookie("_xsrf")
        self._dispatcher = Dispatcher(
            self.application,
            self.request,
            self._line,
            cookies=self._cookies,
            xsrf=xsrf,
            log=self.log,
            give_up=self._give_up,
        )
        wanted = self.wanted_version()
        reason = "" if wanted is None else versions.refusal(wanted)
        if reason:
            self._closing = True
            self.log.error("Rejecting connection: %s", reason)
            self.close(CLOSE_REFUSED, reason)

    def on_message(self, message: Union[str, bytes]) -> Optional[Awaitable[None]]:
        """Start what ``message`` asks for.

        As long as the result is waited for no further message is read, so a page that asks faster than it reads is
        slowed down.  What need not wait is started at once, without a task of its own.
        """
        if self._closing:
            return None
        request = codec.decode(message)
        if isinstance(request, codec.Request) and self._foreign_auth_url:
            request = codec.Refusal(codec.error_frame(500, codec.UNCAUGHT, request.message_id))
        if self.current_user is None or self._line.busy or not self._let_in(request):
            return self._start_later(request)
        self._start(request)
        return None

    def on_close(self) -> None:
        """The page is gone."""
        self._line.close()
        self._dispatcher.close()

    def send_ping(self) -> None:
        """Ask the page for a sign of life, but not while we ourselves don't read what it answers.

        A page that reads lives, too, even if it reads so slowly that its answer to our ping is not due yet; so does one
        that sends, as it can't answer amid a message.
        """
        alive = (self._line.sent, *self._received())
        if self._gate.closed or alive != self._seen_alive:
            self._seen_alive = alive
            self.last_pong = IOLoop.current().time()
        super().send_ping()

    def _received(self) -> Tuple[int, int]:
        """What changes with every byte that arrives; tornado tells nothing of a message before the whole is there."""
        connection: Any = self.ws_connection
        stream = getattr(connection, "stream", None)
        return getattr(connection, "_wire_bytes_in", 0), getattr(stream, "_read_buffer_size", 0)

    def _let_in(self, request: Union[codec.Request, codec.Refusal]) -> bool:
        return isinstance(request, codec.Refusal) or self._gate.enter_now(request.size)

    async def _start_later(self, request: Union[codec.Request, codec.Refusal]) -> None:
        await self.keep_pace()
        if isinstance(request, codec.Request):
            await self._gate.enter(request.size)
        try:
            await self._line.free()  # a page that does not read what there is already gets nothing more made for it
        except StreamClosedError:
            return
        self._start(request)

    def _start(self, request: Union[codec.Request, codec.Refusal]) -> None:
        if isinstance(request, codec.Refusal):
            frame = request.frame
            self._line.send(lambda: frame)
            return
        turn = self._turns.take(request.method, request.path)
        if turn.has_come:
            self._run(request, turn)
        else:
            task = asyncio.ensure_future(self._run_in_turn(request, turn))
            self._tasks.add(task)  # the loop itself keeps no strong reference
            task.add_done_callback(self._tasks.discard)

    async def _run_in_turn(self, request: codec.Request, turn: Turn) -> None:
        await turn.come()
        self._run(request, turn)

    def _run(self, request: codec.Request, turn: Turn) -> None:
        def over() -> None:
            turn.end()
            self._gate.leave(request.size)

        self._dispatcher.start(request, over)

    def _give_up(self) -> None:
        """Let the page know by the end of the socket that an answer is not whole; no frame could tell."""
        self._closing = True
        self.close(CLOSE_BROKEN, "An answer broke off.")

    def _write(self, frame: bytes) -> asyncio.Future[None]:
        """Send ``frame``; the future is done when there is room for more."""
        connection = self.ws_connection
        stream = None if connection is None or connection.is_closing() else connection.stream
        if stream is None:
            raise StreamClosedError
        # Tornado's own way, write_message(), copies the frame once more, and starts a task to wait for it.
        return stream.write(codec.websocket_head(len(frame)) + frame)


class Diagnose(Socket):
    """Tells any client which version runs here, and whether its browser has a cookie of this server."""

    async def on_message(self, message: Union[str, bytes]) -> None:
        """Answer anything."""
        await self.keep_pace()
        frame = codec.diagnose_frame(
            message,
            versions.PROTOCOL_VERSION,
            has_cookie=bool(self.get_cookie("_xsrf")),
            outdated=versions.is_outdated(self.wanted_version() or ""),
        )
        with suppress(WebSocketClosedError):
            await self.write_message(frame)
