"""A program that is killed at any moment leaves nothing running on its machine but what is kept for the next connect:
the machine's own SSH server, and Jupyter."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from remote_runtime import Settings
from remote_runtime._threads import Deadline
from remote_runtime.providers.sandbox import SandboxProvider
from tests.leaks import strays

FEW, MANY = 3, 20
GONE_SECONDS = 30.0
KEPT = ("sshd", "jupyter")
"""What the command lines of the processes have that may stay."""

AUTOMATION = """
import sys
from remote_runtime import ServerOptions, connect

print("begun", flush=True)
big, scratch = sys.argv[1:]
options = ServerOptions(python=sys.executable, ui="none")
with connect("job", provider="sandbox", local_port="auto", server=options) as runtime:
    runtime.put(big, "in/")
    runtime.run(["sh", "-c", "sleep 600 & sleep 0.5; kill $!"])
    runtime.execute("import subprocess, time; child = subprocess.Popen(['sleep', '600']); time.sleep(0.5)")
    with runtime.forward(runtime.server.port):
        runtime.get("in", scratch)
        runtime.execute("child.kill(); time.sleep(0.3)")
print("done", flush=True)
"""


@pytest.fixture
def sandboxes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxProvider]:
    monkeypatch.setenv("REMOTE_RUNTIME_KERNEL_LEASE", "1")
    provider = SandboxProvider(settings)
    yield provider
    forget(provider)


def forget(sandboxes: SandboxProvider) -> None:
    for left in sandboxes.list():
        sandboxes.delete(left.name, Deadline(30))


class Program:
    """The automation, which has begun; ``log`` is what it said."""

    def __init__(self, directory: Path) -> None:
        self.scratch = directory / "fetched"
        self.log = directory / "said"
        self.began = time.monotonic()
        with self.log.open("wb") as log:
            argv = [sys.executable, "-u", "-c", AUTOMATION, str(directory / "big"), str(self.scratch)]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def finish(self) -> float:
        """Wait for its end; the seconds that it took."""
        assert self.process.wait(120) == 0, self.log.read_text()
        return time.monotonic() - self.began

    def end_by(self, number: signal.Signals, moment: float) -> bool:
        """End it so many seconds after its start; whether it still ran then."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, self.began + moment - time.monotonic()))
        ours = [] if self.process.poll() is not None else psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        status = self.process.wait(30)
        assert not psutil.wait_procs(ours, GONE_SECONDS)[1], "a helper of the killed program goes on"
        return status == -number


def left(sandbox: Path) -> list[str]:
    """What runs on the sandbox and should not, and half files in it."""
    found = []
    for process in strays(sandbox):
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            kernel = "ipykernel" in command
            session = "sshd" in command and "[listener]" not in command and "-D" not in command
            if kernel or session or not any(word in command for word in KEPT):
                found.append(command)
    return found + [str(path) for path in sandbox.rglob("*.part")]


@pytest.mark.parametrize(
    "moments",
    [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_killed_at_any_moment_it_leaves_only_what_is_kept(
    moments: int, settings: Settings, sandboxes: SandboxProvider, tmp_path: Path
) -> None:
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    (tmp_path / "big").write_bytes(os.urandom(1 << 20) * 4)
    sandbox = settings.state_dir / "sandboxes" / "job"
    cold = Program(tmp_path).finish()
    warm = Program(tmp_path).finish()
    print(f"it takes {cold:.1f} s, {warm:.1f} s the next time")
    killed = 0
    for number in range(moments):
        fresh = number % 4 == 0
        if fresh:
            forget(sandboxes)
        # One in each part of the run, so that together they cover all of it.
        moment = (number + chance.random()) / moments * (cold if fresh else warm)
        how = (signal.SIGKILL, signal.SIGTERM)[number % 2]
        program = Program(tmp_path)
        killed += program.end_by(how, moment)
        print(f"{how.name} after {moment:.2f} s; it had said {program.log.read_text().split()[:1]}")
        end = time.monotonic() + GONE_SECONDS
        while found := left(sandbox):
            assert time.monotonic() < end, found
            time.sleep(0.1)
    assert killed >= moments / 2, "most moments were within the run"
    Program(tmp_path).finish()  # and the next one finds nothing in its way
