"""From events to what a person sees: decided here without a terminal, drawn by a Screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from remote_runtime.cli.terminal import Style, Terminal
from remote_runtime.events import (
    Event,
    LinkChanged,
    Notice,
    StepDone,
    StepFailed,
    StepProgress,
    StepStarted,
)
from remote_runtime.text import printable

_NOTICE: Mapping[str, tuple[str, Style]] = {"info": ("·", "plain"), "warning": ("!", "warning")}

PACE_SECONDS = 2.0
"""How often a line of progress is worth one for good: an installation has hundreds of them."""

LivingLine = Callable[[], str]


class Screen(Protocol):
    """Draws lines.  ``lives``: it has a living line too, which is redrawn all the time until it is taken away."""

    lives: bool

    def line(self, text: str, style: Style) -> None:
        """Write one line for good."""

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write rows of a short name and a text beside it."""

    def living(self, text: LivingLine | None) -> None:
        """Show what ``text()`` says, anew several times a second, below all lines; None takes it away."""


class PlainScreen:
    """One line after the other, for a log file or a terminal that can't do more."""

    lives = False

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def line(self, text: str, style: Style) -> None:
        """See :class:`Screen`."""
        self._terminal.err(text, style)

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """See :class:`Screen`."""
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            self._terminal.err(f"  {name:<{width}}  {text}", hang=width + 2)

    def living(self, text: LivingLine | None) -> None:
        """There is none."""


class Narrator:
    """An event sink that tells the story on a screen; it may be called from any thread.

    ``wordy`` shows every line of progress for good; else a living line shows the newest one, and a screen without a
    living line one of them every now and then.
    ``brief`` writes no lines about steps at all, for commands whose result is what one wants to see.
    ``clock`` gives seconds.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        wordy: bool = False,
        brief: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._brief = brief
        self._pace = None if brief else 0.0 if wordy else None if screen.lives else PACE_SECONDS
        self._said = float("-inf")  # when a line of progress was last shown for good
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, float, str]] = {}  # step -> title, when it started, its newest progress
        self._lost: float | None = None  # since when the link is down
        self._retry: tuple[str, float | None] = ("", None)  # why, and when the next attempt comes

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        with self._lock:
            if isinstance(event, LinkChanged):
                self._link_changed(event)
            elif isinstance(event, Notice):
                warning = event.level == "warning"
                self._screen.line(
                    f"{'!' if warning else '·'} {printable(event.text)}", "warning" if warning else "plain"
                )
            else:
                self._step(event)
            self._screen.living(self._living_line())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the living line away while somebody else uses the terminal."""
        with self._lock:
            self._screen.living(None)
            try:
                yield
            finally:
                self._screen.living(self._living_line())

    def close(self) -> None:
        """Take the living line away for good."""
        with self._lock:
            self._open.clear()
            self._lost = None
            self._screen.living(None)

    # -- steps ------------------------------------------------------------------------------------------------------

    def _step(self, event: StepStarted | StepProgress | StepDone | StepFailed) -> None:
        if isinstance(event, StepStarted):
            title = printable(event.title)
            self._open[event.step] = (title, self._clock(), "")
            if not self._screen.lives and not self._brief:
                self._screen.line(f"· {title}", "faint")
        elif isinstance(event, StepProgress):
            title, started, _ = self._open.get(event.step, (event.step, self._clock(), ""))
            text = printable(event.text)
            self._open[event.step] = (title, started, text)
            if self._pace is not None and self._clock() - self._said >= self._pace:
                self._said = self._clock()
                self._screen.line(f"    {text}", "faint")
        else:
            title, _, _ = self._open.pop(event.step, (printable(event.step), 0.0, ""))
            good = isinstance(event, StepDone)
            self._screen.living(self._living_line())  # before the line, or it would be drawn once more below it
            if not self._brief:
                mark = "✓" if good else "✗"
                self._screen.line(f"{mark} {title}  {duration(event.seconds)}", "good" if good else "bad")

    # -- the link ---------------------------------------------------------------------------------------------------

    def _link_changed(self, event: LinkChanged) -> None:
        now = self._clock()
        if event.state == "reconnecting":
            if self._lost is None:
                self._lost = now
                self._screen.line(f"! The connection was lost{_because(event.reason)}; trying again", "warning")
            self._retry = (printable(event.reason), None if event.retry_in is None else now + event.retry_in)
        elif event.state == "connected" and self._lost is not None:
            self._screen.line(f"✓ Connected again after {duration(now - self._lost)}", "good")
            self._lost = None
        elif event.state in ("failed", "closed"):
            self._lost = None

    # -- the living line ----------------------------------------------------------------------------------------------

    def _living_line(self) -> LivingLine | None:
        """What to show now; it must not take our lock, as it is called while the screen waits for its own thread."""
        if self._open:
            title, started, text = list(self._open.values())[-1]
            return lambda: f"{title}  {duration(self._clock() - started)}" + (f"  {text}" if text else "")
        if self._lost is not None:
            lost, (reason, at) = self._lost, self._retry
            return lambda: _waiting(self._clock(), lost, reason, at)
        return None


def duration(seconds: float) -> str:
    """A time for people: ``1.2 s``, ``12 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _because(reason: str) -> str:
    return f" ({printable(reason)})" if reason else ""


def _waiting(now: float, lost: float, reason: str, at: float | None) -> str:
    left = 0 if at is None else round(at - now)
    return (
        f"Reconnecting  {duration(now - lost)}" + (f", next attempt in {left} s" if left > 0 else "") + _because(reason)
    )
