"""What to do about a lost link: every order of happenings, driven by hypothesis."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remote_runtime import recovery
from remote_runtime.errors import (
    AuthenticationFailed,
    HostKeyError,
    NetworkError,
    RemoteRuntimeError,
    ServerError,
    TimedOut,
)
from remote_runtime.recovery import (
    BOOT_SECONDS,
    LOGIN_SECONDS,
    LONGEST_LOGIN_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REFUSED_PAUSE_SECONDS,
    SILENT_PAUSE_SECONDS,
    USUAL_LOGINS,
    Down,
    Over,
    Up,
)

REFUSED = NetworkError("refused", code="connection_refused")
SILENT = TimedOut("silent", code="unreachable")
STALLED = TimedOut("stalled")
DENIED = AuthenticationFailed("denied")
DYING = ServerError("it died", retryable=True)
CHANGED = HostKeyError("changed", code="host_key_changed")
STOPPED = ServerError("stopped", code="server_stopped")
OUTCOMES = [None, REFUSED, SILENT, STALLED, DENIED, DYING, CHANGED, STOPPED]


def fail(state: recovery.State, *errors: RemoteRuntimeError, now: float = 0.0) -> recovery.State:
    for error in errors:
        state = recovery.failed(state, error, now, 1.0)
    return state


def down(now: float = 0.0) -> recovery.State:
    return recovery.lost(Up(), "cut", now)


def test_the_first_attempt_is_due_at_once() -> None:
    assert down(7.0) == Down("cut", since=7.0, retry_at=7.0)


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (DYING, [0.25, 0.5, 1, 2, 4, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]),
        (REFUSED, [0.25, 0.5, *[REFUSED_PAUSE_SECONDS] * 5]),
        (SILENT, [0.25, *[SILENT_PAUSE_SECONDS] * 1000]),
    ],
)
def test_pauses_double_up_to_a_cap_which_is_low_where_an_attempt_costs_nobody_anything(
    error: RemoteRuntimeError, pauses: list[float]
) -> None:
    state = down()
    for pause in pauses:
        state = fail(state, error)
        assert isinstance(state, Down)
        assert state.retry_at == pause


def test_a_login_that_stalls_is_given_up_soon_and_the_next_one_has_twice_the_time() -> None:
    def patience(*errors: RemoteRuntimeError, usual: float = 0.1) -> float:
        return recovery.login_seconds(fail(down(), *errors), usual)

    assert patience() == LOGIN_SECONDS
    assert patience(STALLED, STALLED) == 4 * LOGIN_SECONDS
    assert patience(*[STALLED] * 1000) == LONGEST_LOGIN_SECONDS
    assert patience(STALLED, STALLED, SILENT) == LOGIN_SECONDS, "where nothing answers at all nothing is slow"
    assert patience(usual=3.0) == 3.0 * USUAL_LOGINS
    assert recovery.login_seconds(Up(), 3.0) == 3.0 * USUAL_LOGINS


def test_a_changed_host_key_and_a_server_stopped_on_purpose_are_final_at_once() -> None:
    assert fail(down(), CHANGED) == Over(CHANGED)
    assert fail(down(), DYING, STOPPED) == Over(STOPPED)


def test_a_refused_login_is_final_the_second_time_but_never_while_it_may_be_booting() -> None:
    assert isinstance(fail(down(), DENIED), Down)
    assert fail(down(), DENIED, DENIED) == Over(DENIED)
    booting = fail(down(), REFUSED, DENIED, DENIED, DENIED)
    assert isinstance(booting, Down)
    assert isinstance(fail(booting, DENIED, now=BOOT_SECONDS - 1), Down)
    assert fail(booting, DENIED, now=BOOT_SECONDS) == Over(DENIED)


def test_waking_up_hurries_the_next_attempt_and_nothing_else() -> None:
    waiting = fail(down(), *[DYING] * 9)
    assert isinstance(waiting, Down)
    hurried = recovery.hurried(waiting, 2.0)
    assert isinstance(hurried, Down)
    assert hurried.retry_at == 2.0
    assert recovery.hurried(hurried, 3.0) == hurried
    assert recovery.hurried(Up(), 3.0) == Up()


class Recovery(RuleBasedStateMachine):
    """A link to which anything happens at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state: recovery.State = Up()
        self.attempts: list[float] = []
        self.closed = False

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_connection_is_lost(self) -> None:
        before = self.state
        self.state = recovery.lost(self.state, "cut", self.now)
        assert isinstance(before, Up) or self.state == before

    @rule()
    def the_computer_wakes(self) -> None:
        self.state = recovery.hurried(self.state, self.now)

    @precondition(lambda self: isinstance(self.state, Down))
    @rule(error=st.sampled_from(OUTCOMES), jitter=st.floats(0.5, 1.0))
    def the_next_attempt_is_made(self, error: RemoteRuntimeError | None, jitter: float) -> None:
        assert isinstance(self.state, Down)
        assert self.state.retry_at - self.now <= LONGEST_PAUSE_SECONDS, "nobody waits longer than the cap"
        self.now = max(self.now, self.state.retry_at)
        self.attempts.append(self.now)
        if error is None:
            self.state = recovery.succeeded(self.state)
            assert self.state == Up()
            self.attempts.clear()  # an authenticated connection starts the pauses anew
        else:
            self.state = recovery.failed(self.state, error, self.now, jitter)
            assert isinstance(self.state, Down) or self.state == Over(error)
            assert isinstance(self.state, Down) or not error.retryable

    @rule()
    def it_is_closed(self) -> None:
        self.state = recovery.closed(self.state)
        self.closed = True

    @invariant()
    def what_is_over_stays_over(self) -> None:
        if self.closed:
            assert isinstance(self.state, Over)

    @invariant()
    def there_is_no_storm_of_attempts(self) -> None:
        recent = [moment for moment in self.attempts if self.now - moment < 1.0]
        assert len(recent) <= 8

    @invariant()
    def a_link_that_is_down_has_an_attempt_ahead(self) -> None:
        if isinstance(self.state, Down):
            assert self.state.retry_at <= self.now + LONGEST_PAUSE_SECONDS


TestRecovery = Recovery.TestCase


@pytest.mark.parametrize(
    ("source", "now", "moved"),
    [
        ("10.0.0.1", "10.0.0.1", False),
        ("10.0.0.1", "192.168.1.7", True),
        ("10.0.0.1", None, False),  # no network: it may come back as it was
        (None, "10.0.0.1", False),  # by way of a proxy, say, of which nothing is known
    ],
)
def test_another_address_is_another_network(source: str | None, now: str | None, moved: bool) -> None:
    assert recovery.moved(source, now) is moved
