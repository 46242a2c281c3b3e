"""Files and directories to the VM and back, by the guest program: one exec each, and no limit of memory."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

from remote_runtime import bootstrap, payload
from remote_runtime._threads import Deadline
from remote_runtime.bootstrap import Executor
from remote_runtime.errors import TransferError
from remote_runtime.frames import Frame, text
from remote_runtime.guest import tree

Progress = Callable[[int, int], None]
"""Told of the bytes that have gone over, and of how many there are in all."""


def nobody(_: int, __: int) -> None:
    """Tell nobody of the progress."""


def put(executor: Executor, local: Path, remote: str, *, on_progress: Progress = nobody, deadline: Deadline) -> str:
    """Copy a file or directory to the VM; its path there.

    Raises :class:`TransferError` for what can't be read here, and :class:`GuestError` for what can't be written there.
    """

    def messages(_: Frame) -> Iterator[bytes]:
        done, total = 0, 0
        try:
            for message in tree.pack(str(local)):
                yield payload.block(message)
                if message[:1] == b"h":
                    total = tree.announced(message)
                elif message[:1] == b"c":
                    done += len(message) - 1
                    on_progress(done, total)
        except OSError as error:
            raise _failed(error) from error

    value = bootstrap.converse(executor, {"verb": "put", "path": remote}, deadline, supplies={"tree": messages})
    return text(value.get("path"))


def get(executor: Executor, remote: str, local: Path, *, on_progress: Progress = nobody, deadline: Deadline) -> Path:
    """Copy a file or directory from the VM; its path here.

    Raises :class:`TransferError` for what can't be written here, and :class:`GuestError` for what can't be read there.
    """
    # Its name is the one that was asked for: the VM has no say in what a file of this computer is called.
    receiver = tree.Receiver(_as_given(local), posixpath.basename(remote.rstrip("/")))

    def take(_: str, message: bytes) -> None:
        receiver.take(message)
        if message[:1] == b"c":
            on_progress(receiver.received, receiver.total)

    try:
        bootstrap.converse(executor, {"verb": "get", "path": remote}, deadline, collect=take)
        if not receiver.complete:
            raise tree.BadTree("It did not come to its end")
    except OSError as error:
        raise _failed(error) from error
    except tree.BadTree as error:
        raise TransferError(f"{remote} could not be fetched: {error}", hint="Try again.") from error
    finally:
        receiver.close()
    return Path(receiver.path)


def _as_given(local: Path) -> str:
    """The path as text; a directory that is there keeps the mark of one."""
    return f"{local}/" if local.is_dir() else str(local)


def _failed(error: OSError) -> TransferError:
    where = f"{error.filename}: " if error.filename else ""
    return TransferError(f"{where}{error.strerror or error}", hint="Check the path, its rights, and the free space.")
