"""``proxied_ws``: any other WebSocket of the server, a kernel's above all, below a prefix.

It is a matter of routing only: a rule in front of all others takes the prefix off, and the server then finds its own
handler, which so talks to the page directly: subprotocol, binary messages and compression are its own.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Matcher, Router
from tornado.web import Application, ErrorHandler

from . import access


class ProxiedSocket(Matcher):
    """Matches a WebSocket handshake below ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def match(self, request: HTTPServerRequest) -> Optional[Dict[str, Any]]:
        """An empty dict for a match, as the router wants it."""
        below = request.path.startswith(self._prefix) and request.path != self._prefix
        upgrade = request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"
        return {} if below and upgrade else None


class Unproxied(Router):
    """Finds the handler that a proxied WebSocket is meant for."""

    def __init__(self, application: Application, origins: access.Origins, prefix: str, base: str) -> None:
        self._application = application
        self._origins = origins
        self._prefix = prefix
        self._base = base

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Optional[HTTPMessageDelegate]:
        """The handler for the path without the prefix; a refusal for a foreign page, and for a prefix in the prefix."""
        if not self._origins.allow_socket(request.headers.get("Origin"), request.headers.get("Host")):
            return self._error(request, 403)
        path = self._base + request.path[len(self._prefix) :]
        if path.startswith(self._prefix):
            return self._error(request, 404)
        request.path = path
        request.uri = f"{path}?{request.query}" if request.query else path
        _log_in(request)
        request.connection = _Cookieless(request.connection)  # type: ignore[assignment]  # it is one in effect
        return self._application.find_handler(request, **kwargs)

    def _error(self, request: HTTPServerRequest, status: int) -> HTTPMessageDelegate:
        return self._application.get_handler_delegate(request, ErrorHandler, {"status_code": status})


class _Cookieless:
    """A connection on which no cookie is set: a page that opens a socket must not log its whole browser in."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def write_headers(self, start_line: Any, headers: HTTPHeaders, chunk: Optional[bytes] = None) -> Any:
        headers.pop("Set-Cookie", None)
        return self._connection.write_headers(start_line, headers, chunk)


def _log_in(request: HTTPServerRequest) -> None:
    """Put the token of an auth URL where the handler looks for it; it replaces cookies."""
    for auth_url in request.query_arguments.get(access.AUTH_URL, []):
        request.headers.pop("Cookie", None)
        try:
            token = access.token_of(auth_url.decode("utf-8", "replace"), request.protocol, request.host)
        except access.ForeignAuthUrl:
            continue  # the handler asks for a login then
        if token:
            request.headers["Authorization"] = f"token {token}"
