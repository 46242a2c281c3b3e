"""Making text from elsewhere fit to be shown."""

from __future__ import annotations

import unicodedata


def printable(text: str, limit: int = 300) -> str:
    """``text`` without what could act on a terminal, on one line, cut to ``limit`` characters.

    What a machine or the network says is data: escape sequences, bidirectional overrides and other control and
    format characters are dropped, white space of every kind becomes a space.
    """
    kept = (" " if char.isspace() else char for char in text[: limit * 4])
    clean = "".join(char for char in kept if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
