"""Paramiko's errors in our words; decided by type and code, never by text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import paramiko

from remote_runtime._threads import timed_out
from remote_runtime.errors import AuthenticationFailed, ChannelRefused, NetworkError, RemoteRuntimeError, TimedOut
from remote_runtime.model import Endpoint
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


@contextmanager
def by_way_of(jump: str, endpoint: Endpoint) -> Iterator[None]:
    """Say of errors within the block that they are the jump host's, and not those of the machine behind it."""
    try:
        yield
    except ChannelRefused as error:
        where = f"{endpoint.host} port {endpoint.port}"
        if error.code == "channel_refused":
            raise NetworkError(
                f"The jump host {jump} can't connect to {where}",
                hint="See whether the machine is up, and whether the jump host knows and reaches it under that name.",
            ) from error
        raise _with_message(error, f"The jump host {jump} does not let us connect to {where}") from error
    except RemoteRuntimeError as error:
        told = _with_message(error, f"At the jump host {jump}: {error.message}")
        told.on_the_way = True
        raise told from error


def _with_message(error: RemoteRuntimeError, message: str) -> RemoteRuntimeError:
    return type(error)(message, hint=error.hint, code=error.code, retryable=error.retryable)


def silent(endpoint: Endpoint, *, greeted: bool) -> TimedOut:
    """The error for a server that kept us waiting; ``greeted``: it has at least said that it speaks SSH."""
    where = f"{endpoint.host} port {endpoint.port}"
    if greeted:
        return timed_out(f"greeting the SSH server at {where}", None)
    return TimedOut(
        f"{where} accepts connections but says nothing",
        hint="Does an SSH server listen there? One that is overloaded or still booting may answer later.",
    )


def no_handshake(endpoint: Endpoint, error: Exception, *, greeted: bool) -> NetworkError:
    """The error for a server with which we could not agree on keys, or that is none."""
    where = f"{endpoint.host} port {endpoint.port}"
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return NetworkError(
            f"The SSH server at {where} offers only algorithms that are no longer safe: {printable(str(error))}",
            hint="Update the SSH server on that machine.",
            code="ssh_too_old",
            retryable=False,
        )
    if not greeted:
        return NetworkError(
            f"What answers at {where} does not speak SSH",
            hint="Is the port right? A machine that is still booting may also need a moment.",
            code="not_ssh",
        )
    return NetworkError(
        f"The SSH server at {where} ended the connection: {printable(str(error)) or type(error).__name__}",
        hint="Try again; if it persists, look into the SSH server's log on the machine.",
        code="connection_lost",
    )


def refused(target: tuple[str, int], error: paramiko.ChannelException) -> ChannelRefused:
    """The error for a channel that the VM did not open, by RFC 4254's reason code."""
    where = f"{target[0]}:{target[1]}"
    if error.code == PROHIBITED:
        return ChannelRefused(
            f"The SSH server does not let us forward to {where}",
            hint="AllowTcpForwarding and PermitOpen in its sshd_config decide this, and `restrict` or "
            "no-port-forwarding before your key in authorized_keys.",
            code="forwarding_forbidden",
            retryable=False,
        )
    if error.code == CONNECT_FAILED:
        return ChannelRefused(f"Nothing listens on {where} of the VM", code="channel_refused")
    return ChannelRefused(f"The SSH server refused a channel to {where}: {printable(error.text)}")


def no_session(error: paramiko.ChannelException) -> ChannelRefused:
    """The error for a server that lets us in and then runs nothing for us."""
    return ChannelRefused(
        f"The SSH server does not let us run commands: {printable(error.text)}",
        hint="Its sshd_config may say so (MaxSessions), or the machine may be out of processes or memory.",
        code="session_refused",
    )


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


Cure = Literal["", "unlock", "retype", "renew", "hung_up"]
_CURES = {
    "unlock": "Unlock the key for all programs with ssh-add, or connect in a terminal, where you are asked for it.",
    "retype": "Connect again with the right passphrase: ssh-keygen -y -f and the key's file tell whether it is.",
    "renew": "Get a new certificate for that key.",
    "hung_up": "It ends a login after a few keys. Name the right one in ssh_config: IdentityFile, IdentitiesOnly yes.",
}
_CHECK = "Check the user name and that the machine has your public key: ssh -v shows the same attempt."
_NO_KEY = "No key could be offered: name one by IdentityFile in ssh_config, or load it with ssh-add."


def denied(
    who: str, *, allowed: Sequence[str], tried: Sequence[str], skipped: Sequence[str], cure: Cure, can_ask: bool
) -> AuthenticationFailed:
    """The error for a login that failed.

    ``allowed`` is what the server would still accept, as far as it told; ``tried`` and ``skipped`` are keys and other
    means of ours; ``cure`` is set where the cause is known; ``can_ask`` tells whether a person was there to answer.
    """
    means = ", ".join(tried) or "nothing"
    means += f"; skipped: {', '.join(skipped)}" if skipped else ""
    wants = f" It accepts: {', '.join(printable(name) for name in allowed)}." if allowed else ""
    return AuthenticationFailed(
        f"{who} did not let us in.{wants} Tried: {means}",
        hint=_CURES[cure] if cure else _check(allowed, tried, asks=not can_ask),
    )


def _check(allowed: Sequence[str], tried: Sequence[str], *, asks: bool) -> str:
    asks = asks and bool({"password", "keyboard-interactive"} & set(allowed))
    if asks and "publickey" not in allowed:
        return "It asks for a password or a code: connect in a terminal, where you can answer."
    return (_CHECK if tried else _NO_KEY) + (" If it has to be a password, connect in a terminal." if asks else "")
