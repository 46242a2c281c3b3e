"""The least that carrying a file takes: to read it, make base64 of it, and send that, without a server around it.

The wire wants base64, and Python has one way to make it; no extension can be faster than this.
"""

from __future__ import annotations

import binascii
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmarks.raw_clients import SECONDS, Buffer

PIECE = 49152
"""Bytes; as base64 they are less than what makes the C library ask the system for new memory each time."""

PLAIN, BASE64 = b"p", b"b"

Figures = dict[str, float]


def sent_alone(
    file: Path, rounds: int, spent: Callable[[int], AbstractContextManager[Figures]]
) -> dict[str, list[Figures]]:
    """Send ``file`` that often as it is, and as often as base64, from a process of its own.

    ``spent`` tells what passes in its block, given the id of a process.
    """
    whole, rest = divmod(file.stat().st_size, PIECE)
    sizes = {PLAIN: whole * PIECE + rest, BASE64: whole * PIECE // 3 * 4 + (rest + 2) // 3 * 4}
    found: dict[str, list[Figures]] = {"plain": [], "base64": []}
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(SECONDS)
        argv = [sys.executable, "-m", __name__, str(listener.getsockname()[1]), str(file)]
        child = opened.enter_context(subprocess.Popen(argv))
        sock = opened.enter_context(listener.accept()[0])
        sock.settimeout(SECONDS)
        buffer = Buffer(sock)
        for number in range(rounds + 1):
            for name, how in (("plain", PLAIN), ("base64", BASE64)):
                with spent(child.pid) as figures:
                    sock.sendall(how)
                    buffer.drop(sizes[how])
                if number:  # the first round warms up
                    found[name].append(figures)
    return found


def send(port: int, file: Path) -> None:
    """Send the file as often, and as, the reader at ``port`` asks for."""
    with socket.create_connection(("127.0.0.1", port)) as sock, file.open("rb", buffering=0) as source:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while how := sock.recv(1):
            source.seek(0)
            while data := source.read(PIECE):
                sock.sendall(data if how == PLAIN else binascii.b2a_base64(data, newline=False))


if __name__ == "__main__":
    send(int(sys.argv[1]), Path(sys.argv[2]))
