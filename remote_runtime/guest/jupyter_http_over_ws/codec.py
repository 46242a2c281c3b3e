"""The messages: what a page sends, and the frames that answer it.  Pure.

A page asks with one JSON object, as a text or a binary message::

    {"message_id": any JSON, "method": "GET", "path": "/api/...", "body": str?, "body_base64": str?}

and gets one frame or more, of which the last one has ``done`` true and only the first one has what is in brackets::

    {"message_id": ..., "data": base64 of at most 64 KiB, "done": bool
        [, "status": int, "statusText": str, "headers": {...}]}

Whatever cannot be understood is answered too: :func:`decode` never raises.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple, Union
from urllib.parse import quote

CHUNK_BYTES = 65536
"""The most data of one frame, before base64."""

JSON_REQUIRED = "JSON input is required."
"""The status text of a 400 to what is no JSON."""

UNCAUGHT = "Uncaught server-side exception. Check logs for additional details."
"""The status text of a 500 that is not the answer of a handler."""

_REQUIRED = ("message_id", "method", "path")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_UNFIT_FOR_PATH = re.compile(r"[\x00-\x20\x7f]")
_SAFE_IN_PATH = "".join(chr(code) for code in range(0x21, 0x7F))  # only what is not ASCII gets quoted
_TRACEBACK = b"Traceback (most recent call last):"


@dataclass(frozen=True)
class Request:
    """What a page asks for.

    ``message_id`` is JSON text already.  ``path`` starts with a slash, has its query with it, and is plain ASCII
    without blanks.
    """

    message_id: str
    method: str
    path: str
    body: bytes = b""

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes as long as it is not answered."""
        return len(self.message_id) + len(self.path) + len(self.body)


@dataclass(frozen=True)
class Refusal:
    """The frame that answers a message that asks for nothing."""

    frame: bytes


def decode(message: Union[str, bytes]) -> Union[Request, Refusal]:
    """Read one message of a page; whatever it holds, the outcome is a request to run or a frame to send back."""
    try:
        fields = _DECODER.decode(message if isinstance(message, str) else message.decode("utf-8"))
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        return Refusal(error_frame(400, JSON_REQUIRED))
    if not isinstance(fields, dict):
        return Refusal(error_frame(400, "Invalid request. The body must be a JSON object."))
    try:
        message_id = json.dumps(fields.get("message_id"), allow_nan=False)  # a number may be too big: 1e999
    except (ValueError, RecursionError):
        return Refusal(error_frame(400, JSON_REQUIRED))
    missing = [key for key in _REQUIRED if key not in fields]
    if missing:
        known = message_id if fields.get("message_id") else None
        return Refusal(error_frame(400, _missing_text(fields), known))
    try:
        return Request(message_id, _method(fields["method"]), _path(fields["path"]), _body(fields))
    except _Unfit as unfit:
        text = str(unfit)
    return Refusal(error_frame(400, text, message_id) if text else bad_request_frame(message_id))


def fit_path(path: str) -> Optional[str]:
    """``path`` (and query) as a request line can carry it: rooted, quoted, without fragment; None if it can't."""
    path = path.partition("#")[0]
    if _UNFIT_FOR_PATH.search(path):
        return None
    try:
        path = path if path.isascii() else quote(path, safe=_SAFE_IN_PATH)
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return path if path.startswith("/") else "/" + path


def first_frame(
    message_id: str, data: bytes, *, status: int, reason: str, headers: Mapping[str, str], done: bool
) -> bytes:
    """The first (and maybe only) frame of an answer."""
    head = json.dumps({"status": status, "statusText": reason, "headers": dict(headers)})
    return _frame(message_id, data, done, b", " + head[1:-1].encode("ascii"))


def next_frame(message_id: str, data: bytes, *, done: bool) -> bytes:
    """A later frame of an answer."""
    return _frame(message_id, data, done, b"")


