"""Wheels for a machine that can't reach a package index: found in the lock, fetched here, kept for the next time.

What is fetched is decided by :mod:`remote_runtime.wheels` from what the machine says about its Python.  The package
index is the one that pip's configuration on this host names; whatever it serves has to have a locked sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.tags import Tag

from remote_runtime._threads import Deadline, timed_out
from remote_runtime.errors import GuestError
from remote_runtime.guest import install, installers, pins, pipconf
from remote_runtime.guest.diagnosis import Failure
from remote_runtime.guest.fetch import FetchError
from remote_runtime.guest.index import Index
from remote_runtime.text import printable
from remote_runtime.wheels import Locked, applies, best, check_target, parse_lock, tags_of

WORKERS = 8
ATTEMPTS = 3  # of some hundred requests to an index one may well be dropped
CONNECT_SECONDS = 20.0  # after us there is nobody left to ask: long enough for TCP to ask four times
NO_DEADLINE_SECONDS = 3600.0

HINTS = {
    "unreachable": "Connect this machine to the internet, or give the VM a way to a package index, then try again.",
    "certificate": "Name your network's certificate authority as `cert` in pip's configuration on this machine.",
    "refused": "See whether `pip download pip` works on this machine, and correct pip's configuration.",
    "missing": "Install jupyter_server, ipykernel and jupyterlab on the VM yourself, or give it another Python: "
    "3.8 to 3.14 have wheels on Linux and macOS, for x86-64 and 64-bit ARM.",
    "hash": "What the package index served is not what was published: find out who changes downloads on the way.",
    "disk": "Free some space on this machine.",
}


def wheels_for(
    target: Mapping[str, Any], *, ui: str, cache_dir: Path, say: Callable[[str], None], deadline: Deadline
) -> list[Path]:
    """All wheels that a machine's Python needs for Jupyter, the installers included, from the cache or the index.

    ``target`` is what :func:`remote_runtime.guest.target.describe` reports there; ``ui`` is ``lab`` or ``none``.
    Each wheel is below ``cache_dir`` under its true name and has been checked against the lock.
    Raises :class:`GuestError` with the code ``wheels_unavailable``, and :class:`TimedOut`.
    """
    try:
        check_target(target)
        entries = needed(target, ui)
        tags = tags_of(target)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _unavailable("missing", f"there are none for its Python: {printable(str(error))}") from error
    store = _Store(cache_dir / "wheels")
    found = {entry: store.find(entry, tags) for entry in entries}
    absent = [entry for entry, path in found.items() if path is None]
    if absent:
        say(f"Fetching {len(absent)} wheels for the VM")
        index = Index(pipconf.read(), time.monotonic() + deadline.bounded(NO_DEADLINE_SECONDS), CONNECT_SECONDS)
        found.update(zip(absent, _fetch_all(absent, tags, index, store, deadline), strict=True))
    return [path for path in found.values() if path is not None]


def needed(target: Mapping[str, Any], ui: str) -> list[Locked]:
    """The locked releases that the machine described by ``target`` needs, the installers among them."""
    entries = [
        entry
        for name in install.LOCKS[ui]
        for entry in parse_lock((files("remote_runtime.guest") / name).read_text(encoding="utf-8"))
        if applies(entry, target)
    ]
    uv = installers.uv_wheel({name: str(target[name]) for name in ("system", "machine", "libc")})
    if uv is not None:
        entries.append(Locked("uv", pins.UV_VERSION, None, frozenset({uv[1]})))
    return entries


class _Store:
    """Wheels by their sha256: ``<directory>/<sha256>/<file name>``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, entry: Locked, tags: Mapping[Tag, int]) -> Path | None:
        """A whole wheel of ``entry`` that suits ``tags``, None if none is kept."""
        kept = {path.name: path for value in entry.hashes for path in (self._directory / value).glob("*.whl")}
        name = best(kept, entry, tags)
        if name is None:
            return None
        path = kept[name]
        if hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name:
            return path
        path.unlink()  # damaged on the disk: to be fetched again
        return None

    @contextlib.contextmanager
    def adding(self) -> Iterator[Path]:
        """A path to write to, which is gone afterwards."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / f".{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, path: Path, sha256: str, filename: str) -> Path:
        """Move a file that was checked to its place."""
        place = self._directory / sha256 / filename
        place.parent.mkdir(exist_ok=True, mode=0o700)
        os.replace(path, place)  # noqa: PTH105 - the same on Windows: Path.rename would not replace there
        return place


def _fetch_all(
    entries: list[Locked], tags: Mapping[Tag, int], index: Index, store: _Store, deadline: Deadline
) -> list[Path]:
    """Fetch the wheels of ``entries`` side by side, in their order; the first error stops the rest."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="wheels") as pool:
        jobs = [pool.submit(_fetch, entry, tags, index, store) for entry in entries]
        try:
            return [job.result() for job in jobs]
        except (FetchError, Failure, OSError) as error:
            pool.shutdown(wait=True, cancel_futures=True)
            kind = getattr(error, "kind", "disk")
            if kind == "timeout" or deadline.expired:
                raise timed_out("fetching wheels for the VM", deadline.seconds) from error
            raise _unavailable(kind, printable(str(error))) from error


def _fetch(entry: Locked, tags: Mapping[Tag, int], index: Index, store: _Store) -> Path:
    for _ in range(ATTEMPTS - 1):
        try:
            return _fetch_once(entry, tags, index, store)
        except FetchError as error:
            if error.kind not in ("unreachable", "refused"):
                raise
    return _fetch_once(entry, tags, index, store)


def _fetch_once(entry: Locked, tags: Mapping[Tag, int], index: Index, store: _Store) -> Path:
    links = {link.filename: link for link in index.find(entry.name, entry.hashes)}
    filename = best(links, entry, tags)
    if filename is None:
        raise FetchError("missing", f"{entry.name} {entry.version} has no wheel for its Python")
    with store.adding() as path:
        sha256 = index.download(links[filename], entry.hashes, str(path))
        return store.keep(path, sha256, filename)


def _unavailable(kind: str, why: str) -> GuestError:
    return GuestError(
        f"The wheels for the VM could not be fetched on this machine: {why}",
        hint=HINTS.get(kind, ""),
        code="wheels_unavailable",
        retryable=kind == "unreachable",
    )
