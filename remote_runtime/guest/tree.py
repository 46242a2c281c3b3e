"""A file or a directory as a row of messages, and back: the same code at both ends of a transfer.

The first byte of a message says what it is; numbers, names and modes are in JSON:

    h   the head: name, whether it is a directory, how many bytes its files have together
    d   a directory: its path in the tree, with slashes, and its mode
    f   a file begins: path and mode;  c: a piece of its content
    e   the end of all

Symbolic links are followed.  What comes is data: a path that leads out of the tree is refused, and nothing is written
but below a fresh directory, or to a fresh file, that take their final name in the end.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Iterator

PIECE_BYTES = 48 << 10
_MODE = 0o777
_SHOWN_BYTES = 100  # of a name in that of its .part: together they stay below what file systems take, which is 255


class BadTree(Exception):
    """What came is no tree, or not all of one."""


# -- sending ----------------------------------------------------------------------------------------------------------


def pack(path: str) -> Iterator[bytes]:
    """The messages of the file or directory at ``path``.  Raises :class:`OSError`."""
    path = os.path.abspath(path)
    directory = os.path.isdir(path)
    size = sum(found.st_size for _, _, found in _walk(path) if stat.S_ISREG(found.st_mode))
    yield _message(b"h", name=os.path.basename(path) or "root", directory=directory, bytes=size)
    for name, where, found in _walk(path):
        kind = b"d" if stat.S_ISDIR(found.st_mode) else b"f"
        yield _message(kind, path=name, mode=stat.S_IMODE(found.st_mode) & _MODE)
        if kind == b"f":
            with open(where, "rb") as file:
                while True:
                    piece = file.read(PIECE_BYTES)
                    if not piece:
                        break
                    yield b"c" + piece
    yield b"e"


def announced(head: bytes) -> int:
    """How many bytes the files have together, by the head of a tree."""
    size = _fields(head[1:]).get("bytes")
    return size if type(size) is int else 0


def _walk(top: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Path in the tree, real path and status of each file and directory, a directory before what is in it."""
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [("", top, ())]
    while waiting:
        name, where, above = waiting.pop()
        found = os.stat(where)
        this = (found.st_dev, found.st_ino)
        if stat.S_ISDIR(found.st_mode):
            if this in above:
                raise OSError(errno.ELOOP, "A symbolic link leads back to a directory that it is in", where)
            yield name, where, found
            inside = sorted(os.listdir(where), reverse=True)
            waiting += [(_join(name, entry), os.path.join(where, entry), (*above, this)) for entry in inside]
        elif stat.S_ISREG(found.st_mode):
            yield name, where, found
        else:
            raise OSError(errno.EINVAL, "Neither a file nor a directory", where)


def _join(name: str, entry: str) -> str:
    return name + "/" + entry if name else entry


def _message(kind: bytes, **fields: Any) -> bytes:
    return kind + json.dumps(fields).encode()


# -- receiving --------------------------------------------------------------------------------------------------------


def final_path(destination: str, name: object, directory: bool) -> str:
    """Where it goes: to ``destination``, or into it under its own name.

    The latter if it ends with a slash, or is an existing directory while a file comes.
    """
    ends = destination.endswith(("/", os.sep))
    inside = ends or (not directory and os.path.isdir(destination))
    return os.path.join(destination, check_name(name)) if inside else os.path.abspath(destination)


def check_name(name: object) -> str:
    """One component of a path; :class:`BadTree` for anything else, such as ``..``."""
    separators = [mark for mark in (os.sep, os.altsep, "\0", ":" if os.name == "nt" else None) if mark]
    if not isinstance(name, str) or name in ("", ".", "..") or any(mark in name for mark in separators):
        raise BadTree("It has a file name that can't be one: %r" % (name,))
    return name


