"""Lets the allowed page, and no other one, read every answer of the server, refusals included.

The server sets its CORS headers at the end of ``prepare()``, so its 403s and 404s have none, and a page can't tell a
wrong token from a server that doesn't want it.  It also refuses a preflight for any header that it does not know, and
for any path that it does not know.  Two seams mend this without touching a class or a method of the server's:

- an *output transform* (``Application.add_transform``) sees the head of every answer of every handler, error pages
  of extensions included, just before it is sent;
- a *routing rule* in front of all others answers ``OPTIONS`` of the allowed page, whatever the path.

``ServerApp.tornado_settings["headers"]`` would be simpler, but gives the headers to every origin alike, and a wrapper
around the HTTP server would have to parse what tornado has parsed already.

For all other origins there are no such headers at all.  The server on its own names the allowed origin to everybody,
reflects any origin whose preflight mentions ``authorization``, and in older versions takes a pattern that matches the
beginning of an origin for a match.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Optional, Tuple, Type

from jupyter_server.base.handlers import JupyterHandler
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.routing import Matcher
from tornado.web import OutputTransform

from .access import Origins
from .compat import allow_unauthenticated

ALLOW_ORIGIN = "Access-Control-Allow-Origin"
ALLOW_CREDENTIALS = "Access-Control-Allow-Credentials"
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_SECONDS = 600

_HEADER_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z\s,-]+", re.ASCII)


def cors_transform(origins: Origins, except_path: str) -> Type[OutputTransform]:
    """The transform that tells browsers that pages of ``origins`` may read the answer, but at ``except_path``."""

    class CorsTransform(OutputTransform):
        """Knows the request that is answered, and changes the head of the answer."""

        def __init__(self, request: HTTPServerRequest) -> None:
            super().__init__(request)
            self._request = request

        def transform_first_chunk(
            self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
        ) -> Tuple[int, HTTPHeaders, bytes]:
            """Set the headers; ``Vary`` always, as a cache must not give one origin's answer to another one."""
            if self._request.path != except_path:
                _vary_by_origin(headers)
                origin = self._request.headers.get("Origin")
                for name in (ALLOW_ORIGIN, ALLOW_CREDENTIALS):
                    headers.pop(name, None)
                if origin is not None and origins.allow(origin):
                    headers[ALLOW_ORIGIN] = origin
                    headers[ALLOW_CREDENTIALS] = "true"
            return super().transform_first_chunk(status_code, headers, chunk, finishing)

    return CorsTransform


class AllowedPreflight(Matcher):
    """Matches ``OPTIONS`` of an allowed page."""

    def __init__(self, origins: Origins, except_path: str) -> None:
        self._origins = origins
        self._except_path = except_path

    def match(self, request: HTTPServerRequest) -> Optional[Dict[str, Any]]:
        """An empty dict for a match, as the router wants it."""
        if request.method != "OPTIONS" or request.path == self._except_path:
            return None
        return {} if self._origins.allow(request.headers.get("Origin")) else None


class Preflight(JupyterHandler):
    """Says yes to whatever the page is about to ask; the request itself still has to get past its handler."""

    @allow_unauthenticated
    def options(self) -> None:
        """Answer 204; the transform adds the origin."""
        self.set_status(204)
        self.clear_header("Content-Type")
        self.set_header("Access-Control-Allow-Methods", METHODS)
        self.set_header("Access-Control-Max-Age", str(PREFLIGHT_SECONDS))
        wanted = self.request.headers.get("Access-Control-Request-Headers", "")
        if _HEADER_NAMES.fullmatch(wanted):
            self.set_header("Access-Control-Allow-Headers", wanted)
        if self.request.headers.get("Access-Control-Request-Private-Network") == "true":
            # Browsers that have no question of their own for it yet ask the server whether it is meant to be reached.
            self.set_header("Access-Control-Allow-Private-Network", "true")
        self.finish()


def _vary_by_origin(headers: HTTPHeaders) -> None:
    present = [name.strip().lower() for name in headers.get("Vary", "").split(",")]
    if "origin" not in present and "*" not in present:
        headers.add("Vary", "Origin")
