"""What we change in paramiko by names that it does not document, and whether this version of it has them all.

If one is missing, :func:`usable` says so, and all goes paramiko's own plain way: slower, but it works (except that a
server that hangs up when it is asked for the login service again, as AsyncSSH's does, lets us try one key only).  The
packets themselves are changed in :mod:`remote_runtime.ssh.packets`, which is imported only if everything is there.
"""

from __future__ import annotations

import functools
import inspect
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler

_PACKETIZER = (
    "_trigger_rekey",
    "handshake_timed_out",
    "need_rekey",
    "read_message",
    "reset_seqno_in",
    "reset_seqno_out",
    "send_message",
)
_TRANSPORT = ("_send_user_message", "clear_to_send", "clear_to_send_lock", "packetizer")
"""The streams of :mod:`remote_runtime.ssh.lean` ask the two in the middle for themselves."""
_LOGIN = ("_parse_service_accept", "_request_auth")
_CHANNEL = ("remote_chanid",)


@functools.cache
def usable() -> bool:
    """Whether every name that we rely on is there."""
    return not missing()


def missing() -> set[str]:
    """The names that we rely on and this version of paramiko does not have."""
    near, far = socket.socketpair()
    with near, far:
        return set(_missing(paramiko.Transport(near)))


def _missing(transport: paramiko.Transport) -> Iterator[str]:
    packetizer = getattr(transport, "packetizer", None)
    owners: tuple[tuple[object, tuple[str, ...]], ...] = (
        (transport, _TRANSPORT),
        (packetizer, _PACKETIZER),
        (AuthHandler, _LOGIN),
        (paramiko.Channel(0), _CHANNEL),
        (getattr(paramiko, "packet", None), ("NeedRekeyException", "Packetizer")),
    )
    for owner, names in owners:
        yield from (name for name in names if not hasattr(owner, name))
    functions: tuple[tuple[object, set[str]], ...] = (
        (paramiko.Transport, {"packetizer_class"}),
        (getattr(packetizer, "set_inbound_cipher", None), {"aead", "iv_in"}),
        (getattr(packetizer, "set_outbound_cipher", None), {"aead", "iv_out"}),
    )
    for function, options in functions:
        yield from options - set(inspect.signature(function).parameters if callable(function) else ())


class PatientTransport(paramiko.Transport):
    """A Transport whose own thread never waits for itself.

    While keys are exchanged nothing else may be sent, and paramiko lets whoever wants to wait.  But a channel that the
    server closes is answered by the transport's own thread, which alone can end the exchange: what it wants to send is
    held until then.
    """

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self.login_service = False  # whether it has been asked for
        self._held: deque[paramiko.Message] = deque()
        if usable():
            self.clear_to_send: threading.Event = _Clear(self._send_held)

    def send_user_message(self, message: paramiko.Message) -> None:
        """Send a message as soon as no keys are exchanged, and wait for that."""
        self._send_user_message(message)

    def sent(self, message: paramiko.Message) -> None:
        """Called when a message of another thread, which asks for something, has been sent."""

    def _send_user_message(self, data: paramiko.Message) -> None:
        if threading.current_thread() is self and usable():
            self._send_or_hold(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]
            self.sent(data)

    def _send_or_hold(self, message: paramiko.Message) -> None:
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set():
                self.packetizer.send_message(message)
            else:
                self._held.append(message)

    def _send_held(self) -> None:
        """Called with ``clear_to_send_lock`` held, so that nobody else comes in between."""
        while self._held:
            self.packetizer.send_message(self._held.popleft())


class _Clear(threading.Event):
    """What paramiko sets, under its lock, when an exchange of keys is over: the first to send is ``send_held``."""

    def __init__(self, send_held: Callable[[], None]) -> None:
        super().__init__()
        self._send_held = send_held

    def set(self) -> None:
        self._send_held()
        super().set()


class QuickAuthHandler(AuthHandler):
    """Asks for the login service only once, and does not wait for the answer before it tries to log in.

    RFC 4253 (section 10) knows no other answer than yes or the end of the connection, so waiting would cost a round
    trip for nothing.  Asked again for each key, as paramiko would, OpenSSH still says yes, but others (AsyncSSH) hang
    up, as RFC 4252 lets them.
    """

    transport: PatientTransport

    def _request_auth(self) -> None:
        if not self.transport.login_service:
            self.transport.login_service = True
            super()._request_auth()  # type: ignore[misc]
        super()._parse_service_accept(_service_accept())  # type: ignore[misc]

    def _parse_service_accept(self, m: paramiko.Message) -> None:
        """The answer has come, and what it allows is under way."""


def _service_accept() -> paramiko.Message:
    message = paramiko.Message()
    message.add_string("ssh-userauth")
    message.rewind()
    return message
