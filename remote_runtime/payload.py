"""What is sent to the VM: the loader's source, and the guest program as one deterministic zip file.

Both are made from the package's own files, in memory, once per process.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

PACKAGE = "remote_runtime_guest"
# No quotes, backslashes or exclamation marks: every login shell reads it alike; and every Python, down to 2.7,
# understands enough of it to say that it is too old (and which one it is).
EXEC_LINE = (
    "python3 -I -S -c 'import sys;"
    "sys.version_info<(3,8) and (sys.stdout.write(sys.version),sys.exit(91));"
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))'"
)
TOO_OLD_STATUS = 91


@dataclass(frozen=True)
class Program:
    """The guest program: a zip file that Python imports from, and its hash in hexadecimal."""

    content: bytes
    sha256: str


@cache
def program() -> Program:
    """The guest program.  The same files give the same bytes on every host."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(_files(files("remote_runtime.guest"), PACKAGE + "/")):
            entry = zipfile.ZipInfo(name)  # dated 1980, as everything that has no date
            entry.create_system = 3
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, content)
    content = buffer.getvalue()
    return Program(content, hashlib.sha256(content).hexdigest())


@cache
def loader() -> bytes:
    """The loader's source."""
    return (files("remote_runtime.guest") / "loader.py").read_bytes().replace(b"\r\n", b"\n")


def block(content: bytes) -> bytes:
    """``content`` as the guest reads it: after its length."""
    return b"%d\n" % len(content) + content


def _files(directory: Any, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in directory.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _files(entry, prefix + entry.name + "/")
        elif entry.is_file() and not entry.name.endswith((".pyc", ".pyo")):
            yield prefix + entry.name, entry.read_bytes()
