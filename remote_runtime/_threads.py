"""Threads with an owner, and one deadline for a whole call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from remote_runtime.errors import RemoteRuntimeError, TimedOut

JOIN_SECONDS = 10.0
SLICE_SECONDS = 0.2


class Deadline:
    """The moment by which a whole call must be done; it is passed down through every step.

    ``Deadline(None)`` never passes by itself.  All values are seconds on the monotonic clock.  Another thread may
    :meth:`cancel` it: what waits by :meth:`wait` then ends within ``SLICE_SECONDS``.
    """

    def __init__(self, seconds: float | None, *, within: Deadline | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._within = within
        self.seconds = seconds

    def remaining(self, at_most: float | None = None) -> float | None:
        """Seconds left, not more than ``at_most``; None means without bound.  Never negative."""
        if self._within:
            at_most = self._within.remaining(at_most)
        if self._end is None:
            return at_most
        left = max(0.0, self._end - time.monotonic())
        return left if at_most is None else min(left, at_most)

    def bounded(self, at_most: float) -> float:
        """Seconds left, but not more than ``at_most``: always a number."""
        left = self.remaining(at_most)
        return at_most if left is None else left

    def sooner(self, seconds: float | None) -> Deadline:
        """A deadline for a part of the work: ``seconds`` from now (None: any time), and no later than this one."""
        return Deadline(seconds, within=self)

    def cancel(self) -> None:
        """Let it pass now, for all who hold it."""
        self._end = time.monotonic()

    def wait(self, event: threading.Event) -> bool:
        """Wait for ``event``; False if the deadline passed or was cancelled before it was set."""
        while not event.wait(self.bounded(SLICE_SECONDS)):
            if self.expired:
                return False
        return True

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self.remaining() == 0.0

    def check(self, doing: str) -> None:
        """Raise :class:`TimedOut` if the moment has passed while ``doing`` something."""
        if self.expired:
            raise timed_out(doing, self.seconds)


def timed_out(doing: str, seconds: float | None) -> TimedOut:
    """The error for a deadline that passed while ``doing`` something."""
    after = "" if seconds is None else f" after {seconds:g} s"
    return TimedOut(
        f"Timed out{after} while {doing}",
        hint="Try again, or give it longer with --timeout SECONDS.",
    )


class ThreadGroup:
    """Threads that can't outlive this ``with`` block.

    Leaving the block calls ``stop`` (which must make every thread return) and joins them.  The join is bounded:
    a thread that does not end is a defect, and is raised as one rather than waited for.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()  # one thread may close the group while another spawns in it
        self._threads: list[threading.Thread] = []

    def spawn(self, name: str, run: Callable[[], None]) -> None:
        """Start ``run`` in a thread called ``name``."""
        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
            thread.start()

    def close(self, seconds: float = JOIN_SECONDS) -> None:
        """Stop and join every thread; safe to call twice, and from one of the threads itself."""
        self._stop()
        deadline = Deadline(seconds)
        with self._lock:
            others = [t for t in self._threads if t is not threading.current_thread()]
        for thread in others:
            thread.join(deadline.remaining())
        stuck = [t.name for t in others if t.is_alive()]
        if stuck:
            raise RemoteRuntimeError(
                f"Threads did not end within {seconds:g} s: {', '.join(stuck)}",
                hint="This is a defect in remote-runtime: please report it.",
                code="internal",
            )

    def __enter__(self) -> ThreadGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
