"""What the guest program says, read as data: anything may come, and only what is in order gets through.  Pure."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from remote_runtime.errors import GuestError, ServerError
from remote_runtime.events import Notice
from remote_runtime.model import ServerInfo
from remote_runtime.text import printable

Frame = dict[str, Any]

TEXT_LIMIT = 2000
LOG_LINES = 5000
INDENT_LIMIT = 80
_CODE = re.compile(r"[a-z][a-z0-9_]{1,63}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")
_BASE_URL = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*")
_TYPES = ("progress", "notice", "need", "output", "result", "error")


def parse_line(line: bytes, nonce: str) -> Frame | None:
    """The frame in a line of output, or None if it is noise.

    Noise without a newline at its end may stand before a frame, so the nonce is looked for anywhere.
    """
    _, found, rest = line.partition(nonce.encode() + b" ")
    if not found:
        return None
    try:
        frame = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) and frame.get("type") in _TYPES else None


def text(value: object, limit: int = TEXT_LIMIT) -> str:
    """A text fit to be shown; ``""`` for anything else."""
    return printable(value, limit) if isinstance(value, str) else ""


def lines(value: object) -> tuple[str, ...]:
    """Lines fit to be shown, with their indentation."""
    return tuple(map(_line, value[-LOG_LINES:])) if isinstance(value, list) else ()


def _line(value: object) -> str:
    clean = text(value)
    indent = len(value) - len(value.lstrip(" ")) if isinstance(value, str) and clean else 0
    return " " * min(indent, INDENT_LIMIT) + clean


def parse_error(frame: Frame) -> GuestError:
    """The error that an ``error`` frame means."""
    code = frame.get("code")
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else "guest_failed"
    kind = ServerError if code.startswith("server_") else GuestError
    return kind(
        text(frame.get("message")) or "The program on the VM failed",
        hint=text(frame.get("hint")),
        code=code,
        retryable=frame.get("retryable") is True,
        log=lines(frame.get("log")),
    )


def parse_notice(frame: Frame) -> Notice:
    """What a ``notice`` frame has the person know: a warning."""
    code = frame.get("code")
    known = isinstance(code, str) and _CODE.fullmatch(code)
    return Notice(str(code) if known else "guest_notice", text(frame.get("text")), "warning")


def parse_output(frame: Frame) -> tuple[str, bytes]:
    """Stream (``stdout`` or ``stderr``) and bytes of an ``output`` frame."""
    stream, data = frame.get("stream"), frame.get("data")
    if stream not in ("stdout", "stderr") or not isinstance(data, str):
        raise malformed("output")
    try:
        return stream, base64.b64decode(data, validate=True)
    except ValueError:
        raise malformed("output") from None


def parse_result(frame: Frame) -> Frame:
    """The value of a ``result`` frame."""
    value = frame.get("value")
    if not isinstance(value, dict):
        raise malformed("result")
    return value


def parse_server(value: Frame) -> ServerInfo:
    """The server that a result describes."""
    token, base_url = value.get("token"), value.get("base_url")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise malformed("token")
    if not isinstance(base_url, str) or len(base_url) > TEXT_LIMIT or not _BASE_URL.fullmatch(base_url):
        raise malformed("base_url")
    return ServerInfo(
        pid=integer(value, "pid", 2, 2**31 - 1),
        port=integer(value, "port", 1, 65535),
        token=token,
        base_url=base_url,
        root_dir=text(value.get("root_dir")),
        version=text(value.get("version"), 50),
        python=text(value.get("python")),
        adopted=value.get("adopted") is True,
        installed=lines(value.get("installed")),
    )


def integer(value: Frame, name: str, least: int, most: int) -> int:
    """A whole number in a range."""
    number = value.get(name)
    if type(number) is not int or not least <= number <= most:
        raise malformed(name)
    return number


def malformed(what: str) -> GuestError:
    """The error for an answer that is not what the guest program would say."""
    return GuestError(
        f"The answer of the program on the VM makes no sense ({what})",
        hint="Try again; if it stays, remove ~/.remote-runtime on the VM.",
        code="guest_protocol",
    )
