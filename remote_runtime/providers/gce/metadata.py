"""Public keys in the metadata of an instance.  Pure.

A line is ``USER:TYPE KEY COMMENT``; with the comment ``google-ssh {"userName":...,"expireOn":...}`` the guest removes
it when it has expired.  The value is replaced as a whole, so that a line we drop locks its user out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from remote_runtime.errors import InstanceError, UsageError

KEYS = "ssh-keys"
LONGEST_VALUE_BYTES = 262_144
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def items(instance: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an instance, or of a project's ``commonInstanceMetadata``, by key."""
    metadata = instance.get("metadata") or instance.get("commonInstanceMetadata") or {}
    return {item["key"]: item.get("value", "") for item in metadata.get("items", [])}


def is_true(value: str) -> bool:
    """Whether a metadata value says yes, as the guest reads it."""
    return value.strip().lower() in ("true", "1", "y", "yes")


def key_line(user: str, public: str, expires: float) -> str:
    """The line for a key (``"type base64 comment"``) that is good until ``expires`` (seconds since 1970)."""
    kind, blob = public.split()[:2]
    moment = datetime.fromtimestamp(int(expires), timezone.utc).strftime(_TIME)
    detail = json.dumps({"userName": user, "expireOn": moment}, separators=(",", ":"))
    return f"{user}:{kind} {blob} google-ssh {detail}"


def expiry(line: str) -> float | None:
    """When a line expires, in seconds since 1970; None: never."""
    _, mark, detail = line.partition(" google-ssh ")
    try:
        return datetime.strptime(json.loads(detail)["expireOn"], _TIME).timestamp() if mark else None
    except (ValueError, KeyError, TypeError):
        return None


def expires_at(value: str, user: str, public: str) -> float | None:
    """Until when this key of this user is in the value (seconds since 1970); None: it is not, ``inf``: for ever."""
    mine = [line for line in value.split("\n") if _same_key(line, user, public)]
    ends = [float("inf") if (end := expiry(line)) is None else end for line in mine]
    return max(ends, default=None)


def merged(value: str, line: str, now: float) -> str:
    """``value`` with ``line`` as its last one, in place of older ones with the same user and key.

    Lines that have expired are dropped; everybody else's stay as they are.
    Raises :class:`InstanceError` with code ``metadata_full``.
    """
    user, _, key = line.partition(":")
    kept = [
        other
        for other in value.split("\n")
        if other.strip() and not _same_key(other, user, key) and not (expiry(other) or now) < now
    ]
    result = "\n".join([*kept, line])
    if len(result.encode()) > LONGEST_VALUE_BYTES:
        raise InstanceError(
            "There is no room for another key in the instance's metadata",
            hint="Remove keys that nobody needs any more from its entry ssh-keys, or use OS Login.",
            code="metadata_full",
        )
    return result


def without(value: str, user: str, public: str) -> str:
    """``value`` without this key of this user."""
    return "\n".join(line for line in value.split("\n") if not _same_key(line, user, public))


def replaced(metadata: Mapping[str, Any], key: str, value: str) -> dict[str, Any]:
    """The body of ``setMetadata``: all entries and the fingerprint as they are, ``key`` with its new value."""
    others = [item for item in metadata.get("items", []) if item["key"] != key]
    body: dict[str, Any] = {"items": [*others, {"key": key, "value": value}] if value else others}
    return {**body, "fingerprint": metadata["fingerprint"]} if metadata.get("fingerprint") else body


def user_name(wanted: str | None, local: str) -> str:
    """The account to log in as: what the user wants, else this computer's user name made fit for Linux.

    Raises :class:`UsageError` with code ``bad_user`` for a name that the guest could not make an account of, and
    for root, whom the stock images' sshd does not let in.
    """
    name = wanted or _made_fit(local)
    if name == "root":
        raise UsageError(
            "The SSH servers of Google's images don't let root log in",
            hint="Name another account with --user: it is made on the machine, and may use sudo.",
            code="bad_user",
        )
    if not _USER.fullmatch(name):
        raise UsageError(
            f"{name!a} can't be the name of an account on Linux",
            hint="Name another one with --user: lower-case letters, digits, _ and -, at most 32.",
            code="bad_user",
        )
    return name


def _made_fit(local: str) -> str:
    name = re.sub(r"[^a-z0-9_-]", "_", local.rpartition("\\")[2].partition("@")[0].lower())[:32]
    return name if not name or name[0].isalpha() or name[0] == "_" else f"_{name}"[:32]


def _same_key(line: str, user: str, public: str) -> bool:
    owner, _, key = line.partition(":")
    return owner == user and key.split()[:2] == public.split()[:2]
