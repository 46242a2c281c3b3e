"""The first code of ours on the VM: reads the request, finds or fetches the guest program, hands over.

The host sends this file's source on standard input at every connect, so it is small, and the program itself imports
from here what both need.  On standard input follow, each as a block (its length in decimal, a newline, the bytes):
the request, a JSON object; then, where asked for by a ``need`` frame, the program.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from contextlib import suppress

TYPE_CHECKING = False  # importing typing would cost more than all the rest of this file
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Sequence

STATE = ".remote-runtime"
PACKAGE = "remote_runtime_guest"
PREPARED = "/opt/remote-runtime"  # what a startup script has put there for all users
KEPT_PROGRAMS = 4  # hosts of several versions may use one VM, and a running program still reads from its file


class GuestFailure(Exception):
    """What went wrong here, in the words that the host shows; ``log`` holds the last lines of what failed."""

    def __init__(
        self, code: str, message: str, hint: str = "", retryable: bool = False, log: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.log = log


def read_block(stream: BinaryIO) -> bytes:
    """The next block from the host; GuestFailure if the host is gone."""
    line = stream.readline(12).strip()
    size = int(line) if line.isdigit() else -1
    content = stream.read(size) if size > 0 else b""
    if len(content) != size:
        raise GuestFailure("guest_input_ended", "The host went away while it was sending", retryable=True)
    return content


def emit(nonce: str, frame: dict[str, Any]) -> None:
    """Send one frame to the host.  Whether it still listens is no concern of the work that is being done here."""
    data = memoryview(("%s %s\n" % (nonce, json.dumps(frame))).encode())
    with suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


def private_directory(path: str) -> str:
    """Make the directory if it is missing, and check that it is a real one, ours, and closed to others."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise GuestFailure(
            "guest_state_unsafe",
            "%s on the VM is not a directory of this user" % path,
            "Move it away on the VM: it has to be a directory (no symbolic link) that belongs to the user who logs in.",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(path, 0o700)
    return path


def read_private(path: str) -> bytes | None:
    """The content of a regular file of ours, or None; no symbolic link is followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        return file.read() if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() else None


def write_private(path: str, content: bytes) -> None:
    """Replace the file in one step: a reader finds the old content or the new one, mode 0600."""
    temporary = "%s.%s" % (path, os.urandom(6).hex())
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def unalterable(path: str) -> bool:
    """Whether nobody but root can change what is at ``path``, which is below PREPARED; a link is never trusted."""
    try:
        while True:
            found = os.lstat(path)
            if found.st_uid != 0 or stat.S_ISLNK(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o022:
                return False
            if path == os.path.dirname(PREPARED):
                return True
            path = os.path.dirname(path)
    except OSError:
        return False


def prepared_program(wanted: str) -> str:
    """The path of the program with that hash if a startup script has put it on this machine, else ``""``."""
    path = os.path.join(PREPARED, "guest", "guest-%s.pyz" % wanted)
    if not unalterable(path):
        return ""
    with open(path, "rb") as file:
        return path if hashlib.sha256(file.read()).hexdigest() == wanted else ""


def obtain_program(request: dict[str, Any], stream: BinaryIO) -> str:
    """The path of the guest program whose hash the request names; the host is asked for it if it is not here."""
    home = os.environ.get("HOME", "")
    if not os.path.isdir(home):
        raise GuestFailure(
            "guest_no_home",
            "The login has no home directory (HOME is %s)" % (home or "not set"),
            "Give the user a home directory on the VM.",
        )
    wanted = request["guest"]
    prepared = prepared_program(wanted)
    if prepared:
        return prepared
    directory = private_directory(os.path.join(private_directory(os.path.join(home, STATE)), "guest"))
    path = os.path.join(directory, "guest-%s.pyz" % wanted)
    if hashlib.sha256(read_private(path) or b"").hexdigest() != wanted:
        emit(request["nonce"], {"type": "need", "what": "guest"})
        content = read_block(stream)
        if hashlib.sha256(content).hexdigest() != wanted:
            raise GuestFailure("guest_damaged", "The guest program arrived damaged", retryable=True)
        write_private(path, content)
        forget_old_programs(directory)
    return path


def forget_old_programs(directory: str) -> None:
    """Keep the programs that were brought last."""
    ages = []
    for entry in os.scandir(directory):
        if entry.name.endswith(".pyz"):
            ages.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    for _, path in sorted(ages)[:-KEPT_PROGRAMS]:
        os.unlink(path)


def load() -> None:
    """Run the request that comes on standard input.  The exit status is 0 if a ``result`` was sent, else 1."""
    users_umask = os.umask(0o077)
    stream = sys.stdin.buffer
    request = json.loads(read_block(stream).decode())
    try:
        program = obtain_program(request, stream)
    except GuestFailure as failure:
        frame = {"code": failure.code, "message": failure.message, "hint": failure.hint, "retryable": failure.retryable}
        emit(request["nonce"], {"type": "error", **frame})
        sys.exit(1)
    except OSError as error:
        message = "The state directory on the VM can't be used: %s" % error
        hint = "Check the home directory on the VM: its owner, its mode, its free space."
        emit(request["nonce"], {"type": "error", "code": "guest_state_unusable", "message": message, "hint": hint})
        sys.exit(1)
    sys.path.insert(0, program)
    sys.dont_write_bytecode = True
    entry = __import__(PACKAGE + ".entry", fromlist=["main"])
    sys.exit(entry.main(request, stream, program, users_umask))


if __name__ == "__main__":
    load()
