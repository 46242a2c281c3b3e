"""Deadlines, the pause between attempts, and threads that can't outlive their owner."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime._threads import Deadline, ThreadGroup, timed_out
from remote_runtime.errors import RemoteRuntimeError, TimedOut

seconds = st.floats(min_value=0, max_value=1e9)


@given(seconds, st.none() | seconds)
def test_remaining_is_never_negative_nor_more_than_asked(total: float, at_most: float | None) -> None:
    left = Deadline(total).remaining(at_most)
    assert left is not None
    assert 0 <= left <= total
    assert at_most is None or left <= at_most


@given(seconds)
def test_no_deadline_leaves_what_is_asked(at_most: float) -> None:
    never = Deadline(None)
    assert never.remaining() is None
    assert never.remaining(at_most) == never.bounded(at_most) == at_most
    assert not never.expired
    never.check("waiting")


@given(seconds, seconds)
def test_a_part_ends_no_later_than_the_whole(total: float, part: float) -> None:
    whole = Deadline(total)
    left = whole.sooner(part).remaining()
    assert left is not None
    assert left <= min(total, part)


def test_a_part_of_no_deadline_has_one() -> None:
    left = Deadline(None).sooner(5).remaining()
    assert left is not None
    assert left <= 5


def test_a_passed_deadline_says_what_it_was_doing() -> None:
    deadline = Deadline(0)
    assert deadline.expired
    assert deadline.remaining() == 0
    with pytest.raises(TimedOut, match="Timed out after 0 s while shelling peas") as caught:
        deadline.check("shelling peas")
    assert caught.value.code == "timeout"
    assert caught.value.retryable
    assert "--timeout" in caught.value.hint


def test_a_time_out_without_a_number_names_none() -> None:
    assert timed_out("waiting", None).message == "Timed out while waiting"


def test_leaving_the_block_stops_and_joins_every_thread() -> None:
    stopping = threading.Event()
    ended: list[str] = []

    def run() -> None:
        stopping.wait(10)
        time.sleep(0.01)
        ended.append(threading.current_thread().name)

    with ThreadGroup(stopping.set) as group:
        group.spawn("one", run)
        group.spawn("two", run)
        assert {"one", "two"} <= {thread.name for thread in threading.enumerate()}
        assert not ended
    assert sorted(ended) == ["one", "two"]
    group.close()  # twice does no harm


def test_an_exception_in_the_block_ends_the_threads_too() -> None:
    stopping = threading.Event()
    with pytest.raises(KeyError), ThreadGroup(stopping.set) as group:
        group.spawn("worker", lambda: None if stopping.wait(10) else pytest.fail("was not stopped"))
        raise KeyError
    assert stopping.is_set()
    assert "worker" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_does_not_end_is_reported_by_name() -> None:
    release = threading.Event()
    group = ThreadGroup(lambda: None)

    def deaf() -> None:
        release.wait(10)

    group.spawn("deaf", deaf)
    group.spawn("polite", lambda: None)
    started = time.monotonic()
    with pytest.raises(RemoteRuntimeError, match=r"did not end within 0\.05 s: deaf$") as caught:
        group.close(0.05)
    assert caught.value.code == "internal"
    assert time.monotonic() - started < 5, "the join is bounded"
    release.set()
    group.close()


def test_a_thread_may_close_its_own_group() -> None:
    closed = threading.Event()
    group = ThreadGroup(lambda: None)

    def run() -> None:
        group.close()
        closed.set()

    group.spawn("own", run)
    assert closed.wait(5)
    group.close()


def test_a_long_lived_group_forgets_threads_that_ended() -> None:
    with ThreadGroup(lambda: None) as group:
        for number in range(50):
            group.spawn(f"short-{number}", lambda: None)
            group.close()
        assert len(group._threads) == 1


def test_a_group_may_be_closed_while_another_thread_spawns_in_it() -> None:
    def spawn_many() -> None:
        for _ in range(300):
            group.spawn("short", lambda: None)

    group = ThreadGroup(lambda: None)
    spawner = threading.Thread(target=spawn_many)
    spawner.start()
    while spawner.is_alive():
        group.close()
    spawner.join()
    group.close()
