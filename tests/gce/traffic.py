"""Bytes through a pair of sockets, told apart by their hashes."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable

MIB = 1 << 20
PATIENCE_SECONDS = 100.0


def flood(sock: socket.socket, mib: int, seed: int) -> str:
    """Send so many MiB; their hash."""
    source, digest = random.Random(seed), hashlib.blake2b()
    for _ in range(mib):
        block = source.randbytes(MIB)
        digest.update(block)
        sock.sendall(block)
    return digest.hexdigest()


def drain(sock: socket.socket, mib: int) -> str:
    """Receive so many MiB; their hash."""
    digest, left = hashlib.blake2b(), mib * MIB
    while left:
        data = sock.recv(min(left, MIB))
        assert data, f"the stream ended with {left} bytes to come"
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


def exactly(sock: socket.socket, count: int) -> bytes:
    """Receive so many bytes."""
    found = bytearray()
    while len(found) < count and (data := sock.recv(count - len(found))):
        found += data
    return bytes(found)


def drain_all(sock: socket.socket) -> bytes:
    """Receive until the end."""
    found = bytearray()
    while data := sock.recv(MIB):
        found += data
    return bytes(found)


def at_once(*jobs: Callable[[], str]) -> list[str]:
    """What the jobs return, each done in a thread of its own."""
    results = [""] * len(jobs)

    def run(index: int, job: Callable[[], str]) -> None:
        results[index] = job()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "a job does not end"
    return results


def both_ways(one: socket.socket, other: socket.socket, mib: int) -> None:
    """So many MiB each way at once, and not a byte lost."""
    up, down, got_up, got_down = at_once(
        lambda: flood(one, mib, 1), lambda: flood(other, mib, 2), lambda: drain(other, mib), lambda: drain(one, mib)
    )
    assert (got_up, got_down) == (up, down)


def stuff(sock: socket.socket, *, limit: int) -> bytes:
    """Send until the far side takes no more for a while, or ``limit`` is passed; what was sent."""
    sent = bytearray()
    sock.settimeout(0.5)
    try:
        while len(sent) <= limit:
            block = random.Random(len(sent)).randbytes(65536)
            count = sock.send(block)
            sent += block[:count]
    except TimeoutError:
        pass
    finally:
        sock.settimeout(PATIENCE_SECONDS)
    return bytes(sent)
