"""Two processes of this host for one machine, and processes that are killed: nothing ever blocks the next one."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import psutil
import pytest

from remote_runtime import Settings
from remote_runtime.model import Remembered
from remote_runtime.store import Store
from tests.cli.conftest import Running, json_lines, run
from tests.jupyter.machine import ALIAS, Machine
from tests.jupyter.test_connect import join

KILLS = 8
ENDED_SECONDS = 20.0

Step = tuple[int, str]
"""Which of two processes does what."""

HOLDER = """
import contextlib, sys
from pathlib import Path
from remote_runtime.errors import AlreadyConnected
from remote_runtime.store import Store

store = Store(Path(sys.argv[1]))
with contextlib.ExitStack() as held:
    for line in sys.stdin:
        if line == "hold\\n":
            try:
                held.enter_context(store.hold("ssh", "machine"))
                print("held", flush=True)
            except AlreadyConnected as error:
                print("already", error.pid, flush=True)
        else:
            held.close()
            print("free", flush=True)
"""


class Holder:
    """A process that holds the machine ``machine`` of a store, and lets it go, as it is told."""

    def __init__(self, state_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: Literal["hold", "let go"]) -> str:
        """What it answers."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        with self._process as process:
            process.kill()


def orders() -> Iterator[tuple[Step, ...]]:
    """Every order in which two processes can start and end, each in either way."""
    for ends in itertools.product(("lets go", "is killed"), repeat=2):
        steps = [(who, what) for who in (0, 1) for what in ("starts", ends[who])]
        for order in itertools.permutations(steps):
            if all(order.index((who, "starts")) < order.index((who, ends[who])) for who in (0, 1)):
                yield order


def test_two_processes_in_every_order_of_start_and_end(tmp_path: Path) -> None:
    """Whoever is first holds the machine, the other one hears who that is; when the first is gone the next one takes
    over, also when it had no time to say goodbye."""
    assert len(list(orders())) == 24
    store = Store(tmp_path)
    store.save(Remembered("machine", "ssh", local_port=8888, token="t" * 32))
    spare: list[Holder] = []  # those that let go in order serve again
    with ExitStack() as running:

        def holder() -> Holder:
            if spare:
                return spare.pop()
            new = Holder(tmp_path)
            running.callback(new.kill)
            return new

        for order in orders():
            _play(order, [holder(), holder()], spare)
            with store.hold("ssh", "machine") as known:
                assert (known.local_port, known.token) == (8888, "t" * 32), order
            assert not store.held("ssh", "machine"), order


def _play(order: Sequence[Step], both: Sequence[Holder], spare: list[Holder]) -> None:
    holds: int | None = None
    refused: list[int] = []
    for who, what in order:
        if what == "starts":
            if holds is None:
                assert both[who].ask("hold") == "held", order
                holds = who
            else:
                assert both[who].ask("hold") == f"already {both[holds].pid}", order
                refused.append(who)
            continue
        if what == "is killed":
            both[who].kill()
        else:
            assert both[who].ask("let go") == "free", order
            spare.append(both[who])
        if who in refused:
            refused.remove(who)
        elif holds == who:
            holds = refused.pop() if refused else None
            assert holds is None or both[holds].ask("hold") == "held", order


@pytest.fixture
def connecting(user: Settings, tmp_path: Path) -> Iterator[Connecting]:
    with ExitStack() as running:
        yield Connecting(tmp_path, running)


class Connecting:
    """Starts ``remote-runtime connect`` in processes of their own; all end with the test."""

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self._directory = directory
        self._running = running
        self._count = itertools.count()

    def __call__(self, *more: str) -> Running:
        arguments = ("connect", "--provider", "ssh", ALIAS, "--port", "auto", "--json", *more)
        return self._running.enter_context(Running(self._directory / f"connect-{next(self._count)}", *arguments))


