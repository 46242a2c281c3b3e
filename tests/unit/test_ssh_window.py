"""The receive window's tuner on simulated paths: it fills them, and keeps queues short."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from remote_runtime.ssh.window import LARGEST_BYTES, SMALLEST_BYTES, Tuner, credit


def settle(
    rtt: float, bytes_per_second: float, samples: int = 200, tuner: Tuner | None = None
) -> tuple[Tuner, float, float]:
    """A bulk download over a path that has a queue; the tuner, its throughput's share of the path's, and the echo."""
    if tuner is None:
        tuner = Tuner()
        tuner.idle_echo(rtt)
    share = echo = 0.0
    for _ in range(samples):
        on_the_way = rtt * bytes_per_second
        queue = max(0.0, tuner.target - on_the_way)
        share = min(1.0, tuner.target / on_the_way)
        echo = rtt + queue / bytes_per_second
        tuner.busy_echo(echo, int(share * bytes_per_second * echo))
    return tuner, share, echo


@pytest.mark.parametrize("rtt", [0.001, 0.005, 0.02, 0.03, 0.06, 0.12, 0.2])
@pytest.mark.parametrize("mbit", [10, 50, 200, 1000])
def test_the_path_is_filled_and_the_queue_is_short(rtt: float, mbit: float) -> None:
    bytes_per_second = mbit * 1e6 / 8
    tuner, share, echo = settle(rtt, bytes_per_second)
    reachable = min(1.0, LARGEST_BYTES / (rtt * bytes_per_second))
    assert share > 0.95 * reachable
    unavoidable = SMALLEST_BYTES / bytes_per_second
    assert echo - rtt <= max(0.03, 0.8 * rtt, unavoidable)
    assert SMALLEST_BYTES <= tuner.target <= LARGEST_BYTES


@pytest.mark.parametrize("rtt", [0.03, 0.12])
def test_it_is_steady(rtt: float) -> None:
    tuner, _, _ = settle(rtt, 6.25e6)
    targets = []
    for _ in range(50):
        queue = max(0.0, tuner.target - rtt * 6.25e6)
        tuner.busy_echo(rtt + queue / 6.25e6, 1 << 20)
        targets.append(tuner.target)
    assert max(targets) / min(targets) < 1.6


@pytest.mark.parametrize(("before", "after"), [(0.02, 0.12), (0.03, 0.2), (0.06, 0.12)])
@pytest.mark.parametrize("mbit", [10, 60, 500])
def test_a_path_that_became_longer_is_filled_again(before: float, after: float, mbit: float) -> None:
    tuner, _, _ = settle(before, mbit * 1e6 / 8)
    _, share, echo = settle(after, mbit * 1e6 / 8, tuner=tuner)
    reachable = min(1.0, LARGEST_BYTES / (after * mbit * 1e6 / 8))
    assert share > 0.95 * reachable
    assert echo - after <= max(0.03, 0.8 * after, SMALLEST_BYTES / (mbit * 1e6 / 8))


def test_a_slow_line_is_seldom_doubted() -> None:
    """Each trial makes the queue twice as long for some samples."""
    tuner, _, _ = settle(0.02, 1.25e6, 3000)
    targets = []
    for _ in range(3000):
        targets.append(tuner.target)
        tuner.busy_echo(max(0.02, tuner.target / 1.25e6), tuner.target)
    assert targets.count(SMALLEST_BYTES) > 0.99 * len(targets)


def test_an_idle_answer_says_how_long_the_path_is_now() -> None:
    tuner, _, _ = settle(0.02, 60e6 / 8)
    tuner.idle_echo(0.12)
    _, share, _ = settle(0.12, 60e6 / 8, 40, tuner=tuner)
    assert share > 0.95


def test_a_line_that_is_used_little_keeps_its_window() -> None:
    tuner = Tuner()
    before = tuner.target
    tuner.idle_echo(0.05)
    for _ in range(100):
        tuner.busy_echo(0.05, 20_000)
    assert tuner.target == before


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 60), st.integers(0, 1 << 40))))
def test_it_stays_within_its_bounds_whatever_it_is_told(samples: list[tuple[bool, float, int]]) -> None:
    tuner = Tuner()
    for busy, seconds, received in samples:
        if busy:
            tuner.busy_echo(seconds, received)
        else:
            tuner.idle_echo(seconds)
        assert SMALLEST_BYTES <= tuner.target <= LARGEST_BYTES


@given(st.integers(0, LARGEST_BYTES), st.integers(SMALLEST_BYTES, LARGEST_BYTES))
def test_credit_never_exceeds_the_target_and_is_never_withheld_when_little_is_left(left: int, target: int) -> None:
    granted = credit(left, target)
    assert granted >= 0
    assert granted == 0 or left + granted == target
    assert left + granted >= min(target, SMALLEST_BYTES) * 7 // 8 - (32 << 10)
