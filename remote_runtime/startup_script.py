"""The script that prepares a machine at its boot, with the guest program in it.  Pure: no network, no credentials.

It is for Debian, Ubuntu and the Deep Learning VM images made of them, and needs nothing but what these have.
"""

from __future__ import annotations

import base64
import gzip
import re
import shlex
import textwrap
from importlib.metadata import version
from importlib.resources import files

from remote_runtime import payload
from remote_runtime.errors import UsageError

MARKER = "# remote-runtime startup-script "
LIMIT = 256 * 1024
"""Bytes that a metadata value may have."""

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def render(*, user: str | None = None) -> str:
    """The script.

    ``user`` is for whom a Jupyter server runs from the boot on; None: for whom the metadata says
    (``remote-runtime-user``), else for each user from the first login on.  Raises UsageError ``user_invalid``.
    """
    if user is not None and not _USER.fullmatch(user):
        raise UsageError(
            f"{user!a} is no name of a user", hint="Use letters, digits, dots and dashes.", code="user_invalid"
        )
    program = payload.program()
    packed = gzip.compress(program.content, 9, mtime=0)  # the same bytes each time
    values = {
        "VERSION": version("remote-runtime"),
        "USER": shlex.quote(user or ""),
        "SHA256": program.sha256,
        "PAYLOAD": "\n".join(textwrap.wrap(base64.b64encode(packed).decode(), 120)),
    }
    template = (files("remote_runtime") / "startup_script.sh").read_text(encoding="utf-8")
    return re.sub(r"@([A-Z0-9]+)@", lambda found: values[found[1]], template)


def is_ours(text: str) -> bool:
    """Whether such a script was made by :func:`render`, by whatever version."""
    return any(line.startswith(MARKER) for line in text.lstrip().split("\n", 5)[:5])
