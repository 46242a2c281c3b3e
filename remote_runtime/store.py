"""What the host remembers of each machine: one JSON file of mode 0600 per machine, replaced atomically.

Below ``state_dir/machines`` there is a directory per machine, ``<provider>-<name>`` with unusual characters quoted::

    machine.json    Remembered: port, token, which process holds it
    lock            held (flock) by the process that keeps the machine connected
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import psutil
from filelock import FileLock, Timeout

from remote_runtime.errors import AlreadyConnected, StateError
from remote_runtime.model import Remembered

_GLANCE_SECONDS = 0.25
"""Longer than another process's :meth:`Store.held` keeps the lock, which it can only test by taking it."""

_FIELDS = {field.name: field for field in dataclasses.fields(Remembered)}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "dict[str, Any]": dict,
}


class Store:
    """The machines that this user of this host knows.  Every method may raise :class:`StateError`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._machines = state_dir / "machines"

    def directory(self, provider: str, name: str) -> Path:
        """The private directory of one machine; it is made if it is missing."""
        return private_directory(self._machines / _file_name(provider, name))

    def load(self, provider: str, name: str) -> Remembered | None:
        """What is remembered of that machine, or None."""
        return self._read(self._machines / _file_name(provider, name) / "machine.json")

    def save(self, machine: Remembered) -> None:
        """Remember this, in place of what was known of that machine."""
        path = self.directory(machine.provider, machine.name) / "machine.json"
        write_private(path, json.dumps(dataclasses.asdict(machine), indent=1).encode())

    def forget(self, provider: str, name: str) -> None:
        """Remove what is remembered of that machine; nothing happens if it is unknown.

        The empty lock stays: whoever waits for it must find the same file.
        """
        path = self._machines / _file_name(provider, name) / "machine.json"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(path, error) from error

    def mark(self, provider: str, name: str, *, deleted: bool) -> None:
        """Note that the machine was deleted, or that it is there again; nothing happens if it is unknown.

        A file that can't be read is left to :meth:`load`: what was done to the machine is done.
        """
        try:
            known = self.load(provider, name)
        except StateError:
            return
        if known and known.deleted != deleted:
            self.save(dataclasses.replace(known, deleted=deleted))

    def names(self) -> list[tuple[str, str]]:
        """Provider and name of each machine that is known, by name, but for those that were deleted.

        One whose file is damaged is known.
        """
        if not self._machines.is_dir():
            return []
        found = (_parts(path.parent.name) for path in self._machines.glob("*/machine.json") if not self._deleted(path))
        return sorted(found, key=lambda parts: (parts[1], parts[0]))

    def _deleted(self, path: Path) -> bool:
        try:
            known = self._read(path)
        except StateError:
            return False
        return known is not None and known.deleted

    @contextmanager
    def hold(self, provider: str, name: str) -> Iterator[Remembered]:
        """Be the one process of this host that keeps the machine connected, as long as the block lasts.

        The block gets what is remembered of the machine, with this process noted as its holder; a machine that got no
        token within the block is forgotten again.  The lock is the kernel's, so a process that is killed leaves
        nothing to clean up.
        Raises :class:`AlreadyConnected` with the other process's URL.
        """
        lock = FileLock(self.directory(provider, name) / "lock", timeout=_GLANCE_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise _taken(name, self.load(provider, name)) from None
        except OSError as error:
            raise _unusable(self.directory(provider, name), error) from error
        try:
            known = self.load(provider, name) or Remembered(name, provider)
            known = dataclasses.replace(known, host_pid=os.getpid(), host_started=psutil.Process().create_time())
            self.save(known)
            try:
                yield known
            finally:
                self._let_go(provider, name)
        finally:
            lock.release()

    def _let_go(self, provider: str, name: str) -> None:
        known = self.load(provider, name)
        if known and known.token:
            self.save(dataclasses.replace(known, host_pid=0, host_started=0.0))
        elif known:
            self.forget(provider, name)

    def held(self, provider: str, name: str) -> bool:
        """Whether a living process of this host keeps that machine connected."""
        path = self._machines / _file_name(provider, name) / "lock"
        if not path.exists():
            return False
        lock = FileLock(path, timeout=0)
        try:
            with lock:
                return False
        except Timeout:
            return True
        except OSError as error:
            raise _unusable(path, error) from error

    def _read(self, path: Path) -> Remembered | None:
        try:
            return parse_remembered(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        except ValueError as error:
            raise StateError(
                f"The state file {path} is damaged: {error}",
                hint="Remove that file: the machine is asked again, at the price of a new local port.",
                code="state_damaged",
            ) from error


def parse_remembered(content: bytes) -> Remembered:
    """Read a machine.json; unknown fields (of a newer version) are dropped.

    Raises :class:`ValueError` if it is not ours.
    """
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict) or not {"name", "provider"} <= values.keys():
        raise ValueError("it is not a description of a machine")
    known: dict[str, Any] = {name: value for name, value in values.items() if name in _FIELDS}
    for name, value in known.items():
        if not isinstance(value, _KINDS[str(_FIELDS[name].type)]):
            raise ValueError(f"{name} has the wrong type")
    return Remembered(**known)


def private_directory(path: Path) -> Path:
    """Make ``path`` and what is missing above it, readable by this user alone."""
    try:
        if not path.is_dir():
            private_directory(path.parent)  # mkdir's own parents=True would let others read those
            path.mkdir(mode=0o700, exist_ok=True)
        return path
    except OSError as error:
        raise _unusable(path, error) from error


def write_private(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step, mode 0600: a reader sees the old file or the new one."""
    try:
        private_directory(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unusable(path, error) from error


def _file_name(provider: str, name: str) -> str:
    return quote(f"{provider}-{name}", safe="@+")


def _parts(file_name: str) -> tuple[str, str]:
    """Provider and name of a machine by the name of its directory; no provider's name has a hyphen."""
    provider, _, name = unquote(file_name).partition("-")
    return provider, name


def _taken(name: str, other: Remembered | None) -> AlreadyConnected:
    pid = other.host_pid if other else 0
    which = f"process {pid}" if pid else "the process that is connecting"
    return AlreadyConnected(
        f"{name} is already connected" + (f" by process {pid}" if pid else ""),
        url=other.url if other else "",
        pid=pid,
        hint=("Use its URL. " if other and other.url else "")
        + f"To end only that connection, end {which} (Ctrl-C where it runs);\n"
        + f"to stop Jupyter too: {shlex.join(['remote-runtime', 'stop', name])}",
    )


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"Can't use {path}: {error.strerror or error}",
        hint="Check the directory's owner, mode and free space, or set REMOTE_RUNTIME_HOME to another one.",
    )
