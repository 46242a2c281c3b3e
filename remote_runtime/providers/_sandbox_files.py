"""The files of one sandbox: private directories, keys, and what is remembered of its server."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remote_runtime import keys
from remote_runtime._threads import Deadline, timed_out
from remote_runtime.errors import StateError
from remote_runtime.providers._sandbox_plan import RUN_SCRIPT, State, check_name, parse_state, state_json
from remote_runtime.store import private_directory, write_private


class SandboxFiles:
    """Where one sandbox keeps what.  Raises :class:`StateError` for directories that aren't safely ours.

    ::

        sandboxes/NAME/home/       $HOME of what runs in it
        sandboxes/NAME/server/     keys, configuration, log and state.json of its SSH server
        sandboxes/.NAME.lock       held while the server is started or stopped
    """

    def __init__(self, state_dir: Path, name: str) -> None:
        self.name = check_name(name)
        self.all = state_dir.absolute() / "sandboxes"
        self.root = self.all / name
        self.home = self.root / "home"
        self.server = self.root / "server"
        self.log = self.server / "server.log"
        self.client_key = self.server / "client_key"

    @contextmanager
    def lock(self, deadline: Deadline) -> Iterator[None]:
        """Be the one process that works on this sandbox."""
        from filelock import FileLock, Timeout

        self._prepare_parent()
        seconds = deadline.remaining()
        lock = FileLock(self.all / f".{self.name}.lock", timeout=-1 if seconds is None else seconds)
        try:
            lock.acquire()
        except Timeout:
            raise timed_out(f"waiting for another process that starts or stops {self.name}", deadline.seconds) from None
        try:
            yield
        finally:
            lock.release()

    def exists(self) -> bool:
        """Whether it was made, and completely so."""
        return (self.server / "state.json").is_file()

    def make(self) -> None:
        """Make the directories and keys; state.json comes last, so that a half-made sandbox counts as none."""
        self._prepare_parent()
        for directory in (self.root, self.home, self.server):
            own_directory(directory)
        for name in ("host_key", "client_key"):
            private, public = keys.generate(f"remote-runtime sandbox {self.name}")
            write_private(self.server / name, private)
            write_private(self.server / f"{name}.pub", public.encode() + b"\n")
        write_private(self.server / "run", RUN_SCRIPT.encode())
        self.save(State())

    def check(self) -> None:
        """Make sure that the directories are still ours alone."""
        self._prepare_parent()
        for directory in (self.root, self.home, self.server):
            own_directory(directory)

    def load(self) -> State:
        """What is remembered of the server."""
        try:
            return parse_state((self.server / "state.json").read_bytes())
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise _unusable(self.server / "state.json", error) from error

    def save(self, state: State) -> None:
        """Remember this."""
        write_private(self.server / "state.json", state_json(state))

    def host_key(self) -> str:
        """The public host key, ``"type base64"``."""
        return " ".join((self.server / "host_key.pub").read_text(encoding="ascii").split()[:2])

    def last_words(self) -> str:
        """The end of the server's log, for a message."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
                return " / ".join(file.read().decode(errors="replace").strip().splitlines()[-3:])
        except OSError:
            return ""

    def remove(self) -> None:
        """Remove all of it: the home first, so that what is left of a removal that broke off can be removed again."""
        try:
            for directory in (self.home, self.root):
                if directory.is_dir() and not directory.is_symlink():
                    _remove_tree(directory)
        except OSError as error:
            raise StateError(
                f"Can't remove {error.filename or self.root}: {error.strerror}",
                hint="Something may still write there. Try again, or remove it by hand.",
            ) from error

    def _prepare_parent(self) -> None:
        private_directory(self.all.parent)
        own_directory(self.all)
        for directory in self.all.parents:
            _check_ancestor(directory)


def own_directory(path: Path) -> None:
    """Make the directory ``path``, or take it if it is one of ours; others lose their access to it.

    Raises :class:`StateError` with code ``state_unsafe`` for a symbolic link or another user's directory.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise _unsafe(path, "it is a symbolic link" if stat.S_ISLNK(found.st_mode) else "it is not a directory")
        if sys.platform != "win32":
            if found.st_uid != os.getuid():
                raise _unsafe(path, "it belongs to another user")
            if stat.S_IMODE(found.st_mode) & 0o077:
                path.chmod(0o700)
    except FileExistsError as error:
        raise _unsafe(path, "it is not a directory") from error
    except OSError as error:
        raise _unusable(path, error) from error


def _check_ancestor(path: Path) -> None:
    """Others may write above us only where they can't rename what isn't theirs, as in a temp folder."""
    if sys.platform != "win32":
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _unsafe(path, "everybody may write to it")


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"Can't use {path}: {error.strerror or error}",
        hint="Check its owner, mode and free space, or set REMOTE_RUNTIME_HOME to another directory.",
    )


def _unsafe(path: Path, why: str) -> StateError:
    return StateError(
        f"{path} is not safe to keep keys below: {why}",
        hint="Put it right, or set REMOTE_RUNTIME_HOME to a directory of your own.",
        code="state_unsafe",
    )


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except PermissionError:  # some tools leave directories that even their owner can't write to
        for folder, names, _ in os.walk(path):
            for name in names:
                if not Path(folder, name).is_symlink():
                    Path(folder, name).chmod(0o700)
        shutil.rmtree(path)
