"""Names of our namespaces, and how they and all that runs in them go away, whoever is left to do it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

DIRECTORY = Path("/run/netns")
"""Where iproute2 keeps named namespaces."""

_PREFIX = "netlab"
_GRACE_SECONDS = 5.0
_serial = itertools.count()


def new_names(*ends: str) -> list[str]:
    """A name for each end that nobody has; it tells whose it is by pid and start of the process."""
    serial = next(_serial)
    return [f"{_PREFIX}-{os.getpid()}-{_started(os.getpid())}-{serial}-{end}" for end in ends]


def sweep() -> None:
    """Remove the namespaces of processes that are no more."""
    remove([name for name in _ours() if _is_orphan(name)])


def remove(names: Sequence[str]) -> None:
    """Kill all that runs in these namespaces, and remove them; one that is gone already is fine."""
    end = time.monotonic() + _GRACE_SECONDS
    while (pids := inhabitants(names)) and time.monotonic() < end:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    for name in names:
        if not (DIRECTORY / name).exists():
            continue
        # Somebody else may sweep at the same moment, so a failure counts only if the name is still there.
        done = subprocess.run(["ip", "netns", "delete", name], capture_output=True, text=True, check=False)
        if (DIRECTORY / name).exists():
            raise OSError(f"The namespace {name} can't be removed: {done.stderr.strip()}")


def inhabitants(names: Sequence[str]) -> list[int]:
    """The processes that live in one of these namespaces; dead ones that nobody waited for are none, nor are we."""
    places = set()
    for name in names:
        with suppress(OSError):
            places.add(_identity(DIRECTORY / name))
    here = []
    for entry in Path("/proc").iterdir() if places else ():
        with suppress(OSError):
            if entry.name.isdecimal() and _identity(entry / "ns" / "net") in places:
                here.append(int(entry.name))
    return [pid for pid in here if pid != os.getpid()]


def is_stopped(pid: int) -> bool:
    """Whether a process does nothing more until it is told to go on; true of dead ones too."""
    return _stat(pid)[:1] not in (["R"], ["S"], ["D"], ["I"])


def _identity(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_dev, status.st_ino


def _ours() -> Iterator[str]:
    if DIRECTORY.is_dir():
        yield from (place.name for place in DIRECTORY.iterdir() if place.name.startswith(f"{_PREFIX}-"))


def _is_orphan(name: str) -> bool:
    parts = name.split("-")
    return len(parts) == 5 and parts[1].isdecimal() and _started(int(parts[1])) != parts[2]


def _started(pid: int) -> str:
    """When a process began, in the kernel's own count; "" if there is none, or it is dead and not yet waited for."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def _stat(pid: int) -> list[str]:
    """The fields of the kernel's line about a process from its state on; none if there is no such process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
