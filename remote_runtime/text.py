"""Making text from elsewhere fit to be shown."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, the cursor: CSI
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links: OSC, DCS
    r"|\x1b[ -/]*[0-~]"  # the rest, and the beginning of a string without an end
)


def printable(text: str, limit: int = 300) -> str:
    """``text`` without what could act on a terminal, on one line, cut to ``limit`` characters.

    What a machine or the network says is data: escape sequences, bidirectional overrides and other control and
    format characters are dropped, white space of every kind becomes a space.
    """
    kept = (" " if char.isspace() else char for char in without_sequences(text[: limit * 4]))
    clean = "".join(char for char in kept if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def without_sequences(text: str) -> str:
    """``text`` without the escape sequences of terminals; single control characters may be left in it."""
    return _ESCAPE_SEQUENCE.sub("", text)
