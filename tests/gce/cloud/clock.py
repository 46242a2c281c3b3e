"""What happens by itself, later: one thread runs functions when their time has come."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable


class Clock:
    """Runs functions at their time, one after the other; closed, it runs no more.

    A function that raises is a fault of the stand-in itself: its traceback goes to ``report``.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cloud clock")
        self._thread.start()

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        """Run ``function`` in so many seconds."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._number), function))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                _, _, function = heapq.heappop(self._due)
            try:
                function()
            except Exception:  # noqa: BLE001 the top of a thread
                self._report(traceback.format_exc())