def error_frame(status: int, text: str, message_id: Optional[str] = None) -> bytes:
    """A whole answer of ours, without data and headers, as no handler took part in it."""
    frame = json.dumps({"done": True, "status": status, "statusText": text})
    return (frame if message_id is None else f'{{"message_id": {message_id}, {frame[1:]}').encode("ascii")


def bad_request_frame(message_id: str) -> bytes:
    """The answer to a request that cannot be put in terms of HTTP."""
    return first_frame(message_id, b"", status=400, reason="Bad Request", headers={}, done=True)


def websocket_head(size: int) -> bytes:
    """What precedes a text message of ``size`` bytes on a server's WebSocket (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((0x81, size))
    return struct.pack("!BBH", 0x81, 126, size) if size < 65536 else struct.pack("!BBQ", 0x81, 127, size)


def diagnose_frame(message: Union[str, bytes], version: str, *, has_cookie: bool, outdated: bool) -> bytes:
    """The answer of the diagnose socket, for which any ``message`` is an id and nothing else."""
    fields = {
        "message_id": message if isinstance(message, str) else message.decode("utf-8", "replace"),
        "extension_version": version,
        "has_authentication_cookie": has_cookie,
        "is_outdated_extension": outdated,
    }
    return json.dumps(fields).encode("ascii")


def pieces(data: bytes) -> Iterator[memoryview]:
    """``data`` cut to what one frame holds, without a copy; nothing for no data."""
    view = memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def page_headers(headers: Iterable[Tuple[str, str]]) -> Dict[str, str]:
    """The headers of an answer as the page gets them: repeated ones joined, and no cookie, which no script may read."""
    found: Dict[str, str] = {}
    for name, value in headers:
        if name.lower() != "set-cookie":
            found[name] = f"{found[name]},{value}" if name in found else value
    return found


def announced(length: Optional[str]) -> int:
    """How many bytes a ``Content-Length`` promises; none if there is none, or what says nothing."""
    return int(length) if length and _LENGTH.fullmatch(length) else 0


def without_traceback(body: bytes) -> bytes:
    """The ``body`` of a failed request without the server's inner life, which is for its log alone.

    JSON as older servers write it keeps its (now empty) field; plain text ends where the traceback begins.
    """
    if _TRACEBACK not in body:
        return body
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body.partition(_TRACEBACK)[0]
    if isinstance(fields, dict) and "traceback" in fields:
        return json.dumps({**fields, "traceback": ""}).encode("ascii")
    return b""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # made once, which json.loads() would do each time


class _Unfit(Exception):
    """A field that can't be used; without a text it is what any HTTP server would call a bad request."""


def _frame(message_id: str, data: bytes, done: bool, more: bytes) -> bytes:
    # Put together by hand, as base64 needs no escaping: this is where a download spends its time.
    values = (message_id.encode("ascii"), base64.b64encode(data), b"true" if done else b"false", more)
    return b'{"message_id": %b, "data": "%b", "done": %b%b}' % values


def _missing_text(fields: Mapping[str, Any]) -> str:
    wanted = ", ".join(repr(key) for key in _REQUIRED)
    got = list(fields)
    return f"Invalid request. The body must contain the following keys: {{{wanted}}}. Got: dict_keys({got!r})"


def _method(value: Any) -> str:
    method = str(value).upper()
    if not _TOKEN.fullmatch(method):
        raise _Unfit
    return method


def _path(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit("Invalid request. path must be a string.")
    path = fit_path(value)
    if path is None:
        raise _Unfit
    return path


def _body(fields: Mapping[str, Any]) -> bytes:
    encoded, plain = fields.get("body_base64"), fields.get("body")
    for name, value in (("body_base64", encoded), ("body", plain)):
        if not isinstance(value, (str, type(None))):
            raise _Unfit(f"Invalid request. {name} must be a string.")
    try:
        return base64.b64decode(encoded) if encoded else (plain or "").encode("utf-8")
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII, or half of a surrogate pair
        raise _Unfit("Invalid request. The body cannot be decoded.") from error
