"""Paramiko's Transport with four things added: it tells of its end, asks for the login service only once, can ask for
the first command together with the login, and can read and write by a :class:`Wire` of ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import paramiko

from remote_runtime._threads import ThreadGroup
from remote_runtime.ssh import private
from remote_runtime.ssh.messages import CHANNEL_OPEN, CHANNEL_REQUEST
from remote_runtime.ssh.private import PatientTransport, QuickAuthHandler
from remote_runtime.ssh.wire import Wire

Kind = Literal["lean", "stock"]

WINDOW_BYTES = 4 << 20
"""The receive window of paramiko's channels: 1.3-1.5 times OpenSSH's on a WAN; at 8 MiB and above sshd's own CPU use
explodes."""

FIRST_CHANNEL = 0
"""The number that OpenSSH's server gives to the first channel of a connection."""


class Transport(PatientTransport):
    """A Transport that tells of its end, of which its thread's end is the one sure sign.

    The kind ``lean`` reads and writes by a :class:`Wire`, where ``sock`` and this version of paramiko allow that;
    else ``wire`` is None.  With a ``foresight`` of some seconds, a session's channel is asked for with the first key,
    and ``first_command``, if there is one, is run on it; where this version of paramiko does not allow that, it logs in
    and runs commands as paramiko does.
    """

    packetizer: Any

    def __init__(self, sock: Any, *, kind: Kind, **options: Any) -> None:
        self.wire = Wire(sock) if kind == "lean" and private.usable() and isinstance(sock, socket.socket) else None
        if self.wire:
            from remote_runtime.ssh.packets import LeanPacketizer

            options["packetizer_class"] = LeanPacketizer
        super().__init__(self.wire or sock, **options)  # a wire has what is used of a socket
        self.peer = _peer_of(sock)
        self.on_end: Callable[[], None] = lambda: None
        self.foresight = 0.0
        self.first_command = ""
        self.helpers = ThreadGroup(lambda: None)  # to be closed after the transport
        self._foreseen: _Foreseen | None = None
        self._behind_open = ""  # the command to ask for as soon as a channel has been asked for
        self._tried = False
        self.ended = threading.Event()
        self.on_change: Callable[[], None] = lambda: None

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.on_end()
            if self.wire:
                self.wire.release()
            self.ended.set()
            self.on_change()

    def command(self, line: str, seconds: float) -> paramiko.Channel:
        """A channel on which ``line`` runs, in ``seconds``; raises what paramiko's ``open_session`` raises.

        The first one may have been asked for already, with the first key that was tried.
        """
        foreseen, self._foreseen = self._foreseen, None
        channel = foreseen and foreseen.take(line, seconds)
        if not self.is_active():
            raise self.get_exception() or EOFError("it is closed")
        if channel:
            return channel
        channel = self.open_session(window_size=WINDOW_BYTES, timeout=seconds)
        if private.usable():
            self.run_command(channel.remote_chanid, line)
        else:
            channel.exec_command(line)
        return channel

    def _foresee(self, method: str) -> None:
        """With the first key, ask for a session's channel too, and for the first command on it.

        If the key is let in, each saves a round trip; and a command turns the server's Nagle algorithm off, which
        would hold its answer to the login back for another one.  OpenSSH answers all in order, gives the first channel
        the number 0, and says that it doesn't understand them where the key is refused.  Other servers may hang up, so
        they are not asked.
        """
        first, self._tried = not self._tried, True
        if first and self.foresight and method == "publickey" and "OpenSSH" in self.remote_version:
            self._behind_open = self.first_command
            self._foreseen = _Foreseen(self, self.first_command, self.foresight)

    def sent(self, message: paramiko.Message) -> None:
        if self._behind_open and message.asbytes()[0] == CHANNEL_OPEN:
            line, self._behind_open = self._behind_open, ""
            self.run_command(FIRST_CHANNEL, line)

    @property
    def jilted(self) -> bool:
        """Whether the server let us in and hung up at once, as one does that grants no session to what was foreseen."""
        handler = self.auth_handler
        return bool(self.foresight and not self.is_active() and handler and handler.is_authenticated())

    def run_command(self, number: int, line: str) -> None:
        """Run ``line`` on the session's channel that has that number at the server, without waiting for its word on
        that: a refusal closes the channel.

        Paramiko's own ``exec_command`` waits, which costs a round trip.
        """
        request = paramiko.Message()
        request.add_byte(bytes([CHANNEL_REQUEST]))
        request.add_int(number)
        request.add_string("exec")
        request.add_boolean(True)
        request.add_string(line)
        self.send_user_message(request)

    def attempt(self, method: str, *arguments: Any) -> list[str]:
        """Try to log in by ``method`` (``none``, ``publickey``, ``password`` or ``interactive``), and wait.

        The arguments are those of paramiko's ``auth_<method>``.  Returns the methods that the server wants besides;
        none, if this was enough.  Raises what paramiko's methods raise.
        """
        if not self.is_active():
            raise self.get_exception() or EOFError("the server hung up")
        if not private.usable():
            options = {"fallback": False} if method == "password" else {}
            return list(getattr(self, f"auth_{method}")(*arguments, **options))
        answered = threading.Event()
        self.auth_handler = handler = QuickAuthHandler(self)
        getattr(handler, f"auth_{method}")(*arguments, answered)
        self._foresee(method)
        try:
            return list(handler.wait_for_response(answered))
        finally:
            if self._foreseen and not self.is_authenticated():
                self._foreseen = None  # it was asked for too early, and never comes


def _peer_of(sock: Any) -> Any:
    """The IP socket address that ``sock`` is connected to; None if it is no such socket."""
    if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):  # it has ended already
            return sock.getpeername()
    return None


class _Foreseen:
    """A session's channel that was asked for before anybody wants it, with the command ``line`` on it (or none)."""

    def __init__(self, transport: Transport, line: str, seconds: float) -> None:
        self._transport = transport
        self._line = line
        self._seconds = seconds
        self._channel: paramiko.Channel | None = None
        self._refused: paramiko.ChannelException | None = None
        self._done = threading.Event()
        transport.helpers.spawn("ssh-session", self._open)

    def take(self, line: str, seconds: float) -> paramiko.Channel | None:
        """The channel, on which ``line`` runs; None if it does not come in time, or runs something else."""
        self._done.wait(seconds)
        if self._refused:
            raise self._refused
        if self._channel and not self._line:
            self._transport.run_command(self._channel.remote_chanid, line)
        elif self._channel and self._line != line:
            self._channel.close()
            return None
        return self._channel

    def _open(self) -> None:
        try:
            self._channel = self._transport.open_session(window_size=WINDOW_BYTES, timeout=self._seconds)
        except paramiko.ChannelException as error:
            self._refused = error
        except (paramiko.SSHException, EOFError, OSError):
            pass  # it is asked for again when it is wanted
        finally:
            self._done.set()
