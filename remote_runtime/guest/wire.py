"""The guest's end of the wire: frames out, blocks in."""

from __future__ import annotations

import hashlib
import json
import os
import select

from .loader import GuestFailure, emit, read_block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

LINE_LIMIT = 2000  # characters of one line of text: a frame stays far below what the host reads as one line
LOG_LINES = 40


class Wire:
    """Speaks to the host.  Text that goes out is bounded, and a secret in it is masked."""

    def __init__(self, nonce: str, stream: BinaryIO) -> None:
        self._nonce = nonce
        self._stream = stream
        self._secrets: list[str] = []

    def keep_secret(self, text: str) -> None:
        """Mask ``text`` in whatever is said from now on."""
        if text:
            self._secrets.append(text)

    def say(self, text: str) -> None:
        """Tell the person what is being done now."""
        self._send("progress", text=self._clean(text))

    def notice(self, code: str, text: str) -> None:
        """Warn the person of something that does not end the work."""
        self._send("notice", code=code, text=self._clean(text))

    def output(self, stream: str, data: str) -> None:
        """Pass on a piece of a command's output, in base64."""
        self._send("output", stream=stream, data=data)

    def result(self, value: dict[str, Any]) -> None:
        """The request is done; the last frame."""
        self._send("result", value=value)

    def error(self, failure: GuestFailure) -> None:
        """The request could not be done; the last frame."""
        self._send(
            "error",
            code=failure.code,
            message=self._clean(failure.message),
            hint=self._clean(failure.hint),
            retryable=failure.retryable,
            log=self.clean_lines(failure.log, LOG_LINES),
        )

    def clean_lines(self, lines: Any, at_most: int) -> list[str]:
        """The last lines, fit to be sent."""
        return [self._clean(str(line)) for line in list(lines)[-at_most:]]

    def need(self, what: str, directory: str, asked: dict[str, Any]) -> list[str] | None:
        """Ask the host for files and put them into ``directory``: their paths, or None if the host has none.

        The host answers with a JSON header, then one block for each file that the header names.
        """
        self._send("need", what=what, **asked)
        files = json.loads(read_block(self._stream).decode()).get("files")
        if files is None:
            return None
        return [self._receive(directory, file["name"], file["sha256"]) for file in files]

    def ask(self, what: str) -> None:
        """Have the host send what comes block by block; see :meth:`receive`."""
        self._send("need", what=what)

    def receive(self) -> bytes:
        """The next block.  GuestFailure if the host is gone."""
        return read_block(self._stream)

    def fileno(self) -> int:
        """To be watched while the host has nothing more to send: it is readable as soon as the host is gone."""
        return self._stream.fileno()

    def abandoned(self) -> bool:
        """Whether the host, which has nothing more to send, is gone."""
        return bool(select.select([self._stream], [], [], 0)[0])

    def _receive(self, directory: str, name: str, sha256: str) -> str:
        content = read_block(self._stream)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise GuestFailure("guest_damaged", "A file arrived damaged: " + name, retryable=True)
        path = os.path.join(directory, os.path.basename(name))
        with open(path, "wb") as file:
            file.write(content)
        return path

    def _send(self, kind: str, **fields: Any) -> None:
        emit(self._nonce, {"type": kind, **fields})

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "...")
        return text[:LINE_LIMIT]
