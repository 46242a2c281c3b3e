"""The little that a forward knows of HTTP: which request may be sent again, and what a client hears that has waited in
vain.  Pure."""

from __future__ import annotations

import re

RETRY_AFTER_SECONDS = 10

_REQUEST_LINE = re.compile(rb"[A-Z]{3,16} [!-~]+ HTTP/1\.[01]\r?\n")
_SAFE_REQUEST = re.compile(rb"(?:GET|HEAD|OPTIONS) [!-~]+ HTTP/1\.[01]\r\n(?:[^\r\n]+\r\n)*\r\n")
_HAS_BODY = re.compile(rb"\r\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
_BODY = b"The connection to the machine is down. It comes back by itself: try again.\n"


def repeatable(sent: bytes) -> bool:
    """Whether ``sent``, all that a client has said, is one whole request that changes nothing by being made twice.

    That is one with a safe method and without a body (RFC 9110, sections 9.2.1 and 9.2.2).  A WebSocket's handshake is
    such a request too.
    """
    return bool(_SAFE_REQUEST.fullmatch(sent)) and not _HAS_BODY.search(sent)


def apology(request: bytes) -> bytes:
    """The answer to a client whose first bytes were ``request``: 503 with Retry-After if it speaks HTTP, else nothing.

    See RFC 9110, sections 10.2.3 and 15.6.4.
    """
    if not _REQUEST_LINE.match(request):
        return b""
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(_BODY)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if request.startswith(b"HEAD ") else _BODY)
