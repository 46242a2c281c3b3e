"""Puts the endpoints into a running server.

    <base_url>http_over_websocket                  requests over a WebSocket
    <base_url>http_over_websocket/diagnose         what is wrong
    <base_url>http_over_websocket/proxied_ws/...   any other WebSocket of the server; see :mod:`.proxied`
    <base_url>remote-runtime/proof?nonce=...       the proof that this server holds its token; with &hold=1 the
                                                   answer does not end before the server does
    <base_url>remote-runtime                       a page for people; see :mod:`.page`
    <base_url>remote-runtime/kernels               starts kernels that end with their client; see :mod:`.leases`
    <base_url>api/colab/...                        what Colab's page asks its own runtimes; see :mod:`.colab`

The first three are WebSockets. The first two and the proof can be opened without a login.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any, Dict, List

from jupyter_server.base.handlers import JupyterHandler
from tornado.routing import Rule
from tornado.web import Application

from . import access, proof
from .colab import ColabBuildInfo, ColabResources
from .compat import allow_unauthenticated
from .cors import AllowedPreflight, Preflight, cors_transform
from .leases import LeasedKernels, Leases
from .page import ASSETS, Page, PageAsset, PageStatus
from .proxied import ProxiedSocket, Unproxied
from .redact import redact_log
from .resources import Resources
from .sockets import Diagnose, HttpOverWebSocket, Socket

MOST_OF_A_MESSAGE = 128 * 1024 * 1024
"""The most bytes of one message, unless the server's own settings say something else.

Tornado's default, 10 MiB, is little for a notebook and its output.  What the server takes in one request, 512 MB, is
too much: while it is read, a message takes 6 times its size, and up to 11 times if there are emoji in it.
"""

_FRAME_MARGIN = 1024 * 1024
"""What tornado may have read of the next message when it has read one."""


def load(server_app: Any) -> None:
    """Add everything to the web application of ``server_app``."""
    application: Application = server_app.web_app
    settings = application.settings
    base = settings["base_url"].rstrip("/") + "/"
    origins = access.Origins(settings.get("allow_origin") or "", settings.get("allow_origin_pat") or None)
    page = base + "remote-runtime"
    proof_path = page + "/proof"
    proxied = base + "http_over_websocket/proxied_ws/"

    redact_log(server_app.log, lambda: server_token(settings), lambda: shown_urls(server_app))
    most = max(min(server_app.max_buffer_size - _FRAME_MARGIN, MOST_OF_A_MESSAGE), _FRAME_MARGIN)
    settings.setdefault("websocket_max_message_size", most)
    wanted = {"origins": origins}
    resources = Resources(settings.get("server_root_dir") or os.getcwd())
    leases = Leases(server_app.kernel_manager, server_app.log)
    application.add_handlers(
        ".*$",
        [
            (re.escape(base) + r"http_over_websocket", HttpOverWebSocket, wanted),
            (re.escape(base) + r"http_over_websocket/diagnose", Diagnose, wanted),
            (re.escape(proxied) + r".+", Socket, wanted),  # what is no WebSocket is told so
            (re.escape(proof_path), Proof),
            (re.escape(page), Page),
            (re.escape(page) + "/(" + "|".join(map(re.escape, ASSETS)) + ")", PageAsset),
            (re.escape(page) + "/status", PageStatus, {"resources": resources, "origins": origins}),
            (re.escape(page) + "/kernels", LeasedKernels, {"leases": leases}),
            (re.escape(base) + "api/colab/resources", ColabResources, {"resources": resources}),
            (re.escape(base) + "api/colab/build-info", ColabBuildInfo),
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


def shown_urls(server_app: Any) -> List[str]:
    """What ``server_app`` itself says of its URLs when it starts, if nobody knows the token but by that."""
    if not getattr(server_app.identity_provider, "token_generated", False):
        return []
    return [getattr(server_app, name, "") for name in ("display_url", "connect_url", "public_url", "local_url")]


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
