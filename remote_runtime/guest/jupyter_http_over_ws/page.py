"""The page at ``<base_url>remote-runtime``: how the server and its machine are, and a test of both of Colab's paths.

    GET <base_url>remote-runtime              the page; needs a login
    GET <base_url>remote-runtime/page.css     what it is made of, and its scripts: no secrets, so no login
    GET <base_url>remote-runtime/status       what it shows, besides what Jupyter's own API tells; needs a login

The files are sent as they are: nothing of a request or of the machine is ever written into HTML.  The script reads
values as JSON and sets them as text.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pkgutil
import platform
import socket
from typing import Any, Dict, Mapping, Optional

import jupyter_server
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado.web import authenticated

from . import __version__
from .access import Origins
from .colab import memory_by_kernel
from .compat import allow_unauthenticated
from .resources import Resources, read_uptime

DOCUMENT = "page.html"
_SCRIPT = "text/javascript; charset=utf-8"
ASSETS: Mapping[str, str] = {
    "page.css": "text/css; charset=utf-8",
    **dict.fromkeys(("elements.js", "page.js", "selftest.js", "server.js"), _SCRIPT),
}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Nothing but our own files runs or styles, and nothing but this server is asked."""


class PageHandler(JupyterHandler):
    """What the document and its parts have in common."""

    def set_default_headers(self) -> None:
        """See tornado.  The policy is ours, whatever the settings say; the page's address may have the token in it."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")

    def send_file(self, name: str, kind: str) -> None:
        """Answer with a file of this package."""
        content = pkgutil.get_data(__package__, "static/" + name)
        self.set_header("Content-Type", kind)
        self.finish(content)


class Page(PageHandler):
    """The document."""

    auth_resource = "api"

    @authenticated
    @authorized
    def get(self) -> None:
        """Answer with it, and see to it that the browser has the cookie without which the page could write nothing."""
        _ = self.xsrf_token
        self.send_file(DOCUMENT, "text/html; charset=utf-8")


class PageAsset(PageHandler):
    """One of its parts."""

    @allow_unauthenticated
    def get(self, name: str) -> None:
        """Answer with the part ``name``."""
        self.send_file(name, ASSETS[name])


class PageStatus(APIHandler):
    """What the page shows."""

    auth_resource = "api"
    _track_activity = False  # an open page does not mean that anybody works

    def initialize(self, resources: Resources, origins: Origins) -> None:
        """Called by tornado with the arguments of the routing rule."""
        self._resources = resources
        self._origins = origins

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer with plain values."""
        reading = await self._resources.read()
        values = {
            "server": server_values(self.settings, self._origins),
            "machine": {**machine_values(), **dataclasses.asdict(reading)},
            "kernels": memory_by_kernel(self.kernel_manager),
        }
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(values))


def server_values(settings: Mapping[str, Any], origins: Origins) -> Dict[str, Any]:
    """What is to be known of the server with these ``settings``."""
    return {
        "jupyter_server": jupyter_server.__version__,
        "extension": __version__,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "root_dir": settings.get("server_root_dir", ""),
        "allowed_origin": origins.exact if origins else "",
        "allowed_pattern": origins.pattern.pattern if origins and origins.pattern and not origins.exact else "",
    }


def machine_values() -> Dict[str, Any]:
    """What is to be known of the machine; None for what it does not tell."""
    return {
        "name": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": _processors(),
        "load": _load(),
        "uptime": read_uptime(),
    }


def _processors() -> Optional[int]:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _load() -> Optional[float]:
    """How many processes wanted to run, on an average of the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
