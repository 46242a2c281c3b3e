"""Nothing of a laboratory network stays, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.netlab import Netlab, NetlabError, unavailable
from benchmarks.netlab.leftovers import DIRECTORY
from tests.netlab import StartNetlab, eventually

pytestmark = pytest.mark.netns

PROJECT = Path(__file__).parents[2]


def links() -> str:
    return subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout


def line_of(pid: int) -> psutil.Process:
    lines = [child for child in psutil.Process(pid).children() if "benchmarks.netlab.line" in child.cmdline()]
    assert len(lines) == 1
    return lines[0]


def all_gone(names: list[str], *processes: psutil.Process) -> bool:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    running = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return not running and not any(name in listed or (DIRECTORY / name).exists() for name in names)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left(netlab: StartNetlab, error: type[BaseException] | None) -> None:
    before = links()
    sleep = [
        sys.executable,
        "-c",
        "import os, signal, time; os.fork() or os.setsid(); print(flush=True); time.sleep(600)",
    ]
    try:
        with Netlab() as lab:
            names = [lab.near.name, lab.far.name]
            assert all((DIRECTORY / name).exists() for name in names)
            assert not all_gone(names)
            sleeper = lab.far.popen(sleep, stdout=subprocess.PIPE)
            sleeper.stdout.readline()
            sleepers = [psutil.Process(sleeper.pid), *psutil.Process(sleeper.pid).children(), line_of(os.getpid())]
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert len(sleepers) == 3
    assert all_gone(names, *sleepers)
    assert links() == before
    lab.close()


def test_a_laboratory_that_can_not_be_set_up_leaves_nothing(netlab: StartNetlab) -> None:
    with pytest.raises(NetlabError, match="congestion"), Netlab(congestion_control="no-such-algorithm"):
        pass
    assert [place for place in DIRECTORY.iterdir() if f"-{os.getpid()}-" in place.name] == []


def test_a_line_that_dies_is_told_and_leaves_nothing(netlab: StartNetlab) -> None:
    with pytest.raises(NetlabError, match="delay line ended"), Netlab() as lab:
        names = [lab.near.name, lab.far.name]
        line = line_of(os.getpid())
        line.kill()
        lab.statistics()
    assert all_gone(names, line)


OWNER = """
import json, sys, time
from benchmarks.netlab import Netlab
with Netlab() as lab:
    sleeper = lab.far.popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(json.dumps([[lab.near.name, lab.far.name], sleeper.pid]), flush=True)
    time.sleep(600)
"""


@contextmanager
def owner() -> Iterator[tuple[psutil.Process, psutil.Process, psutil.Process, list[str]]]:
    """Another process with a laboratory: itself, its line, a process far away, and the names of the namespaces."""
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=PROJECT, stdout=subprocess.PIPE) as process:
        try:
            names, pid = json.loads(process.stdout.readline())
            yield psutil.Process(process.pid), line_of(process.pid), psutil.Process(pid), names
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_owner_that_is_killed_leaves_nothing(netlab: StartNetlab, number: signal.Signals) -> None:
    before = links()
    with owner() as (process, line, sleeper, names):
        process.send_signal(number)
        assert eventually(lambda: all_gone(names, process, line, sleeper))
    assert links() == before


def test_what_nobody_could_remove_is_removed_by_the_next(netlab: StartNetlab) -> None:
    with owner() as (process, line, sleeper, names):
        netlab()
        assert not all_gone(names[:1]), "the owner lives, so its namespaces are its own"
        line.kill()
        process.kill()
        assert eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert sleeper.is_running()
        assert not all_gone(names[1:])
        netlab()
        assert all_gone(names, process, line, sleeper)


def test_the_reason_is_given_where_it_can_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "defpath", "")
    unavailable.cache_clear()
    try:
        assert "iproute2" in (unavailable() or "")
    finally:
        unavailable.cache_clear()
