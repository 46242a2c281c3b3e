"""The one deadline of a request, as the host gave it."""

from __future__ import annotations

import math
import time


class Deadline:
    """The moment by which a request must be done, in seconds on the monotonic clock; None: it may take for ever."""

    def __init__(self, seconds: float | None) -> None:
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; never negative, infinite if it may take for ever."""
        return max(0.0, self._end - time.monotonic())

    def bounded(self, at_most: float) -> float:
        """Seconds left, but not more than ``at_most``."""
        return min(self.left(), at_most)

    def sooner(self, seconds: float) -> Deadline:
        """A deadline for a part of the work: ``seconds`` from now, and no later than this one."""
        return Deadline(self.bounded(seconds))

    @property
    def passed(self) -> bool:
        """Whether the moment has come."""
        return time.monotonic() >= self._end
