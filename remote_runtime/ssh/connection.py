"""One authenticated SSH connection: run a command, open streams, notice its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType

import paramiko

from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed, NetworkError
from remote_runtime.events import EventSink
from remote_runtime.model import Command, Dial, Endpoint, Jump, Question
from remote_runtime.ssh import auth, dial, hostkeys
from remote_runtime.ssh.auth import Unlocked
from remote_runtime.ssh.failures import by_way_of, no_handshake, no_session, refused, silent, translated
from remote_runtime.ssh.lean import LeanStreams
from remote_runtime.ssh.process import RemoteProcess
from remote_runtime.ssh.proxy_command import ProxyCommand
from remote_runtime.ssh.streams import StreamPump
from remote_runtime.ssh.transport import WINDOW_BYTES, Kind, Transport
from remote_runtime.stream import Sink, Stream
from remote_runtime.text import printable

HANDSHAKE_SECONDS = 30.0

# AES-GCM first: with it Python computes no MAC per packet, which doubles paramiko's throughput.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
# What paramiko offers by default and nobody should use any more (its ciphers are listed above instead).
WEAK = {
    "macs": ["hmac-sha1", "hmac-sha1-96", "hmac-md5", "hmac-md5-96"],
    "keys": ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com", "ssh-dss"],
    "kex": ["diffie-hellman-group-exchange-sha1", "diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1"],
}

# A key type and the signature algorithms it serves (RFC 8332); for all other types they are the same word.
ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}

REKEY_BYTES = 1 << 35
"""Rekey as late as OpenSSH does with AES (2^32 blocks, half of them): paramiko's default of 512 MB stalls
long transfers, and a channel that the VM closes during a rekey can block the whole transport."""

# Paramiko complains of every lost connection on its own logger, which would end on the user's terminal.
_LOGGER = "remote_runtime.paramiko"
logging.getLogger(_LOGGER).addHandler(logging.NullHandler())


def connect(
    endpoint: Endpoint,
    *,
    ask: Question | None,
    on_event: EventSink,
    deadline: Deadline,
    unlocked: Unlocked | None = None,
    transport: Kind = "lean",
    commands: bool = True,
    first_command: str = "",
) -> Connection:
    """Return an authenticated connection to ``endpoint``.

    The host key is verified before anything of ours is sent.  ``unlocked`` remembers what a person unlocks, for the
    next call with it, at which nobody may be there to ask.  ``transport`` says who moves the bytes of streams: our own
    code (``lean``, where it can be) or paramiko's (``stock``); ``commands`` that one will be run at once, and
    ``first_command`` which: it may be running before :meth:`Connection.execute` asks for it, waiting for its input.
    Raises :class:`NetworkError`, :class:`TimedOut`, :class:`HostKeyError` or :class:`AuthenticationFailed`.
    """
    unlocked = unlocked or Unlocked()
    usual = partial(connect, endpoint, ask=ask, on_event=on_event, deadline=deadline, unlocked=unlocked)
    with ExitStack() as opened:
        sock, complaint = _socket_to(endpoint, opened, ask=ask, on_event=on_event, deadline=deadline, unlocked=unlocked)
        try:
            spoken = _handshake(sock, endpoint, deadline, transport)
        except NetworkError as error:
            if said := printable(complaint()):
                raise NetworkError(
                    f"The proxy command for {endpoint.host} failed: {said}",
                    hint="Check ProxyCommand in your ssh_config.",
                    code="proxy_command_failed",
                ) from error
            raise
        opened.callback(spoken.helpers.close)
        opened.callback(spoken.close)
        spoken.foresight = deadline.bounded(HANDSHAKE_SECONDS) if commands else 0.0
        spoken.first_command = first_command
        key = spoken.get_remote_server_key()
        hostkeys.verify(endpoint.trust, endpoint.port, key.get_name(), key.asbytes(), ask=ask, on_event=on_event)
        try:
            auth.authenticate(spoken, endpoint, ask=ask, on_event=on_event, unlocked=unlocked, deadline=deadline)
        except (AuthenticationFailed, NetworkError):
            if not spoken.jilted:
                raise
            return usual(transport=transport, commands=False)
        return Connection(spoken, opened.pop_all())


def _socket_to(
    endpoint: Endpoint,
    opened: ExitStack,
    *,
    ask: Question | None,
    on_event: EventSink,
    deadline: Deadline,
    unlocked: Unlocked,
) -> tuple[dial.SocketLike, Callable[[], str]]:
    """A socket to the endpoint, and a way to learn what a proxy command complained of."""
    via = endpoint.via
    sock: dial.SocketLike
    if isinstance(via, Jump):
        with by_way_of(via.endpoint.host, endpoint):
            jump = opened.enter_context(
                connect(via.endpoint, ask=ask, on_event=on_event, deadline=deadline, unlocked=unlocked, commands=False)
            )
            sock = jump.dial(endpoint.host, endpoint.port, deadline)
    elif isinstance(via, Command):
        command = opened.enter_context(ProxyCommand(via.argv))
        return command.socket, command.complaint
    elif isinstance(via, Dial):
        sock = via.dial(deadline)
    else:
        sock = dial.tcp(endpoint.host, endpoint.port, deadline)
    opened.callback(sock.close)
    return sock, str


def _handshake(sock: dial.SocketLike, endpoint: Endpoint, deadline: Deadline, kind: Kind) -> Transport:
    transport = Transport(sock, kind=kind, disabled_algorithms=WEAK)
    patience = deadline.sooner(HANDSHAKE_SECONDS)
    try:
        transport.daemon = True
        transport.set_log_channel(_LOGGER)
        transport.banner_timeout = transport.handshake_timeout = patience.bounded(HANDSHAKE_SECONDS)
        transport.packetizer.REKEY_BYTES = REKEY_BYTES
        options = transport.get_security_options()
        options.ciphers = tuple(name for name in CIPHERS if name in options.ciphers)
        options.key_types = _ordered(options.key_types, hostkeys.preferred_kinds(endpoint.trust, endpoint.port))
        negotiated = threading.Event()
        transport.start_client(event=negotiated)
        patience.wait(negotiated)
        if not transport.is_active() or not negotiated.is_set():
            raise transport.get_exception() or EOFError("no answer")
        return transport
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport.close()
        transport.packetizer.complete_handshake()  # ends its timer, which would outlive the transport
        greeted = bool(transport.remote_version)
        if patience.expired:
            raise silent(endpoint, greeted=greeted) from error
        raise no_handshake(endpoint, error, greeted=greeted) from error
    except BaseException:
        transport.close()
        raise


def ended(channel: dial.SocketLike) -> bool:
    """Whether the far side of what :meth:`Connection.dial` gave has ended, as far as the connection has told by now."""
    return bool(channel.closed or channel.eof_received)


def _ordered(offered: Sequence[str], preferred: tuple[str, ...]) -> tuple[str, ...]:
    """The host key algorithms with those of the ``preferred`` key types first, else in their old order."""
    wanted = [name for kind in preferred for name in ALGORITHMS.get(kind, (kind,)) if name in offered]
    return tuple(dict.fromkeys([*wanted, *offered]))


class Connection:
    """One authenticated SSH connection; made by :func:`connect`, closed by whoever opened it."""

    def __init__(self, transport: Transport, opened: ExitStack) -> None:
        self._transport = transport
        self._opened = opened
        self._pump = LeanStreams(transport) if transport.wire else StreamPump(transport)

    @property
    def alive(self) -> bool:
        """Whether the connection has not ended, as far as is known here."""
        return self._transport.is_active()

    @property
    def cipher(self) -> str:
        """The name of the cipher by which this side sends."""
        return self._transport.local_cipher

    def source(self) -> str | None:
        """The local address from which the server is reached, as this computer's network is now.

        None if there is no way to it at the moment, or if the connection is not a TCP connection of ours.
        """
        return dial.source_towards(self._transport.peer) if self._transport.peer else None

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called, from any thread, when the connection has ended (at once if it has already), and when
        a probe was answered."""
        self._transport.on_change = tell
        if self._transport.ended.is_set():
            tell()

    def execute(self, line: str, deadline: Deadline) -> RemoteProcess:
        """Run a command line by the user's login shell; what it writes to both outputs comes merged.

        Raises :class:`NetworkError`, :class:`ChannelRefused` with code ``session_refused``, or :class:`TimedOut`.
        """
        with translated("running a command"):
            try:
                channel = self._transport.command(line, deadline.bounded(HANDSHAKE_SECONDS))
            except paramiko.ChannelException as error:
                raise no_session(error) from error
            try:
                channel.set_combine_stderr(True)
                return RemoteProcess(channel, deadline, self._pump.await_room)
            except BaseException:
                channel.close()
                raise

    def open_stream(self, host: str, port: int, sink: Sink, *, admit: Callable[[], bool] = lambda: True) -> Stream:
        """Open a stream to ``host:port`` as the VM sees them (see :mod:`remote_runtime.stream`).

        ``admit`` is asked once the VM has confirmed it: if it says no, the stream is refused, and no byte goes over it.
        """
        return self._pump.open(host, port, sink, admit)

    def dial(self, host: str, port: int, deadline: Deadline) -> dial.SocketLike:
        """A blocking socket-like object joined to ``host:port`` as the VM sees them.

        Raises :class:`ChannelRefused` or :class:`NetworkError`.
        """
        with translated(f"connecting to {host}:{port} on the VM"):
            try:
                return self._transport.open_channel(
                    "direct-tcpip",
                    (host, port),
                    ("127.0.0.1", 0),
                    window_size=WINDOW_BYTES,
                    timeout=deadline.bounded(HANDSHAKE_SECONDS),
                )
            except paramiko.ChannelException as error:
                raise refused((host, port), error) from error

    def heard(self) -> float:
        """When something came from the server last, of the monotonic clock."""
        return self._pump.heard()

    def probe(self) -> threading.Event:
        """Ask the server for a sign of life; the event is set when an answer, any answer, has come.

        A connection that ends without one leaves it unset.  Only one probe should be under way at a time.
        """
        answered = threading.Event()

        def heard() -> None:
            answered.set()
            self._transport.on_change()

        self._pump.probe(heard)
        return answered

    def close(self) -> None:
        """End the connection and everything on it; safe to call twice."""
        self._transport.close()
        self._pump.close()
        self._opened.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