def ready(running: Running) -> dict[str, str]:
    """What it says when it is ready; its URL answers."""
    running.until('"ready"')
    said: dict[str, str] = json_lines(running.out)[-1]
    with urllib.request.urlopen(said["url"].replace("/?", "/api/status?"), timeout=20) as answer:
        assert "kernels" in json.load(answer)
    return said


def refusal() -> dict[str, object]:
    """The error of a connect that comes second."""
    again = run("connect", "--provider", "ssh", ALIAS, "--port", "auto", "--json")
    assert again.returncode == 1
    error: dict[str, object] = json_lines(again.stdout)[-1]
    return error


def test_the_second_connect_is_refused_and_takes_over_when_the_first_is_gone(connecting: Connecting) -> None:
    first = connecting()
    said = ready(first)
    error = refusal()
    assert (error["code"], error["pid"], error["url"]) == ("already_connected", first.process.pid, said["url"])
    first.process.send_signal(signal.SIGSTOP)  # it stands still, but lives
    assert refusal()["code"] == "already_connected"
    first.process.kill()
    first.process.wait(ENDED_SECONDS)

    second = connecting()
    assert ready(second)["url"] == said["url"]
    assert refusal()["pid"] == second.process.pid
    assert second.end() == 0

    third = connecting()
    assert ready(third)["url"] == said["url"]
    assert third.end() == 0


def test_two_at_the_same_moment(connecting: Connecting) -> None:
    both = [connecting(), connecting()]
    end = time.monotonic() + ENDED_SECONDS
    while all(one.process.poll() is None for one in both):
        assert time.monotonic() < end, "none of them gave way"
        time.sleep(0.02)
    loser = next(one for one in both if one.process.poll() is not None)
    winner = next(one for one in both if one is not loser)
    assert loser.process.returncode == 1
    assert json_lines(loser.out)[-1]["code"] == "already_connected"
    ready(winner)
    assert winner.end() == 0


def test_what_a_killed_process_left_is_not_taken_for_a_living_one(connecting: Connecting, user: Settings) -> None:
    first = connecting()
    said = ready(first)
    first.process.kill()
    first.process.wait(ENDED_SECONDS)
    store = Store(user.state_dir)
    known = store.load("ssh", ALIAS)
    assert known
    assert known.host_pid == first.process.pid
    assert not store.held("ssh", ALIAS)
    listed = json_lines(run("list", "--json").stdout)[0]["runtimes"]
    assert [(one["state"], one["pid"]) for one in listed] == [("disconnected", None)]
    assert run("stop", ALIAS).returncode == 0
    assert known.url == said["url"]


def test_killed_at_any_moment_it_does_not_keep_the_next_one_from_connecting(
    machine: Machine, user: Settings, connecting: Connecting
) -> None:
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    machine.stop_jupyter()
    cold, (url, token) = time_connect(user)
    warm, _ = time_connect(user)
    for number in range(KILLS):
        if number % 4 == 0:
            machine.stop_jupyter()  # so that there is more to do, and more to be interrupted
        moment = chance.uniform(0, cold if number % 4 == 0 else warm)
        doomed = connecting()
        doomed.until('"step_started"')
        time.sleep(moment)
        children = psutil.Process(doomed.process.pid).children(recursive=True)
        doomed.process.kill()
        doomed.process.wait(ENDED_SECONDS)
        assert not psutil.wait_procs(children, ENDED_SECONDS)[1], "a helper of the killed process goes on"
        events = json_lines(doomed.out.rpartition("\n")[0])  # the last line may be half written
        print(f"killed {moment:.2f} s after its first word, in step {events[-1].get('step')}")
        assert time_connect(user)[1] == (url, token)


def time_connect(user: Settings) -> tuple[float, tuple[str, str]]:
    """The seconds until the URL answered; URL and token."""
    began = time.monotonic()
    with join(user, timeout=60) as runtime:
        return time.monotonic() - began, (runtime.url, runtime.token)
