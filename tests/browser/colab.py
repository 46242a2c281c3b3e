"""A stand-in for Colab's page: served over https on loopback, and opened by browsers under Colab's own address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.jupyter.packages import make_authority

HOST = "colab.research.google.com"
ORIGIN = f"https://{HOST}"
ELSEWHERE = "colab.research.google.com.evil.example"
"""Another address at which the same page can be found, which no server has allowed."""

PATHS = ("direct", "http_over_websocket")
"""The two ways in which a front end may use a server; see colab.html."""


@contextmanager
def colab_page(directory: Path) -> Iterator[int]:
    """The port of the page's server, for the block."""
    page = (Path(__file__).parent / "colab.html").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page if self.path == "/" else b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False
        block_on_close = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # browsers open connections on suspicion, and leave them

    server = Server(("127.0.0.1", 0), Handler)
    # The handshake belongs to the connection's own thread: a silent client must not keep the others waiting.
    server.socket = make_authority(directory)[1].wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    Handler.timeout = 10
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
