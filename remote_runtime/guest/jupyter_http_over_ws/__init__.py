"""A Jupyter server extension that carries HTTP requests over one WebSocket, for web pages such as Colab's.

It speaks the wire of the `jupyter_http_over_ws` that its name comes from, and replaces it: requests go through the
server's own handlers inside the process, so there is no second connection, and no address that a client may choose.
It also lets the allowed page read every answer of the server (CORS), and lets the server prove that it holds its token.

The files, from pure to IO::

    codec      messages and frames                     versions   min_version
    access     origins, credentials, redirects         proof      the proof that the server holds its token
    flow       how much at once, and in which order    redact     keeps the token out of the log
    dispatch   one request through the handlers        cors       headers for the allowed page
    sockets    the two WebSockets                      server     puts it all into a running server

Importing this package imports neither jupyter_server nor tornado: the program that installs it reads it too.
"""

from __future__ import annotations

from typing import Any, Dict, List

__all__: List[str] = []


def _jupyter_server_extension_points() -> List[Dict[str, str]]:
    """Tell jupyter_server which module to load."""
    return [{"module": __name__}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    """Put the endpoints into the running server; called by jupyter_server once its web application is there."""
    from .server import load

    load(server_app)
    # People's scripts wait for this very line.
    print("jupyter_http_over_ws extension initialized. Listening on /http_over_websocket", flush=True)
