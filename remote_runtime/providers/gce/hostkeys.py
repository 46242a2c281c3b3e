"""What a guest tells the cloud: its host keys, and when it can be logged in to.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from remote_runtime import keys
from remote_runtime.errors import AuthenticationFailed
from remote_runtime.guest.attributes import NAMESPACE

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_KEY = re.compile(r"(?<!\S)(" + "|".join(KINDS) + r")[ \t]+([A-Za-z0-9+/]{40,}={0,2})(?!\S)")


def from_guest_attributes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys, each ``"type base64"``, best type first, in the answer for ``hostkeys/``."""
    found = []
    for item in (answer.get("queryValue") or {}).get("items", []):
        words = str(item.get("value", "")).split()
        if item.get("namespace") == "hostkeys" and words:
            found.append(f"{item.get('key', '')} {words[0]}")
    return _readable(found)


def from_serial_console(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys in the first block of host keys on the console.

    Empty too if the console's beginning is lost: whoever runs on the machine can write later blocks.
    """
    if int(answer.get("start") or 0) != 0:
        return ()
    block = _BLOCK.search(str(answer.get("contents", "")))
    return _readable([f"{kind} {blob}" for kind, blob in _KEY.findall(block[1])]) if block else ()


def sshable_since(answer: Mapping[str, Any]) -> float | None:
    """When the guest's agent said that one can log in (seconds since 1970), in the answer for ``guest-agent/``."""
    with suppress(ValueError):
        return float(_attribute(answer, "guest-agent", "sshable"))
    return None


def preparation_step(answer: Mapping[str, Any]) -> str:
    """At which step our startup script is, in the answer for ``remote-runtime/``; empty unless it is at work.

    Attributes outlive a boot: until the script begins, which says so first of all, they tell how the last run ended.
    """
    return _attribute(answer, NAMESPACE, "step") if _attribute(answer, NAMESPACE, "state") == "running" else ""


def last_line(answer: Mapping[str, Any]) -> str:
    """The last line on the console that says something."""
    lines = [line.strip() for line in str(answer.get("contents", "")).splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _attribute(answer: Mapping[str, Any], namespace: str, key: str) -> str:
    for item in (answer.get("queryValue") or {}).get("items", []):
        if item.get("namespace") == namespace and item.get("key") == key:
            return str(item.get("value", ""))
    return ""


def _readable(lines: list[str]) -> tuple[str, ...]:
    good = {line for line in lines if _is_key(line)}
    return tuple(sorted(good, key=lambda line: (KINDS.index(line.split()[0]), line)))


def _is_key(line: str) -> bool:
    try:
        kind, blob = keys.parse_public(line)
    except AuthenticationFailed:
        return False
    named = kind.encode()
    return kind in KINDS and blob.startswith(len(named).to_bytes(4, "big") + named)
