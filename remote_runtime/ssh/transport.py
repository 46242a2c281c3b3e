"""Paramiko's Transport with three things added: it tells of its end, asks for the login service only once, and can read
and write by a :class:`Wire` of ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import paramiko
from paramiko.auth_handler import AuthHandler

from remote_runtime._threads import ThreadGroup
from remote_runtime.ssh.messages import CHANNEL_REQUEST
from remote_runtime.ssh.packets import USABLE, LeanPacketizer
from remote_runtime.ssh.wire import Wire

Kind = Literal["lean", "stock"]

WINDOW_BYTES = 4 << 20
"""The receive window of paramiko's channels: 1.3-1.5 times OpenSSH's on a WAN; at 8 MiB and above sshd's own CPU use
explodes."""


class Transport(paramiko.Transport):
    """A Transport that tells of its end, of which its thread's end is the one sure sign.

    The kind ``lean`` reads and writes by a :class:`Wire`, where ``sock`` and this version of paramiko allow that;
    else ``wire`` is None.  With a ``foresight`` of some seconds, a session's channel is asked for with the first key.
    """

    packetizer: Any

    def __init__(self, sock: Any, *, kind: Kind, **options: Any) -> None:
        self.wire = Wire(sock) if kind == "lean" and USABLE and isinstance(sock, socket.socket) else None
        if self.wire:
            options["packetizer_class"] = LeanPacketizer
        super().__init__(self.wire or sock, **options)  # type: ignore[arg-type]  # it has what is used of a socket
        self.on_end: Callable[[], None] = lambda: None
        self.foresight = 0.0
        self.helpers = ThreadGroup(lambda: None)  # to be closed after the transport
        self._foreseen: _Foreseen | None = None
        self._tried = False
        self.ended = threading.Event()
        self.on_change: Callable[[], None] = lambda: None
        self.login_service = False

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.on_end()
            if self.wire:
                self.wire.release()
            self.ended.set()
            self.on_change()

    def session(self, seconds: float) -> paramiko.Channel:
        """A channel for a command, in ``seconds``; raises what paramiko's ``open_session`` raises.

        The first one may have been asked for already, with the first key that was tried.
        """
        foreseen, self._foreseen = self._foreseen, None
        if not self.is_active():
            raise self.get_exception() or EOFError("it is closed")
        return (foreseen and foreseen.wait(seconds)) or self.open_session(window_size=WINDOW_BYTES, timeout=seconds)

    def _foresee(self, method: str) -> None:
        """With the first key, ask for a session's channel too: if it is let in, that saves a round trip.

        OpenSSH answers both in order, and says that it doesn't understand the second where the key is refused.  Other
        servers may hang up, so they are not asked.
        """
        first, self._tried = not self._tried, True
        if first and self.foresight and method == "publickey" and "OpenSSH" in self.remote_version:
            self._foreseen = _Foreseen(self, self.foresight)

    def run_command(self, channel: paramiko.Channel, line: str) -> None:
        """Run ``line`` on a session's channel, without waiting for the server's word on that: a refusal closes it.

        Paramiko's own ``exec_command`` waits, which costs a round trip.
        """
        request = paramiko.Message()
        request.add_byte(bytes([CHANNEL_REQUEST]))
        request.add_int(channel.remote_chanid)
        request.add_string("exec")
        request.add_boolean(True)
        request.add_string(line)
        self._send_user_message(request)  # type: ignore[attr-defined]

    def attempt(self, method: str, *arguments: Any) -> list[str]:
        """Try to log in by ``method`` (``none``, ``publickey``, ``password`` or ``interactive``), and wait.

        The arguments are those of paramiko's ``auth_<method>``.  Returns the methods that the server wants besides;
        none, if this was enough.  Raises what paramiko's methods raise.
        """
        if not self.is_active():
            raise self.get_exception() or EOFError("the server hung up")
        answered = threading.Event()
        self.auth_handler = handler = _AuthHandler(self)
        getattr(handler, f"auth_{method}")(*arguments, answered)
        self._foresee(method)
        return list(handler.wait_for_response(answered))


class _Foreseen:
    """A session's channel that was asked for before anybody wants it."""

    def __init__(self, transport: Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._channel: paramiko.Channel | None = None
        self._done = threading.Event()
        transport.helpers.spawn("ssh-session", self._open)

    def wait(self, seconds: float) -> paramiko.Channel | None:
        """The channel; None if it was refused, or does not come in time."""
        self._done.wait(seconds)
        return self._channel

    def _open(self) -> None:
        with suppress(paramiko.SSHException, EOFError, OSError):  # it is asked for again when it is wanted
            self._channel = self._transport.open_session(window_size=WINDOW_BYTES, timeout=self._seconds)
        self._done.set()


class _AuthHandler(AuthHandler):
    """Asks for the login service only once, and does not wait for the answer before it tries to log in.

    RFC 4253 (section 10) knows no other answer than yes or the end of the connection, so waiting would cost a round
    trip for nothing.  Asked again for each key, as paramiko would, OpenSSH still says yes, but others (AsyncSSH) hang
    up, as RFC 4252 lets them.
    """

    transport: Transport

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
