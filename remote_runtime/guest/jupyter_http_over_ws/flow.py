"""How much of one socket runs at once, how fast, and in which order.  No IO: it only waits for its own futures."""

from __future__ import annotations

import asyncio
from typing import Dict, Optional
from urllib.parse import unquote

from .access import WRITING


class Gate:
    """Lets in so many requests, of so many bytes together, at once; one more has to wait at the door.

    One request gets in whatever its size, if it is alone.
    """

    def __init__(self, requests: int, most_bytes: int) -> None:
        self._most_requests = requests
        self._most_bytes = most_bytes
        self._requests = 0
        self._bytes = 0
        self._waiting: Optional[asyncio.Future[None]] = None

    @property
    def closed(self) -> bool:
        """Whether somebody waits at the door."""
        return self._waiting is not None

    def enter_now(self, size: int) -> bool:
        """Let a request of ``size`` bytes in if there is room; whether there is."""
        if self._requests and (self._requests >= self._most_requests or self._bytes + size > self._most_bytes):
            return False
        self._requests += 1
        self._bytes += size
        return True

    async def enter(self, size: int) -> None:
        """Wait for room for a request of ``size`` bytes.  Only one at a time may wait."""
        while not self.enter_now(size):
            self._waiting = asyncio.get_event_loop().create_future()
            await self._waiting

    def leave(self, size: int) -> None:
        """Give back the room that a request of ``size`` bytes took."""
        self._requests -= 1
        self._bytes -= size
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None


class Pace:
    """Spreads what comes too fast: so many at once, then no more than so many a second.  It does not wait itself."""

    def __init__(self, per_second: float, at_once: int) -> None:
        self._interval = 1 / per_second
        self._ahead = at_once * self._interval
        self._due = 0.0

    def delay(self, now: float) -> float:
        """For how many seconds one that comes ``now``, in seconds of a clock that never goes back, has to wait."""
        self._due = max(self._due, now - self._ahead) + self._interval
        return max(self._due - now, 0.0)


class Turns:
    """Keeps the order that matters: what a page wrote to a path is done before its next request for that path runs.

    All of the contents are one path here: a write may make the directory of the next one, or move a file to the path
    that is asked for next.  Nobody can tell from the paths.
    """

    def __init__(self, base_url: str = "/") -> None:
        """``base_url`` is the server's."""
        base = unquote(base_url).rstrip("/")
        self._contents = base + "/api/contents"
        self._beside = tuple(f"{base}/{name}/" for name in ("api/contents", "files", "view", "nbconvert"))
        self._last_write: Dict[str, Turn] = {}

    def take(self, method: str, path: str) -> Turn:
        """Queue up; to be called in the order in which the requests came."""
        key = unquote(path.partition("?")[0])
        if key.startswith(self._beside):
            key = self._contents
        turn = Turn(self, key, self._last_write.get(key))
        if method in WRITING:
            self._last_write[key] = turn
        return turn

    def forget(self, turn: Turn) -> None:
        """Nobody needs to wait for ``turn`` any more."""
        if self._last_write.get(turn.key) is turn:
            del self._last_write[turn.key]


class Turn:
    """One request's place in the order."""

    def __init__(self, turns: Turns, key: str, before: Optional[Turn]) -> None:
        self.key = key
        self._turns = turns
        self._before = before
        self._done = asyncio.Event()

    @property
    def has_come(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._before is None or self._before._done.is_set()

    async def come(self) -> None:
        """Wait until it is this request's turn."""
        if self._before is not None:
            await self._before._done.wait()
            self._before = None

    def end(self) -> None:
        """Let the next one go."""
        self._done.set()
        self._turns.forget(self)
