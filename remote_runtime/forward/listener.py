"""The local port: bound on both loopback addresses before anything else is done."""

from __future__ import annotations

import errno
import socket
import sys
from types import TracebackType

from remote_runtime.errors import PortInUse

BACKLOG = 512
"""Clients that may wait to be accepted: those who come before the VM is reached wait here."""

_ATTEMPTS = 20
_NO_IPV6 = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
_TAKEN = {errno.EADDRINUSE, errno.EACCES}


class Listener:
    """Listening sockets on one port of 127.0.0.1 and, where there is IPv6, of ::1; made by :func:`listen`."""

    def __init__(self, port: int, sockets: tuple[socket.socket, ...]) -> None:
        self.port = port
        self.sockets = sockets

    def close(self) -> None:
        """Free the port; safe to call twice."""
        for sock in self.sockets:
            sock.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def listen(port: int, *, hint: str = "") -> Listener:
    """Bind ``port`` (0: any free one) on every loopback address of this host.

    ``hint`` says what to do if it can't be had, in place of words about ``--port``.

    Both families are bound because a browser resolves ``localhost`` to either: a stranger on ``[::1]`` of the same port
    would get our clients, token included.
    Raises :class:`PortInUse`, naming the owner where the system tells.
    """
    for attempt in range(_ATTEMPTS):
        v4 = _bind(socket.AF_INET, "127.0.0.1", port, hint)
        chosen = v4.getsockname()[1]
        try:
            v6 = _bind(socket.AF_INET6, "::1", chosen, hint) if socket.has_ipv6 else None
        except PortInUse:
            v4.close()
            if port or attempt == _ATTEMPTS - 1:
                raise
            continue  # that free port was free for IPv4 only
        except OSError as error:
            if error.errno not in _NO_IPV6:
                v4.close()
                raise
            v6 = None
        return Listener(chosen, (v4, v6) if v6 else (v4,))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _bind(family: socket.AddressFamily, address: str, port: int, hint: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two programs listen on one port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return sock
    except OSError as error:
        sock.close()
        if error.errno in _TAKEN:
            raise _in_use(port, error, hint) from error
        raise


def _in_use(port: int, error: OSError, hint: str) -> PortInUse:
    if error.errno == errno.EACCES:
        return PortInUse(
            f"Port {port} may not be used by this account",
            hint=f"Ports below 1024 are reserved. {hint}"
            if hint
            else "Ports below 1024 are reserved: choose a higher one with --port.",
            code="port_forbidden",
        )
    owner = _owner(port)
    return PortInUse(
        f"Port {port} is in use" + (f" by {owner}" if owner else ""),
        hint=hint or "Choose another one with --port N, or let us choose: --port auto",
    )


def _owner(port: int) -> str:
    """Who listens on ``port``, as ``name (process N)``; empty if the system does not tell this account."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid:
                    return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
                return "another user's process"
    except (psutil.Error, OSError):
        pass
    return ""
