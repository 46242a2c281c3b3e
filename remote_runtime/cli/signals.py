"""Signals that ask us to end become one exception in the main thread, so that every ``with`` closes what it opened."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

CLEAN_UP_SECONDS = 5.0
"""How long the clean-up that a signal started is left in peace by the signals after it."""


class Received(BaseException):
    """A signal asked this process to end; ``number`` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """The signal's name, such as ``SIGTERM``."""
        return signal.Signals(self.number).name


class Signals:
    """While this block lasts, SIGINT, SIGTERM and SIGHUP (and Windows' SIGBREAK) raise :class:`Received`.

    The first one counts.  Those that follow while the work is being cleaned up are dropped, so that an impatient
    second Ctrl-C can't break it; after ``CLEAN_UP_SECONDS`` one more is let through, as something must be stuck.
    A SIGHUP that the caller had ignored (``nohup``) stays ignored.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._first: float | None = None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
                number = getattr(signal, name, None)
                if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None or now - self._first > CLEAN_UP_SECONDS:
            self._first = now
            raise Received(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            with suppress(TypeError):  # a handler that was not set from Python can't be set again by it
                signal.signal(number, before)
