"""What a command leaves behind, on this computer and on the machines, where nothing of it belongs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

OURS = {".remote-runtime"}
OTHERS = {".jupyter", ".ipython", ".local", ".cache", ".npm", ".config"}
"""Where Jupyter, its extensions, its kernels and login shells keep their own files in a home."""

GRACE_SECONDS = 5.0
"""The machine's side of a command may need a moment to end after ours has."""

_TEMPORARY = re.compile(r"\..+[-.][a-z0-9_]{8}|.+\.(?:[0-9a-f]{8}|[0-9a-f]{12})")
"""The names of files and directories that are still being written, on both sides."""

_WHOLE = ("env", "ext", "tools", "log")
"""Directories of ours whose content is put in place in one piece, or is somebody else's."""


class Traces:
    """Looks at homes and temporary directories before and after a command.

    ``mine`` is the home of whoever runs it, of which the command may change nothing; ``state`` is where it keeps its
    own things; ``machines`` are homes on machines; ``temporary`` are directories that have to be empty in the end.
    """

    def __init__(self, mine: Path, state: Path, machines: Iterable[Path], temporary: Iterable[Path]) -> None:
        self._mine = mine
        self._state = state
        self._machines = list(machines)
        self._temporary = list(temporary)
        self._content = dict(_contents(mine))
        self._names = {home: _names(home) for home in self._machines}

    def left(self) -> tuple[str, ...]:
        """What is there now and should not be, after the moment that it may take to go."""
        end = time.monotonic() + GRACE_SECONDS
        while (found := tuple(self._look())) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def _look(self) -> Iterator[str]:
        now = dict(_contents(self._mine))
        for path in sorted(now.keys() | self._content.keys()):
            if now.get(path) != self._content.get(path):
                yield f"changed on this computer: {path}"
        yield from (f"half-written: {path}" for path in _half_written(self._state))
        for home in self._machines:
            for name in sorted(_names(home) - self._names[home] - OURS - OTHERS):
                yield f"new in the machine's home: {name}"
            yield from (f"half-written: {path}" for name in OURS for path in _half_written(home / name))
        for directory in self._temporary:
            yield from (f"temporary: {directory / name}" for name in sorted(_names(directory)))


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def _contents(directory: Path) -> Iterator[tuple[Path, bytes | None]]:
    """Every path below the directory, with the content of those that are files."""
    for path in directory.rglob("*"):
        yield path, path.read_bytes() if path.is_file() else None


def _half_written(directory: Path) -> Iterator[Path]:
    for place, directories, files in os.walk(directory):
        yield from (Path(place, name) for name in [*directories, *files] if _TEMPORARY.fullmatch(name))
        directories[:] = [name for name in directories if Path(place).name not in _WHOLE]
