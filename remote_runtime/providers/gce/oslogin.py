"""OS Login: whether it is on for a VM, and who one is there.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remote_runtime.errors import AuthenticationFailed
from remote_runtime.providers.gce import metadata

ENABLED = "enable-oslogin"


def is_on(instance: Mapping[str, str], project: Mapping[str, str]) -> bool:
    """Whether it is on, by the metadata of the instance, which is stronger, and of its project."""
    return metadata.is_true(instance.get(ENABLED, project.get(ENABLED, "")))


def key_end(profile: Mapping[str, Any], public: str) -> float | None:
    """Until when the profile holds this key, in seconds since 1970; None: it does not, ``inf``: for ever."""
    for entry in (profile.get("sshPublicKeys") or {}).values():
        if _is_key(entry, public):
            micros = int(entry.get("expirationTimeUsec") or 0)
            return micros / 1e6 if micros else float("inf")
    return None


def key_names(profile: Mapping[str, Any], public: str) -> list[str]:
    """The resources, ``users/EMAIL/sshPublicKeys/FINGERPRINT``, by which the profile holds this key."""
    entries = (profile.get("sshPublicKeys") or {}).values()
    return [str(entry["name"]) for entry in entries if _is_key(entry, public) and entry.get("name")]


def user_name(profile: Mapping[str, Any], wanted: str | None) -> str:
    """The account on the VM: ``wanted`` if the profile lists it, else the primary one, else the first.

    Raises :class:`AuthenticationFailed` with code ``no_posix_account`` if there is none.
    """
    accounts = [one for one in profile.get("posixAccounts") or [] if one.get("username")]
    if not accounts:
        raise AuthenticationFailed(
            "Your OS Login profile has no account for Linux machines",
            hint="Ask your administrator for one, or switch OS Login off for the VM (metadata enable-oslogin=FALSE).",
            code="no_posix_account",
        )
    names = [str(one["username"]) for one in accounts]
    if wanted in names:
        return str(wanted)
    primary = [str(one["username"]) for one in accounts if one.get("primary")]
    return (primary or names)[0]


def _is_key(entry: Mapping[str, Any], public: str) -> bool:
    return str(entry.get("key", "")).split()[:2] == public.split()[:2]
