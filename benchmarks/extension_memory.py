"""What the server holds in memory of answers that are on their way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.raw_clients import Carried
from tests.jupyter.conftest import Jupyter

CHUNK = 65536
SAMPLE_SECONDS = 0.02
STILL_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
MB = 1e6


def memory(server: Jupyter, download: int, readers: int, answer: int) -> dict[str, Any]:
    """By how many megabytes the server grows over a download of so many bytes, and over stalled readers of answers."""
    with Carried(server.port, server.token) as client:
        client.get(stream("warm-up", 10_000_000))
        with growth(server) as downloading:
            client.get(stream("long", download))
    with growth(server) as stalling, ExitStack() as opened:
        for number in range(readers):
            reader = opened.enter_context(Carried(server.port, server.token))
            # The system holds something for a slow reader, too; not so much that the server sees none.
            reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
            reader.send(stream(f"stalled-{number}", answer))
        written = await_standstill(server, readers) * CHUNK
    return {
        "download": {"mb": download / MB, **downloading},
        "stalled_readers": {"readers": readers, "mb_each": answer / MB, "mb_written": round(written / MB), **stalling},
    }


def stream(name: str, size: int) -> str:
    """The path of an answer of that many bytes, which is written piece by piece."""
    return f"/probe/stream/{name}?size={CHUNK}&chunks={size // CHUNK}"


def await_standstill(server: Jupyter, readers: int) -> int:
    """Wait until nothing has been written to the stalled readers for a while; how many pieces were before."""
    end = time.monotonic() + PATIENCE_SECONDS
    seen, since = -1, 0.0
    while time.monotonic() < end:
        paths = (f"probe/progress/stalled-{number}" for number in range(readers))
        now = sum(server.request("GET", path).json()["count"] for path in paths)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STILL_SECONDS:
            return seen
    raise SystemExit("the server goes on writing to readers that don't read")


@contextmanager
def growth(server: Jupyter) -> Iterator[dict[str, float]]:
    """How far the server's memory rises above where it was, during the block; known after it."""
    before = peak = server.process.memory_info().rss
    over = threading.Event()
    found: dict[str, float] = {}

    def watch() -> None:
        nonlocal peak
        while not over.wait(SAMPLE_SECONDS):
            peak = max(peak, server.process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        found.update(before_mb=round(before / MB, 1), grew_mb=round((peak - before) / MB, 1))
