"""Where our things are on the VM.

Below ``$HOME/.remote-runtime`` (0700): ``guest/`` programs, ``ext/<hash>/`` the extension unpacked, ``env/<key>/`` an
environment of ours, and for each machine that shares the home ``machines/<hash of its id>/``::

    token           0600, without a newline
    server.json     which server runs, or ran last, and with what options
    config/         the Jupyter configuration directory of ours
    data/           a Jupyter data directory of ours, if the kernels have a Python of their own
    server.log      what the server says; server.log.1 is the one before
    stopped         there if the server was stopped on purpose
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from .loader import STATE, private_directory, read_private, write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")
# The fields of server.json.  ``started`` identifies the process beside its pid; ``extension`` and ``environment`` name
# the directories of ours that it uses (``environment`` is empty if it runs in somebody else's).  ``ended``, if it is
# there, says that the server was ended with the system.
RECORD = {
    "pid": int,
    "started": str,
    "port": int,
    "base_url": str,
    "root_dir": str,
    "version": str,
    "python": str,
    "extension": str,
    "environment": str,
    "options": dict,
}
MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid")


class State:
    """Our directory in the home, and the part of it that belongs to this machine."""

    def __init__(self, home: str, machine: str) -> None:
        self.home = home
        self.root = os.path.join(home, STATE)
        self.environments = os.path.join(self.root, "env")
        self.extensions = os.path.join(self.root, "ext")
        self.machines = os.path.join(self.root, "machines")
        self.machine = os.path.join(self.machines, machine)
        self.config = os.path.join(self.machine, "config")
        self.data = os.path.join(self.machine, "data")
        self.log = os.path.join(self.machine, "server.log")

    def make(self) -> None:
        """Make what is missing of the directories; GuestFailure if one is not ours."""
        for path in (self.root, self.machines, self.machine):
            private_directory(path)

    def token(self) -> str:
        """The token that this machine has, or ``""``."""
        content = (read_private(self._file("token")) or b"").decode("ascii", "replace")
        return content if TOKEN.fullmatch(content) else ""

    def write_token(self, token: str) -> None:
        """Keep the token."""
        write_private(self._file("token"), token.encode("ascii"))

    @property
    def token_file(self) -> str:
        """The path of the file with the token."""
        return self._file("token")

    def record(self) -> dict[str, Any]:
        """What server.json says (see RECORD); empty if it is missing or damaged."""
        return parse_record(read_private(self._file("server.json")) or b"")

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace server.json."""
        write_private(self._file("server.json"), json.dumps(record, indent=1).encode())

    @property
    def stopped(self) -> bool:
        """Whether the server was stopped on purpose."""
        return os.path.exists(self._file("stopped"))

    @stopped.setter
    def stopped(self, value: bool) -> None:
        """Keep whether it was; OSError if the state can't be written."""
        if value:
            write_private(self._file("stopped"), b"")
        elif self.stopped:
            os.unlink(self._file("stopped"))

    def _file(self, name: str) -> str:
        return os.path.join(self.machine, name)


def in_home(home: str, path: str) -> str:
    """The path that a person means: ``~``, and what is relative, are in the home."""
    if path == "~" or path.startswith("~/"):
        path = path[1:].lstrip("/")
    return os.path.join(home, path)


def parse_record(content: bytes) -> dict[str, Any]:
    """The record in a server.json, or an empty one if the file is not ours in every field."""
    try:
        record = json.loads(content.decode())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict) or any(type(record.get(name)) is not kind for name, kind in RECORD.items()):
        return {}
    return record if record["pid"] > 1 and record["started"] and 0 < record["port"] < 65536 else {}


def machine_key() -> str:
    """A short name for this machine, from its id; homes may be shared by several machines."""
    for path in MACHINE_ID_FILES:
        try:
            with open(path, "rb") as file:
                identity = file.read(256).strip()
        except OSError:
            continue
        if identity:
            break
    else:
        identity = os.uname().nodename.encode()
    # The id itself is confidential by its own manual, so only a hash of it is used.
    return hashlib.sha256(b"remote-runtime machine " + identity).hexdigest()[:16]
