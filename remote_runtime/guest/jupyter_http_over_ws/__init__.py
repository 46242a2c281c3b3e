"""A Jupyter server extension that carries HTTP requests over one WebSocket, for web pages such as Colab's.

It speaks the wire of the `jupyter_http_over_ws` that its name comes from, and replaces it: requests go through the
server's own handlers inside the process, so there is no second connection, and no address that a client may choose.
It also lets the allowed page read every answer of the server (CORS), and lets the server prove that it holds its token.

The files, from pure to IO::

    codec      messages and frames                     versions   min_version
    access     origins, credentials, redirects         proof      the proof that the server holds its token
    flow       how much at once, and in which order    redact     keeps the token out of the log
    dispatch   one request through the handlers        cors       headers for the allowed page
    sockets    the two WebSockets                      proxied    any other WebSocket
    server     puts it all into a running server
    gauges     what memory, disk and GPUs tell         resources  reads them
    colab      Colab's own paths                       page       the page at /remote-runtime

Importing this package imports neither jupyter_server nor tornado: the program that installs it reads it too.
"""

from __future__ import annotations

from typing import Any, Dict, List

__all__: List[str] = []


def __getattr__(name: str) -> str:
    """``__version__``, from the metadata that this was installed with: it names the very content."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jupyter_http_over_ws")
    except PackageNotFoundError:
        return "unknown"  # run from the source itself


def _jupyter_server_extension_points() -> List[Dict[str, str]]:
    """Tell jupyter_server which module to load."""
    return [{"module": __name__}]


def _load_jupyter_server_extension(server_app: Any) -> None:
    """Put the endpoints into the running server; called by the server once its web application is there.

    A server that is older than jupyter_server 2 is told so in its log, and left as it is.
    """
    if not hasattr(server_app, "identity_provider"):
        server_app.log.error(
            "jupyter_http_over_ws does nothing in %s: it needs jupyter_server 2 or newer (JupyterLab 4, Notebook 7)",
            type(server_app).__name__,
        )
        return
    from .server import load

    load(server_app)
    # People's scripts wait for this very line.
    print("jupyter_http_over_ws extension initialized. Listening on /http_over_websocket", flush=True)


# Notebook 6 and older look for these names.  It is only for being told what to do that they find them.
_jupyter_server_extension_paths = _jupyter_server_extension_points
load_jupyter_server_extension = _load_jupyter_server_extension
