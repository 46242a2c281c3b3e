"""Paramiko's errors in our words; decided by type and code, never by text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from remote_runtime._threads import timed_out
from remote_runtime.errors import ChannelRefused, NetworkError
from remote_runtime.text import printable

PROHIBITED, CONNECT_FAILED = 1, 2  # reason codes of RFC 4254, section 5.1


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn paramiko's and the socket's errors within the block into ours."""
    try:
        yield
    except TimeoutError as error:
        raise timed_out(doing, None) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise lost(str(error)) from error


def refused(target: tuple[str, int], error: paramiko.ChannelException) -> ChannelRefused:
    """The error for a channel that the VM did not open, by RFC 4254's reason code."""
    where = f"{target[0]}:{target[1]}"
    if error.code == PROHIBITED:
        return ChannelRefused(
            f"The SSH server does not let us forward to {where}",
            hint="AllowTcpForwarding and PermitOpen in its sshd_config decide this.",
            code="forwarding_forbidden",
            retryable=False,
        )
    if error.code == CONNECT_FAILED:
        return ChannelRefused(f"Nothing listens on {where} of the VM", code="channel_refused")
    return ChannelRefused(f"The SSH server refused a channel to {where}: {printable(error.text)}")


def not_admitted(target: tuple[str, int]) -> ChannelRefused:
    """The error for a stream that reached something else than what had proved itself there."""
    return ChannelRefused(
        f"What listens on {target[0]}:{target[1]} of the VM is not what proved itself", code="server_gone"
    )


def lost(reason: str) -> NetworkError:
    """The error for a connection that is gone."""
    return NetworkError(
        f"The SSH connection is gone: {printable(reason) or 'it ended'}",
        hint="The machine may have stopped, or the network changed.",
        code="connection_lost",
    )
