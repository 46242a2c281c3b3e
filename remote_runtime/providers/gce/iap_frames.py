"""Where the frames of a WebSocket begin and end.  Pure."""

from __future__ import annotations

import struct

WHOLE_BINARY = 0x82
"""The first byte of a binary message in one frame, which is what nearly all of a relay's frames are."""

_LONG, _LONGER = struct.Struct(">H"), struct.Struct(">Q")


def bounds(data: memoryview, start: int) -> tuple[int, int] | None:
    """Where the payload of the server's frame at ``start`` begins, and where the frame ends.

    The end may lie beyond that of ``data``.  None: too little is there to say.
    """
    if len(data) < start + 2:
        return None
    length = data[start + 1] & 0x7F
    payload = start + 2
    if length == 126:
        if len(data) < payload + 2:
            return None
        (length,) = _LONG.unpack_from(data, payload)
        payload += 2
    elif length == 127:
        if len(data) < payload + 8:
            return None
        (length,) = _LONGER.unpack_from(data, payload)
        payload += 8
    return payload, payload + length
