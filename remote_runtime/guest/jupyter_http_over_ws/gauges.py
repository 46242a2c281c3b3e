"""What the machine's own gauges say, as plain values: memory, control groups, GPUs.  Pure: texts in, values out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Optional, Tuple

GPU_FIELDS = ("index", "name", "memory.used", "memory.total", "utilization.gpu", "utilization.memory")
"""What is asked of ``nvidia-smi``, in this order."""

_MEBIBYTE = 1024 * 1024
_NO_LIMIT = 1 << 60
"""Control groups of the first version write an absurd number for "unlimited"."""


@dataclass(frozen=True)
class Memory:
    """Bytes of main memory: all that this process could ever get, and what is still to be had."""

    total: int
    available: int


@dataclass(frozen=True)
class Disk:
    """Bytes of a file system; ``available`` is what a user may still write, often less than ``total - used``."""

    total: int
    used: int
    available: int


@dataclass(frozen=True)
class Gpu:
    """A graphics processor: bytes of its memory, and how busy it is, from 0 to 1 (None: it does not tell)."""

    name: str
    total: int
    used: int
    busy: Optional[float]
    memory_busy: Optional[float]


@dataclass(frozen=True)
class GroupFiles:
    """The names of the files in which one version of control groups tells about memory."""

    limit: str
    usage: str
    inactive: str


VERSION_1 = GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = GroupFiles("memory.max", "memory.current", "inactive_file")


def memory(meminfo: str) -> Optional[Memory]:
    """The machine's memory from the text of ``/proc/meminfo``, None if it has another form."""
    found = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}
    total = found.get("MemTotal", 0)
    available = found.get("MemAvailable", found.get("MemFree"))
    return Memory(total, min(available, total)) if total and available is not None else None


def group_directories(cgroup: str) -> Iterator[Tuple[str, GroupFiles]]:
    """Where below ``/sys/fs/cgroup`` the limits of a process are, from the text of its ``/proc/PID/cgroup``.

    From the group itself up to the root, since a limit of any of them counts.  In a container the path may be the
    host's, and none of it be there but the root.
    """
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, files = "", VERSION_2
        elif "memory" in controllers.split(","):
            top, files = "memory", VERSION_1
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts), -1, -1):
            yield "/".join([*filter(None, [top]), *parts[:depth]]), files


def within_group(memory: Memory, limit: str, usage: str, stat: str, files: GroupFiles) -> Memory:
    """``memory`` as a control group narrows it, from the texts of its files.

    What the group's files have in the page cache and nobody has used lately counts as available, as it does for the
    whole machine.
    """
    most = _number(limit)
    if most is None or most >= _NO_LIMIT:
        return memory
    used = (_number(usage) or 0) - _counters(stat).get(files.inactive, 0)
    total = min(memory.total, most)
    return Memory(total, max(0, min(memory.available, total - max(0, used))))


def gpus(table: str) -> List[Gpu]:
    """The GPUs, in the driver's order, from what ``nvidia-smi --query-gpu`` wrote as CSV without head and units.

    Lines of another form, such as the driver's complaints, are none.
    """
    found = []
    for line in table.splitlines():
        # The name is the only field that could hold a comma.
        index, comma, rest = line.partition(",")
        name, *numbers = rest.rsplit(",", len(GPU_FIELDS) - 2)
        if comma and index.strip().isdigit() and len(numbers) == len(GPU_FIELDS) - 2:
            used, total, busy, memory_busy = (_number(number) for number in numbers)
            size = (total or 0) * _MEBIBYTE
            gpu = Gpu(name.strip(), size, (used or 0) * _MEBIBYTE, _share(busy), _share(memory_busy))
            found.append((int(index), gpu))
    return [gpu for _, gpu in sorted(found, key=lambda pair: pair[0])]


def resident(statm: str, page_size: int) -> Optional[int]:
    """The bytes of memory that a process has, from the text of its ``/proc/PID/statm``."""
    fields = statm.split()
    pages = _number(fields[1]) if len(fields) > 1 else None
    return None if pages is None else pages * page_size


def uptime(text: str) -> Optional[float]:
    """Seconds since the machine started, from the text of ``/proc/uptime``."""
    match = re.match(r"\d+(?:\.\d+)?", text)
    return float(match.group()) if match else None


def _counters(stat: str) -> Mapping[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", stat, re.MULTILINE)}


def _number(text: str) -> Optional[int]:
    """A whole number; None for ``max``, ``[N/A]`` and whatever else is written for "there is none"."""
    text = text.strip()
    return int(text) if re.fullmatch(r"\d{1,19}", text, re.ASCII) else None


def _share(percent: Optional[int]) -> Optional[float]:
    return None if percent is None else min(percent, 100) / 100
