"""How much the VM may send ahead: enough to fill the path, and no more, since the rest would only queue on it.

Pure.  A fixed window is wrong almost everywhere: 2 MiB, OpenSSH's, is too little for a fast line to another continent,
and on a slow one it makes every small message wait behind a third of a second of somebody's download.  So the time
that an answer takes while bulk data comes in (``echo``) is compared with the shortest one ever seen on the path:
what is more is time spent in queues.

Unless the path itself has become longer, by another network or another route.  With the smallest window both look the
same: the same bytes come in the same time.  So there the window is doubled now and then: if it only queues, no more
comes in; if the path is longer, more does.
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

DOUBT_SAMPLES = 10
"""After so many samples with the smallest window it is doubted that the path is as short as it was; later ones take
twice as many, up to the most."""
MOST_DOUBT_SAMPLES = 1280
TRIAL_SAMPLES = 3
"""The first of these may have been under way before the window was doubled."""
MORE = 1.2
"""By this ratio more has to come in."""

LEAST_CREDIT_BYTES = 32 << 10


class Tuner:
    """Finds the window for one connection; ``target`` is its answer of the moment, in bytes."""

    def __init__(self) -> None:
        self.target = FIRST_BYTES
        self._growth = FIRST_GROWTH
        self._shortest: float | None = None
        self._doubt_after = DOUBT_SAMPLES
        self._at_smallest = 0  # samples
        self._before_trial = (0.0, 0.0)  # the echo, and bytes per second
        self._trial = 0  # samples that are left

    def idle_echo(self, seconds: float) -> None:
        """An answer took so long while next to nothing came in: the path itself, as it is now."""
        self._shortest = seconds

    def busy_echo(self, seconds: float, received: int) -> None:
        """An answer took so long while ``received`` bytes came in."""
        if self._trial:
            self._try(received / seconds if seconds else 0.0)
            return
        shortest = self._shortest = min(seconds, self._shortest or seconds)
        allowed = max(QUEUE_SECONDS, QUEUE_SHARE * shortest)
        queued = seconds - shortest
        if queued > allowed:
            self._growth = GROWTH
            self._set(self.target * max(LEAST_SHRINK, (shortest + allowed) / seconds))
            self._doubt(seconds, received)
        elif queued < allowed / 2 and received >= self.target / 2:
            self._set(self.target * self._growth)  # it was the window that kept more from coming

    def _doubt(self, seconds: float, received: int) -> None:
        """Begin a trial if the window has been at its smallest for long."""
        self._at_smallest = self._at_smallest + 1 if self.target == SMALLEST_BYTES else 0
        if self._at_smallest >= self._doubt_after:
            self._at_smallest = 0
            self._before_trial, self._trial = (seconds, received / seconds), TRIAL_SAMPLES
            self._set(self.target * 2)

    def _try(self, rate: float) -> None:
        """Take a sample of a trial, in bytes per second; the last one decides."""
        self._trial -= 1
        if self._trial:
            return
        seconds, before = self._before_trial
        if rate > before * MORE:
            self._shortest = seconds
            self._growth, self._doubt_after = FIRST_GROWTH, DOUBT_SAMPLES
        else:
            self._set(SMALLEST_BYTES)
            self._doubt_after = min(2 * self._doubt_after, MOST_DOUBT_SAMPLES)

    def _set(self, size: float) -> None:
        self.target = int(min(LARGEST_BYTES, max(SMALLEST_BYTES, size)))


def credit(left: int, target: int) -> int:
    """How many bytes to grant now to a stream that may still send ``left``; 0 while it is too little to be worth it."""
    missing = target - left
    return missing if missing >= max(LEAST_CREDIT_BYTES, target // 8) else 0
