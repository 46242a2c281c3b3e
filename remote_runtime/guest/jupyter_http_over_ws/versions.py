"""The version that is spoken on the wire, and what a page may demand of it.  Pure."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Tuple

PROTOCOL_VERSION = "0.0.7"
"""What clients are told.  The last release of the original said so as well, although it called itself 0.0.8 ..."""

_ACCEPTED = (0, 0, 8)
"""... so a client that asks for 0.0.8 gets what it expects, too."""

_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:([ab])(\d{1,9}))?", re.ASCII)
_CLOSE_REASON_BYTES = 123


class Version(NamedTuple):
    """A version such as 1.2, 1.2.3 or 1.2a3."""

    release: Tuple[int, int, int]
    stage: str = ""
    stage_number: int = 0

    def __str__(self) -> str:
        release = self.release if self.release[2] else self.release[:2]
        text = ".".join(str(number) for number in release)
        return f"{text}{self.stage}{self.stage_number}" if self.stage else text


def parse(text: str) -> Optional[Version]:
    """The version that ``text`` names, or None."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, patch, stage, number = match.groups()
    return Version((int(major), int(minor), int(patch or 0)), stage or "", int(number or 0))


def is_outdated(text: str) -> bool:
    """Whether the version ``text`` that a client demands is newer than ours; False if it is no version at all."""
    wanted = parse(text)
    if wanted is None:
        return False
    # A pre-release comes before its release: 0.0.9a1 is still newer than 0.0.8, 0.0.8a1 is not.
    return wanted.release > _ACCEPTED


def refusal(text: str) -> str:
    """Why a socket that demands the version ``text`` can't be served, or "" if it can.  Fits into a close frame."""
    wanted = parse(text)
    if wanted is None:
        return _fitting(f'Invalid "min_version" provided: {text}')
    if is_outdated(text):
        return _fitting(
            f"Requested version ({wanted}) > Current version ({PROTOCOL_VERSION}). Please upgrade this package."
        )
    return ""


def _fitting(reason: str) -> str:
    """``reason``, cut to what a close frame can hold, and in one line, since it goes into the log as well."""
    reason = "".join(character if character.isprintable() else "?" for character in reason)
    return reason.encode("utf-8", "replace")[:_CLOSE_REASON_BYTES].decode("utf-8", "ignore")
