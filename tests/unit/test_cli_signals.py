"""Signals become the end of the work: the first one counts, and its clean-up is left in peace."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from remote_runtime.cli.signals import Received, Signals

NAMES = ["SIGINT", "SIGTERM", "SIGHUP"]

WORK = """
import os, signal, sys, time
from remote_runtime.cli import signals
from remote_runtime.cli.signals import Received, Signals
signals.CLEAN_UP_SECONDS = {patience}
try:
    with Signals():
        try:
            print("working", flush=True)
            time.sleep(30)
        finally:
            for name in {again}:
                os.kill(os.getpid(), getattr(signal, name))
            time.sleep(0.05)
            print("cleaned up", flush=True)
except Received as end:
    sys.exit(end.name)
"""


def work(signal_name: str, *, again: list[str], patience: float = 5) -> tuple[str, str]:
    code = WORK.format(again=again, patience=patience)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.Signals[signal_name])
        return process.communicate(timeout=20)


@pytest.mark.parametrize("name", NAMES)
def test_more_signals_do_not_break_the_clean_up(name: str) -> None:
    assert work(name, again=NAMES) == ("cleaned up\n", f"{name}\n")


def test_a_clean_up_that_is_stuck_can_be_ended() -> None:
    assert work("SIGTERM", again=["SIGINT"], patience=0) == ("", "SIGINT\n")


def test_nohup_is_respected() -> None:
    code = (
        "import os, signal\n"
        "from remote_runtime.cli.signals import Signals\n"
        "with Signals():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('still here')\n"
    )
    argv = ["nohup", sys.executable, "-c", code]
    answer = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert answer.stdout == "still here\n", answer.stderr


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(signal.Signals[name]) for name in NAMES]
    with pytest.raises(Received) as caught, Signals():
        signal.raise_signal(signal.SIGTERM)
    assert (caught.value.number, caught.value.name) == (15, "SIGTERM")
    assert [signal.getsignal(signal.Signals[name]) for name in NAMES] == before


def test_another_thread_may_use_the_command_line_too() -> None:
    def enter() -> None:
        with Signals():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(10)
    assert done == [True]
