"""What the guest agent makes of metadata: accounts and their keys.  Pure, but for the clock that is handed in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

_MARK = "# Added by Google"


@dataclass(frozen=True)
class Key:
    """One line of ``ssh-keys``; ``expires`` is in seconds since the epoch, None for never."""

    user: str
    line: str
    expires: float | None


def keys(metadata: Mapping[str, str], project: Mapping[str, str]) -> list[Key]:
    """The keys that count: the instance's, and the project's unless they are blocked."""
    lines = [metadata.get("ssh-keys", ""), metadata.get("sshKeys", "")]
    if metadata.get("block-project-ssh-keys", "").lower() not in ("true", "1") and "sshKeys" not in metadata:
        lines += [project.get("ssh-keys", ""), project.get("sshKeys", "")]
    return [key for line in "\n".join(lines).splitlines() if (key := _key(line))]


def _key(line: str) -> Key | None:
    """``user:type base64 google-ssh {"userName": ..., "expireOn": ...}``; a line that is none is left out."""
    user, _, rest = line.strip().partition(":")
    words = rest.split(maxsplit=2)
    if not user or len(words) < 2:
        return None
    if len(words) < 3 or not words[2].startswith("google-ssh"):
        return Key(user, rest, None)
    try:
        expires = json.loads(words[2].removeprefix("google-ssh"))["expireOn"]
        return Key(user, " ".join(words[:2]), datetime.strptime(expires, "%Y-%m-%dT%H:%M:%S%z").timestamp())
    except (ValueError, KeyError, TypeError):
        return None


def per_user(found: Iterable[Key], now: float) -> dict[str, tuple[str, ...]]:
    """The lines of every user who has a key that has not expired."""
    users: dict[str, tuple[str, ...]] = {}
    for key in found:
        if key.expires is None or key.expires > now:
            users[key.user] = (*users.get(key.user, ()), key.line)
    return users


def next_expiry(found: Iterable[Key], now: float) -> float | None:
    """Seconds until the next key expires."""
    return min((key.expires - now for key in found if key.expires and key.expires > now), default=None)


def authorized_keys(before: str, lines: Iterable[str]) -> str:
    """The file with the managed keys replaced; what somebody else wrote into it stays."""
    old = before.splitlines()
    kept = [line for i, line in enumerate(old) if line != _MARK and (i == 0 or old[i - 1] != _MARK)]
    managed = [text for line in lines for text in (_MARK, line)]
    return "".join(f"{line}\n" for line in kept + managed)
