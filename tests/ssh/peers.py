"""Small TCP servers to forward to: the far ends of the streams that the tests open."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, *, port: int = 0) -> Iterator[int]:
    """Run ``serve(connection)`` in a thread for each client; the port (0: any).  All ends with the block."""
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                return  # the client has gone

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            thread = threading.Thread(target=handle, args=(connection,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended by itself
        for thread in threads:
            thread.join()


def echo(connection: socket.socket) -> None:
    """Send back what comes, then the end when it comes."""
    while chunk := connection.recv(65536):
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


def digest(connection: socket.socket) -> None:
    """Read to the end, then answer with the SHA-256 of it: proves that the end was passed on, one way."""
    seen = hashlib.sha256()
    while chunk := connection.recv(1 << 20):
        seen.update(chunk)
    connection.sendall(seen.hexdigest().encode())


def source(size: int) -> Serve:
    """Send ``size`` bytes of a known pattern and end; then read what the client still says."""

    def serve(connection: socket.socket) -> None:
        for _ in range(size // len(PATTERN)):
            connection.sendall(PATTERN)
        connection.sendall(PATTERN[: size % len(PATTERN)])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return serve


def pattern_digest(size: int) -> str:
    """The SHA-256 of what :func:`source` sends."""
    seen = hashlib.sha256()
    for _ in range(size // len(PATTERN)):
        seen.update(PATTERN)
    seen.update(PATTERN[: size % len(PATTERN)])
    return seen.hexdigest()


PATTERN = bytes(range(256)) * 256