class Receiver:
    """Takes the messages of one tree and puts it in place at the end, all of it or nothing.

    An existing file is replaced; to an existing directory the files are added, and replace those of the same names.
    ``path`` is where it goes, known after the first message, ``total`` the bytes of all files, as the sender counted.
    ``name`` is its own name, if the sender's word for it is not to be taken.  To be closed in any case: what has not
    been put in place is removed.
    """

    def __init__(self, destination: str, name: str | None = None) -> None:
        self.path = ""
        self.total = 0
        self.received = 0
        self.complete = False
        self._destination = destination
        self._name = name
        self._directory = False
        self._fresh = ""  # what takes the final name
        self._file: BinaryIO | None = None
        self._modes: list[tuple[str, int]] = []

    def take(self, message: bytes) -> None:
        """The next message.  Raises :class:`OSError` and :class:`BadTree`."""
        kind, rest = message[:1], message[1:]
        if kind == b"c" and self._file:
            self._file.write(rest)
            self.received += len(rest)
        elif kind == b"h" and not self._fresh:
            self.total = announced(message)
            self._begin(_fields(rest))
        elif kind in (b"d", b"f") and self._fresh:
            self._end_file()
            fields = _fields(rest)
            self._add(kind == b"d", self._place(fields.get("path"), kind == b"d"), _mode(fields))
        elif kind == b"e" and self._fresh:
            self._end_file()
            self._put_in_place()
        else:
            raise BadTree("The transfer makes no sense")

    def close(self) -> None:
        """Remove what was not put in place."""
        if self._file:
            self._file.close()
            self._file = None
        if self._fresh and os.path.isdir(self._fresh):
            for path, _ in self._modes:
                os.chmod(path, 0o700)
            shutil.rmtree(self._fresh)
        elif self._fresh and os.path.lexists(self._fresh):
            os.unlink(self._fresh)

    def _begin(self, fields: dict[str, Any]) -> None:
        self._directory = fields.get("directory") is True
        name = fields.get("name") if self._name is None else self._name
        self.path = final_path(self._destination, name, self._directory)
        parent, name = os.path.split(self.path)
        if self._directory and os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)
        os.makedirs(parent, exist_ok=True)
        self._fresh = os.path.join(parent, ".%s.%s.part" % (_cut(name), os.urandom(6).hex()))

    def _place(self, name: object, directory: bool) -> str:
        """Where the entry of that path in the tree is written."""
        if name == "" and directory == self._directory:
            return self._fresh
        if not isinstance(name, str) or not self._directory:
            raise BadTree("The transfer makes no sense")
        return os.path.join(self._fresh, *map(check_name, name.split("/")))

    def _add(self, directory: bool, path: str, mode: int) -> None:
        if directory:
            os.mkdir(path, 0o700)
            self._modes.append((path, mode))
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")
        os.chmod(path, mode)

    def _end_file(self) -> None:
        if self._file:
            file, self._file = self._file, None
            file.close()

    def _put_in_place(self) -> None:
        if self._directory and os.path.isdir(self.path):
            self._merge()
        else:
            os.replace(self._fresh, self.path)
            if self._directory:
                self._set_modes([(self.path + path[len(self._fresh) :], mode) for path, mode in self._modes])
        self._fresh = ""
        self.complete = True

    def _merge(self) -> None:
        new = []
        for path, mode in self._modes:  # a directory comes before what is in it
            target = self.path + path[len(self._fresh) :]
            if not os.path.isdir(target):
                os.mkdir(target, 0o700)
                new.append((target, mode))
            for entry in os.scandir(path):
                if not entry.is_dir():
                    os.replace(entry.path, os.path.join(target, entry.name))
        self._set_modes(new)
        shutil.rmtree(self._fresh)

    @staticmethod
    def _set_modes(modes: list[tuple[str, int]]) -> None:
        for path, mode in reversed(modes):
            os.chmod(path, mode)


def _cut(name: str) -> str:
    """The beginning of a name, by its bytes; what is no text in it is left out."""
    return name.encode("utf-8", "ignore")[:_SHOWN_BYTES].decode("utf-8", "ignore")


def _fields(text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text.decode())
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise BadTree("The transfer makes no sense")
    return fields


def _mode(fields: dict[str, Any]) -> int:
    mode = fields.get("mode")
    if type(mode) is not int:
        raise BadTree("The transfer makes no sense")
    return mode & _MODE
