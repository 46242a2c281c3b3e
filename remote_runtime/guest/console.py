"""In place of the host: somebody who reads what is said, on this machine's own terminal, or in its log."""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress

from .wire import LOG_LINES, Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .loader import GuestFailure

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class Console(Wire):
    """Gives every line that is said to ``show``, with secrets masked; nobody is there to answer."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__("", io.BytesIO())
        self._show = show
        self.lines: list[str] = []

    def need(self, what: str, directory: str, asked: dict[str, Any]) -> list[str] | None:  # noqa: ARG002
        """Nobody sends anything."""
        return None

    def _send(self, kind: str, **fields: Any) -> None:  # noqa: ARG002
        text = fields.get("text") or fields.get("message") or ""
        for line in [text, *fields.get("log", ()), fields.get("hint", "")]:
            if line:
                self._tell(line)

    def _tell(self, line: str) -> None:
        shown = CREDENTIALS.sub("", line)
        self.lines = [*self.lines, shown][-LOG_LINES:]
        self._show(shown)


def write(descriptor: int, line: str) -> None:
    """Write a line.  That nobody reads it is no reason to stop."""
    with suppress(OSError):
        os.write(descriptor, (line + "\n").encode("utf-8", "backslashreplace"))


def explained(failure: GuestFailure) -> str:
    """A failure in one line."""
    return " ".join(part for part in (failure.message.rstrip(".") + ".", failure.hint) if part)
