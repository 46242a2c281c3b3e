"""One program of ours at a time works on one state directory.

The locks are on a local disk: flock on a network home is slow, or lies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from contextlib import contextmanager

from .clock import Deadline
from .loader import GuestFailure, private_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_SECONDS = 0.1


def lock_directories(state: str) -> list[str]:
    """Where locks may be, the best first.

    Where another user has taken our name in /tmp, the state directory itself: it may be on another machine's disk, but
    every program of this user finds it.  Not /run/user: it comes and goes with login sessions, so that a server that
    starts with the system and a login would not meet there.
    """
    return ["/tmp/remote-runtime-%d" % os.geteuid(), state + "/locks"]  # noqa: S108 - checked


def lock_path(state: str) -> str:
    """The lock file for one state directory; GuestFailure if there is no safe place for it."""
    refused = None
    name = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()[:16] + ".lock"
    for directory in lock_directories(state):
        try:
            if os.access(private_directory(directory), os.W_OK):
                return os.path.join(directory, name)
        except GuestFailure as failure:
            refused = refused or failure
        except OSError:
            continue
    raise refused or GuestFailure(
        "guest_state_unusable", "There is no place for a lock on the VM", "Make /tmp on the VM writable."
    )


@contextmanager
def exclusive(state: str, deadline: Deadline, say: Callable[[str], None]) -> Iterator[str]:
    """Hold the lock of ``state`` for the block, which gets the lock file's path.

    Another holder is waited for no longer than the deadline.
    """
    busy = "Another connect is still at work on this machine"
    with held(
        lambda: lock_path(state), deadline, lambda: say("Waiting for another connect to this machine to finish"), busy
    ) as path:
        yield path


@contextmanager
def held(where: Callable[[], str], deadline: Deadline, on_wait: Callable[[], None], busy: str) -> Iterator[str]:
    """Hold the lock of the file that ``where`` makes room for and names; the block gets its path.

    Another holder is waited for no longer than the deadline, after ``on_wait``; then GuestFailure with the text
    ``busy``.
    """
    path, handle = _take(where)
    if handle is None:
        on_wait()
    while handle is None:
        if deadline.passed:
            raise GuestFailure("guest_busy", busy, "Try again later.", retryable=True)
        time.sleep(deadline.bounded(POLL_SECONDS))
        path, handle = _take(where)
    try:
        yield path
    finally:
        os.close(handle)  # the lock goes with it


def _take(where: Callable[[], str]) -> tuple[str, int | None]:
    """The lock file, and a handle that holds the lock: None if somebody else does."""
    path = where()  # each time: who held the lock may have removed even its directory, as an uninstall does
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return path, None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same_file(handle, path):
            return path, handle
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
    os.close(handle)
    return path, None


def _same_file(handle: int, path: str) -> bool:
    """Whether the open file is still the one at ``path``: a cleaner, or an uninstall, may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
