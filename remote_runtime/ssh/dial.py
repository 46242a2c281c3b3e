"""From an endpoint's ``host`` and ``via`` to a socket on which SSH can be spoken."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
from typing import Any

from remote_runtime._threads import SLICE_SECONDS, Deadline
from remote_runtime.errors import NetworkError, RemoteRuntimeError, TimedOut

SocketLike = Any
"""A socket, or a paramiko Channel, which has the same methods."""

ADDRESS_SECONDS = 10.0
"""The longest that one of several addresses of a host is tried before the next one gets its turn."""

USER_TIMEOUT_SECONDS = 30
"""Unacknowledged for so long, and the kernel gives the TCP connection up (Linux's TCP_USER_TIMEOUT)."""


_PENDING = {errno.EINPROGRESS, errno.EWOULDBLOCK}


def tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A TCP connection to the first address of ``host`` that answers.

    Raises :class:`NetworkError` with code ``unknown_host``, ``connection_refused`` or ``unreachable``, or
    :class:`TimedOut`.
    """
    where = f"{host} port {port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NetworkError(
            f"No such host: {host}",
            hint="Check the name, and that this computer is online.",
            code="unknown_host",
            retryable=isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN,
        ) from error
    failure: OSError | None = None
    for position, (family, kind, protocol, _, address) in enumerate(addresses, start=1):
        last = position == len(addresses)
        deadline.check(f"connecting to {where}")
        sock = socket.socket(family, kind, protocol)
        try:
            _connect(sock, address, deadline if last else deadline.sooner(ADDRESS_SECONDS))
            tune(sock)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise _unreachable(where, failure) from failure


def _connect(sock: socket.socket, address: tuple[Any, ...], deadline: Deadline) -> None:
    """Connect without blocking and wait in slices, so that a deadline that is cancelled is noticed."""
    sock.setblocking(False)
    status = sock.connect_ex(address)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while status in _PENDING and not selector.select(deadline.bounded(SLICE_SECONDS)):
            if deadline.expired:
                raise TimeoutError
    status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if status in _PENDING else status
    if status:
        raise OSError(status, os.strerror(status))


def tune(sock: socket.socket) -> None:
    """Send small packets at once, and notice a peer that no longer acknowledges."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_SECONDS * 1000)


def _unreachable(where: str, error: OSError | None) -> RemoteRuntimeError:
    if isinstance(error, ConnectionRefusedError):
        return NetworkError(
            f"{where} refuses connections",
            hint="The machine is up but no SSH server listens there: is the port right, has it finished booting?",
            code="connection_refused",
        )
    if isinstance(error, TimeoutError):
        return TimedOut(
            f"{where} does not answer",
            hint="The machine may be off, or a firewall drops the packets.",
            code="unreachable",
        )
    reason = error.strerror if error else "it has no address"
    return NetworkError(f"Can't reach {where}: {reason}", hint="Check the address and the network of this computer.")
