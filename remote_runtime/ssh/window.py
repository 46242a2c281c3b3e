"""How much the VM may send ahead: enough to fill the path, and no more, since the rest would only queue on it.

Pure.  A fixed window is wrong almost everywhere: 2 MiB, OpenSSH's, is too little for a fast line to another continent,
and on a slow one it makes every small message wait behind a third of a second of somebody's download.  So the time
that an answer takes while bulk data comes in (``echo``) is compared with the shortest one ever seen on the path:
what is more is time spent in queues.
"""

from __future__ import annotations

SMALLEST_BYTES = 256 << 10
FIRST_BYTES = 2 << 20
"""As OpenSSH's."""
LARGEST_BYTES = 6 << 20
"""Beyond it sshd's own use of CPU explodes: it buffers all that it may send."""

QUEUE_SECONDS = 0.015
QUEUE_SHARE = 0.5
"""So long, or this share of the path's own round trip if that is more, may data queue: less would not keep it full."""

FIRST_GROWTH = 2.0
GROWTH = 1.3
"""Until the first queue was seen the window doubles, as TCP's does; then it is near what it should be."""
LEAST_SHRINK = 0.7
FORGET = 0.0001
"""By this share the shortest echo is raised at each sample, so that a path which became longer is believed at last."""

LEAST_CREDIT_BYTES = 32 << 10


class Tuner:
    """Finds the window for one connection; ``target`` is its answer of the moment, in bytes."""

    def __init__(self) -> None:
        self.target = FIRST_BYTES
        self._growth = FIRST_GROWTH
        self._shortest: float | None = None

    def idle_echo(self, seconds: float) -> None:
        """An answer took so long while next to nothing came in: the path itself."""
        self._shortest = seconds if self._shortest is None else min(self._shortest, seconds)

    def busy_echo(self, seconds: float, received: int) -> None:
        """An answer took so long while ``received`` bytes came in."""
        if self._shortest is None or seconds < self._shortest:
            self._shortest = seconds
        shortest = self._shortest
        self._shortest = shortest * (1 + FORGET)
        allowed = max(QUEUE_SECONDS, QUEUE_SHARE * shortest)
        queued = seconds - shortest
        if queued > allowed:
            self._growth = GROWTH
            self._set(self.target * max(LEAST_SHRINK, (shortest + allowed) / seconds))
        elif queued < allowed / 2 and received >= self.target / 2:
            self._set(self.target * self._growth)  # it was the window that kept more from coming

    def _set(self, size: float) -> None:
        self.target = int(min(LARGEST_BYTES, max(SMALLEST_BYTES, size)))


def credit(left: int, target: int) -> int:
    """How many bytes to grant now to a stream that may still send ``left``; 0 while it is too little to be worth it."""
    missing = target - left
    return missing if missing >= max(LEAST_CREDIT_BYTES, target // 8) else 0
