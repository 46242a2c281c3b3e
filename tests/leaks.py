"""A test that leaves a thread, an open file or a process behind fails, even if all its asserts hold.

What is there before the test's own fixtures are set up belongs to somebody else (a fixture of a wider scope); what is
new when they are all torn down gets a short grace to go away by itself, and is then a leak.  Detached processes are
nobody's children: they are recognised by the test's temporary directory in their environment or arguments.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

GRACE_SECONDS = 2.0

_LASTING_FILES = (
    "/dev/urandom",  # a random generator may keep its source open for the life of the process
    "/dev/random",
)
"""Files that a library opens once per process, at a moment that nobody controls."""


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves something behind."""
    with watched(request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None):
        yield


@pytest.fixture(autouse=True, scope="session")
def session_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same for the fixtures of a wider scope, whose end no single test sees."""
    with watched(tmp_path_factory.getbasetemp()):
        yield


@dataclass
class Present:
    """What there is at one moment."""

    threads: set[threading.Thread] = field(default_factory=set)
    files: set[tuple[int, str]] = field(default_factory=set)
    processes: set[psutil.Process] = field(default_factory=set)

    @classmethod
    def now(cls) -> Present:
        return cls(set(threading.enumerate()), _open_files(), {p for p in _descendants(os.getpid()) if _counts(p)})

    def since(self, before: Present, directory: Path | None) -> Present:
        """What is here and was not before, and nobody may keep; with the strays of ``directory``."""
        new = {process for process in self.processes - before.processes if not _owned(process, before.processes)}
        return Present(
            {thread for thread in self.threads - before.threads if thread.is_alive()},
            {file for file in self.files - before.files if file[1] not in _LASTING_FILES},
            new | (strays(directory) if directory else set()),
        )

    def __bool__(self) -> bool:
        return bool(self.threads or self.files or self.processes)

    def __str__(self) -> str:
        lines = [f"thread {thread.name} ({thread!r})" for thread in self.threads]
        lines += [f"file descriptor {number}: {target}" for number, target in sorted(self.files)]
        lines += [f"process {process.pid}: {_command(process)}" for process in self.processes]
        return "\n".join(lines)


@contextmanager
def watched(directory: Path | None) -> Iterator[None]:
    """Fail if the block leaves something behind, also in processes that were started for ``directory``."""
    before = Present.now()
    yield
    left = Present.now().since(before, directory)
    if left:
        gc.collect()  # an object in a reference cycle is closed here, with its ResourceWarning
    end = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = Present.now().since(before, directory)
    if left:
        report = f"left behind {GRACE_SECONDS:g} s after the end:\n{left}"
        for process in left.processes:  # or every later test would have them to suffer
            with suppress(psutil.Error):
                process.kill()
        pytest.fail(report, pytrace=False)


def strays(directory: Path) -> set[psutil.Process]:
    """Every process but this one that has a path below ``directory`` in its environment or arguments."""
    mark = f"{directory}{os.sep}".encode()
    found = set()
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            started_with = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            if mark in started_with and pid != os.getpid():
                found.add(psutil.Process(pid))
    return {process for process in found if _counts(process)}


def _open_files() -> set[tuple[int, str]]:
    """Number and target of every open descriptor; sockets and pipes are named by their inode.

    The three standard ones are pytest's: it replaces them while it captures.
    """
    directory = Path("/proc/self/fd")
    found = set()
    for number in directory.iterdir() if directory.is_dir() else ():
        with suppress(OSError):  # the descriptor of this very listing is closed by now
            if int(number.name) > 2:
                found.add((int(number.name), str(number.readlink())))
    return found


def _descendants(pid: int) -> set[psutil.Process]:
    """Children and theirs; the kernel's own list of them is quicker to read than a table of all processes."""
    tasks = Path(f"/proc/{pid}/task")
    if not Path(f"/proc/self/task/{threading.get_native_id()}/children").exists():
        return set(psutil.Process(pid).children(recursive=True))
    found = set()
    with suppress(OSError, psutil.Error):
        for child in (int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()):
            with suppress(psutil.Error):
                found.add(psutil.Process(child))
            found |= _descendants(child)
    return found


def _counts(process: psutil.Process) -> bool:
    """Whether it still runs; a dead child of ours that nobody waited for is a leak too, another's is not."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE or process.ppid() == os.getpid()
    return False


def _owned(process: psutil.Process, owners: set[psutil.Process]) -> bool:
    """Whether one of ``owners`` started it: a server of a wider fixture may come and go with its own children."""
    with suppress(psutil.Error):
        return any(parent in owners for parent in process.parents())
    return False


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()) or process.name()
    return "(gone)"
