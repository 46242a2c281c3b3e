"""A byte server for measurements, and its client.

A client says in its first line what it wants: ``echo`` (every byte back, and its end of stream), ``source N`` (N bytes
of a fixed stream, then the end), or ``sink`` (takes all until the client's end of stream, then answers with the number
and the SHA-256 of what came).  Every byte is checked at the receiver, so a figure is never one of wrong bytes.

    python -m benchmarks.netlab.servers [PORT]      # prints "listening PORT"; ends with its standard input
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.netlab.namespace import NetlabError

_BLOCK = random.Random(0).randbytes(1 << 20)
_CHUNK = 1 << 18
_START_SECONDS = 20.0
_PROJECT = Path(__file__).parents[2]


class WrongBytes(Exception):
    """What arrived is not what was sent."""


def content(count: int) -> Iterator[memoryview]:
    """The first ``count`` bytes of the stream that sources send, in chunks."""
    block = memoryview(_BLOCK)
    for sent in range(0, count, _CHUNK):
        start = sent % len(block)
        yield block[start : start + min(_CHUNK, count - sent)]


@contextlib.contextmanager
def run_server(namespace: Any, port: int = 0) -> Iterator[int]:
    """A byte server on every address of that namespace (or of what has its methods), for the block; gives its port."""
    argv = [sys.executable, "-m", "benchmarks.netlab.servers", str(port)]
    pipe = subprocess.PIPE
    with namespace.popen(argv, cwd=_PROJECT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            readable, _, _ = select.select([process.stdout], (), (), _START_SECONDS)
            word, _, number = process.stdout.readline().partition(" ") if readable else ("", "", "")
            if word != "listening":
                raise NetlabError("the byte server did not start")
            yield int(number)
        finally:
            process.kill()


def connect(namespace: Any, address: tuple[str, int], timeout: float = 20.0) -> socket.socket:
    """A TCP connection from that namespace, without Nagle; ``timeout`` seconds for each wait on it."""
    with namespace.in_namespace():
        client = socket.create_connection(address, timeout)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def echo(client: socket.socket) -> None:
    """Make of the connection one that returns what it is given."""
    client.sendall(b"echo\n")


def exchange(client: socket.socket, message: bytes) -> None:
    """Send ``message`` over a connection that echoes, and wait until it is back."""
    client.sendall(message)
    back = b""
    while len(back) < len(message):
        received = client.recv(65536)
        if not received:
            raise ConnectionResetError("the connection ended before all had come back")
        back += received
    if back != message:
        raise WrongBytes("the echo is another")


def download(client: socket.socket, count: int) -> None:
    """Fetch ``count`` bytes and check each; the connection is used up."""
    client.sendall(b"source %d\n" % count)
    buffer = memoryview(bytearray(_CHUNK))
    for expected in content(count):
        got = 0
        while got < len(expected):
            size = client.recv_into(buffer[got : len(expected)])
            if not size:
                raise WrongBytes("the stream ended too early")
            got += size
        if buffer[:got] != expected:
            raise WrongBytes("the stream is another")
    if client.recv(1):
        raise WrongBytes("the stream is too long")


def upload(client: socket.socket, count: int) -> None:
    """Send ``count`` bytes, and wait for the word that each has arrived; the connection is used up."""
    digest = hashlib.sha256()
    client.sendall(b"sink\n")
    for chunk in content(count):
        client.sendall(chunk)
        digest.update(chunk)
    client.shutdown(socket.SHUT_WR)
    with client.makefile() as answer:
        line = answer.readline()
    if line != f"{count} {digest.hexdigest()}\n":
        raise WrongBytes(f"{count} bytes were sent, but the other side says {line!r}")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        try:
            verb, _, count = (await reader.readline()).decode("ascii", "replace").strip().partition(" ")
            if verb == "echo":
                while data := await reader.read(_CHUNK):
                    writer.write(data)
                    await writer.drain()
            elif verb == "source" and count.isdecimal():
                for chunk in content(int(count)):
                    writer.write(chunk)
                    await writer.drain()
            elif verb == "sink":
                await _sink(reader, writer)
            await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()


async def _sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    digest, count = hashlib.sha256(), 0
    while data := await reader.read(_CHUNK):
        digest.update(data)
        count += len(data)
    writer.write(f"{count} {digest.hexdigest()}\n".encode())


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "0.0.0.0", port, limit=_CHUNK, backlog=1024)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    # Whoever started us holds the other end of our input; should it die, we see the end.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
