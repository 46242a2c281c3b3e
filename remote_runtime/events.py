"""What happened, as frozen values: one stream feeds the terminal, JSON lines, callbacks and the log.

An event never carries a secret, so a sink may write it anywhere.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

LinkState = Literal["connected", "reconnecting", "failed", "closed"]


@dataclass(frozen=True)
class StepStarted:
    """A step of the story begins; ``title`` says it in the present participle."""

    event: ClassVar[str] = "step_started"
    step: str
    title: str


@dataclass(frozen=True)
class StepProgress:
    """News from within a step, such as the line that an installer just wrote."""

    event: ClassVar[str] = "step_progress"
    step: str
    text: str


@dataclass(frozen=True)
class StepDone:
    """A step ended well after ``seconds``."""

    event: ClassVar[str] = "step_done"
    step: str
    seconds: float


@dataclass(frozen=True)
class StepFailed:
    """A step ended with an error, which is on its way to the caller."""

    event: ClassVar[str] = "step_failed"
    step: str
    seconds: float
    code: str


@dataclass(frozen=True)
class Notice:
    """Something the person should know: ``level`` is ``info`` or ``warning``, ``code`` is stable."""

    event: ClassVar[str] = "notice"
    code: str
    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True)
class LinkChanged:
    """The link to the VM changed its state.

    ``reason`` says why in words, ``retry_in`` after how many seconds the next attempt comes (None: none will), and
    ``down`` for how many seconds the link is, or was, not there.
    """

    event: ClassVar[str] = "link_changed"
    state: LinkState
    reason: str = ""
    retry_in: float | None = None
    down: float = 0.0


Event = Union[StepStarted, StepProgress, StepDone, StepFailed, Notice, LinkChanged]
EventSink = Callable[[Event], None]

_log = logging.getLogger("remote_runtime")


def to_dict(event: Event) -> dict[str, Any]:
    """The event as plain values with its name under ``"event"``: one JSON line of the command line's ``--json``."""
    return {"event": event.event, **dataclasses.asdict(event)}


def log_event(event: Event) -> None:
    """The default sink: warnings and failures at WARNING, the rest at INFO, to the ``remote_runtime`` logger.

    A notice is logged by its words and its code, as programs that set up no logging show warnings to a person.
    """
    serious = isinstance(event, StepFailed) or (isinstance(event, Notice) and event.level == "warning")
    words = f"{event.text} ({event.code})" if isinstance(event, Notice) else to_dict(event)
    _log.log(logging.WARNING if serious else logging.INFO, "%s", words)


def guarded(sink: EventSink) -> EventSink:
    """Wrap a caller's sink so that an exception in it is logged and can't break the work that it watches."""

    def deliver(event: Event) -> None:
        try:
            sink(event)
        except Exception:  # noqa: BLE001 - a caller's code may raise anything
            _log.exception("the event callback failed on %s", event.event)

    return deliver


@contextmanager
def step(sink: EventSink, name: str, title: str) -> Iterator[None]:
    """Tell ``sink`` when a step starts and how it ends."""
    started = time.monotonic()
    sink(StepStarted(name, title))
    try:
        yield
    except BaseException as error:
        sink(StepFailed(name, time.monotonic() - started, getattr(error, "code", type(error).__name__)))
        raise
    sink(StepDone(name, time.monotonic() - started))
