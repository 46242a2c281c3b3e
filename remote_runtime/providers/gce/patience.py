"""How long a login that fails is worth another attempt, while a VM boots.  Pure.

A booting VM passes through: nobody listens; sshd listens, but has no keys of the user's yet; sshd is told to read its
configuration again, and refuses connections for a moment; then all is well.
"""

from __future__ import annotations

from remote_runtime.errors import AuthenticationFailed, HostKeyError, NetworkError, RemoteRuntimeError
from remote_runtime.providers.gce.failures import UNTRUSTED

BOOT_SECONDS = 240.0
"""For so long after a start it is normal that sshd does not answer; images with drivers to install are slow."""

KEY_SECONDS = 90.0
"""For so long after a key was added to the metadata it is normal that the guest has not taken it up."""

BREATH_SECONDS = 10.0
"""A machine that has been up for long may still be in the middle of something."""

PREPARATION_SECONDS = BOOT_SECONDS
"""For so long after a start a startup script may not have begun; one that has, the guest itself knows of."""

LASTING = (UNTRUSTED, "iap_protocol")
"""Codes of failures on the way to the machine that no boot will end."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 2.0

FIRST_DENIED_SECONDS, LONGEST_DENIED_SECONDS = 1.0, 5.0
"""After a login that was denied: newer SSH servers shut out for a while who is denied several times in a short time."""


def worth_waiting(error: RemoteRuntimeError, *, since_boot: float, since_key: float, since_first: float) -> bool:
    """Whether such a failure of a login is normal now, and will pass.

    All in seconds: since the VM was started, since the key was added to its metadata (both infinite if long ago), and
    since the first of these failures.
    """
    if isinstance(error, HostKeyError) or error.code in LASTING:
        return False
    if isinstance(error, AuthenticationFailed):
        return since_key < KEY_SECONDS or since_boot < KEY_SECONDS
    if isinstance(error, NetworkError):
        return since_boot < BOOT_SECONDS or (error.code != "unreachable" and since_first < BREATH_SECONDS)
    return False


def pause(error: RemoteRuntimeError, failures: int) -> float:
    """Seconds until the next attempt, after so many failures the last of which was this."""
    denied = isinstance(error, AuthenticationFailed)
    first = FIRST_DENIED_SECONDS if denied else FIRST_PAUSE_SECONDS
    longest = LONGEST_DENIED_SECONDS if denied else LONGEST_PAUSE_SECONDS
    return float(min(longest, first * 2.0 ** min(failures - 1, 8)))
