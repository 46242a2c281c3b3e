"""Puts the endpoints into a running server.

    <base_url>http_over_websocket                  requests over a WebSocket
    <base_url>http_over_websocket/diagnose         what is wrong
    <base_url>http_over_websocket/proxied_ws/...   any other WebSocket of the server, a kernel's above all
    <base_url>remote-runtime/proof?nonce=...       the proof that this server holds its token; with &hold=1 the
                                                   answer does not end before the server does

``proxied_ws`` is a matter of routing only: a rule in front of all others takes the prefix off, and the server then
finds its own handler, which so talks to the page directly: subprotocol, binary messages and compression are its own.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Dict, Optional

from jupyter_server.base.handlers import JupyterHandler
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import Matcher, Router, Rule
from tornado.web import Application, ErrorHandler

from . import access, proof
from .compat import allow_unauthenticated
from .cors import AllowedPreflight, Preflight, cors_transform
from .redact import redact_log
from .sockets import Diagnose, HttpOverWebSocket, Socket


def load(server_app: Any) -> None:
    """Add everything to the web application of ``server_app``."""
    application: Application = server_app.web_app
    settings = application.settings
    base = settings["base_url"].rstrip("/") + "/"
    origins = access.Origins(settings.get("allow_origin") or "", settings.get("allow_origin_pat") or None)
    proof_path = base + "remote-runtime/proof"
    proxied = base + "http_over_websocket/proxied_ws/"

    redact_log(server_app.log, lambda: server_token(settings))
    wanted = {"origins": origins}
    application.add_handlers(
        ".*$",
        [
            (re.escape(base) + r"http_over_websocket", HttpOverWebSocket, wanted),
            (re.escape(base) + r"http_over_websocket/diagnose", Diagnose, wanted),
            (re.escape(proxied) + r".+", Socket, wanted),  # what is no WebSocket is told so
            (re.escape(proof_path), Proof),
        ],
    )
    first = [Rule(ProxiedSocket(proxied), Unproxied(application, origins, proxied, base))]
    if origins:
        first.append(Rule(AllowedPreflight(origins, proof_path), Preflight))
        application.add_transform(cors_transform(origins, proof_path))
    application.default_router.rules[:0] = first


def server_token(settings: Dict[str, Any]) -> str:
    """The token of the server with these ``settings``, "" if it has none."""
    return getattr(settings.get("identity_provider"), "token", None) or ""


class ProxiedSocket(Matcher):
    """Matches a WebSocket handshake below ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def match(self, request: HTTPServerRequest) -> Optional[Dict[str, Any]]:
        """An empty dict for a match, as the router wants it."""
        below = request.path.startswith(self._prefix) and request.path != self._prefix
        return {} if below and request.headers.get("Upgrade", "").lower() == "websocket" else None


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
        self._log_in(request)
        return self._application.find_handler(request, **kwargs)

    def _error(self, request: HTTPServerRequest, status: int) -> HTTPMessageDelegate:
        return self._application.get_handler_delegate(request, ErrorHandler, {"status_code": status})

    @staticmethod
    def _log_in(request: HTTPServerRequest) -> None:
        """Put the token of an auth URL where the handler looks for it."""
        for auth_url in request.query_arguments.get(access.AUTH_URL, []):
            try:
                token = access.token_of(auth_url.decode("utf-8", "replace"), request.protocol, request.host)
            except access.ForeignAuthUrl:
                continue  # the handler asks for a login then
            if token:
                request.headers["Authorization"] = f"token {token}"


class Proof(JupyterHandler):
    """Proves to anybody who asks that this server holds its token; see :mod:`.proof`."""

    def initialize(self) -> None:
        """Called by tornado for each request."""
        self._gone = asyncio.Event()

    def set_cors_headers(self) -> None:
        """Set none: no page has a reason to ask."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Answer with the proof for the nonce in the query; 400 for none that is one, 404 if there is no token.

        A client that holds the request sees by its end that this server is gone, before anybody else has the port.
        """
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        token = server_token(self.settings)
        answer = proof.answer(token, self.get_query_argument("nonce", ""))
        if not token:
            self.set_status(404)
            answer = "This server has no token."
        elif answer is None:
            self.set_status(400)
            answer = "nonce must be 16 to 64 bytes in hexadecimal."
        elif self.get_query_argument("hold", ""):
            self.write(answer + "\n")
            await self.flush()
            await self._gone.wait()
            return
        await self.finish(answer)

    def on_connection_close(self) -> None:
        """The client that held the request has gone."""
        super().on_connection_close()
        self._gone.set()
