"""Reads the machine's gauges: memory, disk, GPUs.  What a system does not tell is left out, never guessed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import List, Optional

from . import gauges

FRESH_SECONDS = 2.0
"""How long a reading is given out again: several pages may ask, each every few seconds."""

GPU_SECONDS = 2.0
"""How long ``nvidia-smi`` may take; a healthy driver answers in a tenth of that."""

GPU_REST_SECONDS = 60.0
"""How long it is left alone after it did not answer: a driver that hangs would collect one process per reading."""

PROC = "/proc"
CGROUP = "/sys/fs/cgroup"


@dataclass(frozen=True)
class Reading:
    """What the machine had at one moment."""

    memory: Optional[gauges.Memory]
    disk: Optional[gauges.Disk]
    gpus: List[gauges.Gpu]


class Resources:
    """The machine's resources; ``directory`` is on the disk that counts."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._graphics = Graphics()
        self._read_at = 0.0
        self._reading: Optional[asyncio.Future[Reading]] = None

    async def read(self) -> Reading:
        """A reading not older than :data:`FRESH_SECONDS`; however many ask, only one is taken at a time.

        It is taken in a thread, since neither a disk nor a driver answers within a time that one could rely on.
        """
        current = self._reading
        if current is None or (current.done() and time.monotonic() - self._read_at > FRESH_SECONDS):
            self._read_at = time.monotonic()
            current = self._reading = asyncio.get_event_loop().run_in_executor(None, self._take)
        return await asyncio.shield(current)  # who asked may leave; the others still wait

    def _take(self) -> Reading:
        return Reading(read_memory(), read_disk(self._directory), self._graphics.read())


class Graphics:
    """Asks the driver of the GPUs."""

    def __init__(self) -> None:
        self._rests_until = 0.0

    def read(self) -> List[gauges.Gpu]:
        """The GPUs; none if there is no driver, or it does not answer in time."""
        program = shutil.which("nvidia-smi")
        if program is None or time.monotonic() < self._rests_until:
            return []
        query = "--query-gpu=" + ",".join(gauges.GPU_FIELDS)
        try:
            process = subprocess.Popen(
                [program, query, "--format=csv,noheader,nounits"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return []
        try:
            table = process.communicate(timeout=GPU_SECONDS)[0]
        except subprocess.TimeoutExpired:
            self._rests_until = time.monotonic() + GPU_REST_SECONDS
            _abandon(process)
            return []
        return gauges.gpus(table.decode("utf-8", "replace")) if process.returncode == 0 else []


def read_memory(proc: str = PROC, cgroup: str = CGROUP) -> Optional[gauges.Memory]:
    """The memory that this process can have: the machine's, or what its control groups leave of it."""
    found = gauges.memory(_text(os.path.join(proc, "meminfo")))
    if found is None:
        return None
    for directory, files in gauges.group_directories(_text(os.path.join(proc, "self", "cgroup"))):
        limit, usage, stat = (
            _text(os.path.join(cgroup, directory, name)) for name in (files.limit, files.usage, "memory.stat")
        )
        found = gauges.within_group(found, limit, usage, stat, files)
    return found


def read_disk(directory: str) -> Optional[gauges.Disk]:
    """The file system that ``directory`` is on."""
    try:
        found = shutil.disk_usage(directory)
    except OSError:
        return None
    return gauges.Disk(found.total, found.used, found.free)


def read_resident(pid: int, proc: str = PROC) -> Optional[int]:
    """The bytes of memory that the process ``pid`` has."""
    page_size = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return gauges.resident(_text(os.path.join(proc, str(pid), "statm")), page_size)


def read_uptime(proc: str = PROC) -> Optional[float]:
    """Seconds since the machine started."""
    return gauges.uptime(_text(os.path.join(proc, "uptime")))


def _text(path: str) -> str:
    """What the file says, "" if it is not there or not for us."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill ``process``, and wait a moment for it: one that is stuck in its driver does not even die."""
    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with suppress(subprocess.TimeoutExpired):  # it is collected when the next process is started
        process.wait(timeout=0.5)
