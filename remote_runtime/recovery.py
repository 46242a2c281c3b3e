"""What to do about a link that was lost.  Pure: what happened goes in, the next state comes out.

::

    Up ──lost──▶ Down ──succeeded──▶ Up
                 │  ▲
                 └──┘ failed: another attempt at `retry_at`
                 │
                 └──failed for good──▶ Over ◀──closed── Up, Down

The :class:`~remote_runtime.link.Link` makes the attempts and tells the time; nothing here waits or does IO.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Union

from remote_runtime.errors import AuthenticationFailed, NetworkError, RemoteRuntimeError, TimedOut
from remote_runtime.events import LinkChanged, LinkState

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

SILENT_PAUSE_SECONDS = 0.5
"""The longest pause while nothing answers at all: such an attempt has waited long enough itself, and the next one is
what notices that the network is back."""

REFUSED_PAUSE_SECONDS = 1.0
"""The longest pause while nobody listens at the port: one packet each way costs nobody anything, and somebody will
listen again soon, as after a boot."""

LOGIN_SECONDS = 4.0
"""How long the first attempt to log in may take, if logins are quick here.  One that stalls has most likely met another
outage, and TCP's next retransmission may be far away when that ends: a new attempt is there sooner."""

LONGEST_LOGIN_SECONDS = 60.0
USUAL_LOGINS = 4.0
"""So many times what a login has taken the first time is not slow yet."""

BOOT_SECONDS = 90.0
"""For so long after a sign of booting, a login that is refused proves nothing: sshd answers before it has the keys."""

DENIALS = 2
"""A good key may be refused once, if it has just been renewed; refused again, it is not good."""


@dataclass(frozen=True)
class Up:
    """Connected and prepared."""


@dataclass(frozen=True)
class Down:
    """Lost since ``since``, for ``reason``; the next attempt is due at ``retry_at``.  Moments are monotonic seconds."""

    reason: str
    since: float
    retry_at: float
    attempts: int = 0
    denials: int = 0
    stalls: int = 0
    booting_until: float = 0.0


@dataclass(frozen=True)
class Over:
    """Closed, or failed for good because of ``error``."""

    error: RemoteRuntimeError | None = None


State = Union[Up, Down, Over]


def lost(state: State, reason: str, now: float) -> State:
    """The connection ended, or its server is gone: the first attempt to come back is due at once."""
    return Down(reason, since=now, retry_at=now) if isinstance(state, Up) else state


def hurried(state: State, now: float) -> State:
    """Something suggests that the network is back: the next attempt is due at once."""
    return replace(state, retry_at=min(now, state.retry_at)) if isinstance(state, Down) else state


def moved(source: str | None, now: str | None) -> bool:
    """Whether this computer, which sent from the address ``source``, sends from another one ``now`` (None: from none).

    A connection never follows to another address.  Having none proves nothing: the network may come back as it was.
    """
    return None not in (source, now) and now != source


def succeeded(state: State) -> State:
    """An attempt brought the link up."""
    return Up() if isinstance(state, Down) else state


def failed(state: State, error: RemoteRuntimeError, now: float, jitter: float) -> State:
    """An attempt failed with ``error``: when the next one is due, or why there will be none.

    ``jitter`` is a random number in [0.5, 1], which keeps many clients of one machine from coming back in step.
    """
    if not isinstance(state, Down):
        return state
    denied = isinstance(error, AuthenticationFailed)
    after = replace(
        state,
        reason=error.message,
        attempts=state.attempts + 1,
        denials=state.denials + 1 if denied else 0,
        stalls=state.stalls + 1 if error.code == TimedOut.code else 0,
        booting_until=now + BOOT_SECONDS if _may_be_booting(error) else state.booting_until,
    )
    final = not error.retryable
    if denied:
        final = after.denials >= DENIALS and now >= after.booting_until
    return Over(error) if final else replace(after, retry_at=now + _pause(after.attempts, error) * jitter)


def login_seconds(state: State, usual: float) -> float:
    """How long the next attempt may take to log in, where ``usual`` seconds were enough before.

    A machine may have become slow, so each attempt that stalls gives the next one twice the time.
    """
    stalls = min(state.stalls, 10) if isinstance(state, Down) else 0
    return min(LONGEST_LOGIN_SECONDS, max(LOGIN_SECONDS, USUAL_LOGINS * usual) * 2.0**stalls)


def closed(state: State) -> State:
    """The user wants no more of it."""
    return state if isinstance(state, Over) else Over()


def public(state: State) -> LinkState:
    """The state as its users know it."""
    if isinstance(state, Over):
        return "failed" if state.error else "closed"
    return "connected" if isinstance(state, Up) else "reconnecting"


def told(before: State, state: State, now: float) -> LinkChanged:
    """What to say of the change from one state to another."""
    down = now - before.since if isinstance(before, Down) else 0.0
    if isinstance(state, Down):
        return LinkChanged("reconnecting", state.reason, max(0.0, state.retry_at - now), down)
    reason = state.error.message if isinstance(state, Over) and state.error else ""
    return LinkChanged(public(state), reason, down=down)


def _may_be_booting(error: RemoteRuntimeError) -> bool:
    return isinstance(error, NetworkError)


def _pause(attempts: int, error: RemoteRuntimeError) -> float:
    # The exponent is bounded, since an outage may last for days.
    return min(_longest_pause(error), FIRST_PAUSE_SECONDS * 2.0 ** min(attempts - 1, 10))


def _longest_pause(error: RemoteRuntimeError) -> float:
    if isinstance(error, TimedOut):
        return SILENT_PAUSE_SECONDS
    return REFUSED_PAUSE_SECONDS if error.code == "connection_refused" else LONGEST_PAUSE_SECONDS
