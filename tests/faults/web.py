"""A small real web server, in a process of its own: ``GET /N`` answers with N bytes of a known pattern.

The end of the answer is the end of the connection, as with HTTP/1.0: a client that does not hear of a cut takes half an
answer for a whole one.
"""

from __future__ import annotations

import http.client
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.ssh.peers import PATTERN

PATIENCE_SECONDS = 130.0
"""Longer than a forward lets its clients wait."""

_START_SECONDS = 20.0
_PROJECT = Path(__file__).parents[2]


@contextmanager
def web_server(popen: Callable[..., subprocess.Popen[Any]] = subprocess.Popen) -> Iterator[int]:
    """Such a server, for the block; its port.  ``popen`` may start it elsewhere, on a laboratory's far machine say."""
    pipe = subprocess.PIPE
    with popen([sys.executable, "-m", "tests.faults.web"], cwd=_PROJECT, stdout=pipe, text=True) as process:
        assert process.stdout
        try:
            with selectors.DefaultSelector() as started:
                started.register(process.stdout, selectors.EVENT_READ)
                assert started.select(_START_SECONDS), "the web server did not start"
            yield int(process.stdout.readline())
        finally:
            process.kill()


def request(port: int, size: int, *, timeout: float = PATIENCE_SECONDS) -> http.client.HTTPResponse:
    """Ask for ``size`` bytes by a connection of its own; the answer's head has come, its body is to be read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", f"/{size}")
        answer = connection.getresponse()  # which now owns the socket, since the server ends the connection
        assert answer.status == 200
        return answer
    finally:
        connection.close()


def get(port: int, size: int = 1000, *, timeout: float = PATIENCE_SECONDS) -> None:
    """Get ``size`` bytes and see that they are the right ones."""
    with request(port, size, timeout=timeout) as answer:
        body = answer.read()
    assert body == expected(size), f"{len(body)} bytes came"


def expected(size: int) -> bytes:
    """What ``GET /size`` answers."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        size = int(self.path.strip("/"))
        self.send_response(200)
        self.end_headers()
        for sent in range(0, size, len(PATTERN)):
            self.wfile.write(PATTERN[: size - sent])

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 512

    def handle_error(self, *_: object) -> None:
        """A client that was cut off is no error here."""


if __name__ == "__main__":
    with _Server(("127.0.0.1", 0), _Answers) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
