"""Our own channels on paramiko's transport: no thread per stream, no copy that is not needed, no wait while sending.

Everything that arrives is handled by the transport's own thread; what a stream sends goes out in the thread that
writes it, as far as the peer's window and the line have room.  The numbers of our channels begin where paramiko's end,
so both kinds share one connection, and paramiko never hears of ours.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import paramiko

from remote_runtime._threads import Deadline
from remote_runtime.ssh import messages
from remote_runtime.ssh.failures import lost
from remote_runtime.ssh.lean_stream import LeanStream
from remote_runtime.ssh.transport import Transport
from remote_runtime.ssh.window import Tuner
from remote_runtime.stream import Sink

FIRST_NUMBER = 1 << 24
"""Paramiko numbers its channels below that."""

PACKET_BYTES = 128 << 10
"""How much the server may put into one message: sshd writes one at a time, and bigger ones fill the path better; but
every other stream's data waits behind it.  At 240 KiB a ping beside a download takes half as long again."""

QUEUED_BYTES = 128 << 10
"""So much of all streams' data may wait in the wire: what is behind it waits so much longer."""

ECHO_SECONDS = 0.05
"""How often the path is measured at most, while bulk data comes in."""
IDLE_BYTES = 16 << 10
"""What comes in, or goes out, during such a measurement without being called bulk data."""

Answered = Callable[[], None]


class LeanStreams:
    """All of our own streams of one transport, and the echoes by which its path is measured."""

    def __init__(self, transport: Transport) -> None:
        if transport.wire is None:
            raise ValueError("the transport has no wire of ours")
        self.transport = transport
        self.wire = transport.wire
        self.tuner = Tuner()
        self._packetizer = transport.packetizer
        self._lock = threading.Lock()
        self._streams: dict[int, LeanStream] = {}
        self._next = FIRST_NUMBER
        self._held: deque[tuple[bytes, Answered | None]] = deque()  # what must wait until a key exchange is over
        self._turns: deque[Callable[[], None]] = deque()  # who waits for room on the line
        self._ended = False
        self._resumed: deque[LeanStream] = deque()
        self._touched: dict[LeanStream, None] = {}
        self._asker: Answered | None = None  # of the request that is just being sent
        self._asked: deque[Answered | None] = deque()  # who waits for the answers to global requests; None: paramiko
        self._received = 0
        self._unmeasured = True  # and not even asked
        self._echo_due = 0.0
        self._echoing = False
        self._packetizer.offer = self._take
        self._packetizer.on_sent = self._on_sent
        self.wire.on_turn = self._on_turn
        transport.on_end = self._end

    def open(self, host: str, port: int, sink: Sink, admit: Callable[[], bool]) -> LeanStream:
        """A stream to ``host:port`` as the VM sees them; it is confirmed later, by ``sink.writable()``."""
        with self._lock:
            if not self.transport.is_active():
                raise lost("it is closed")
            number, self._next = self._next, self._next + 1
            stream = self._streams[number] = LeanStream(self, number, (host, port), sink, admit)
        window = stream.granted = self.tuner.target
        self.post(messages.open_direct(number, host, port, window=window, packet=PACKET_BYTES))
        if self._unmeasured:
            self.wire.wake()  # the path is measured before there is anything on it
        return stream

    def probe(self, answered: Answered) -> None:
        """Ask the server for a sign of life; ``answered`` is called when an answer has come."""
        self.post(messages.keepalive(), answered)

    def heard(self) -> float:
        """When something came from the server last, of the monotonic clock."""
        return self.wire.heard

    def close(self) -> None:
        """Nothing is left to do once the transport is closed."""

    def _end(self) -> None:
        """Tell every stream that the connection is gone."""
        with self._lock:
            streams, self._streams = list(self._streams.values()), {}
            turns, self._turns, self._ended = self._turns, deque(), True
        for tell in turns:
            tell()
        for stream in streams:
            stream.cut()

    # -- for the streams -----------------------------------------------------------------------------------------------

    def may_send(self) -> bool:
        """Whether the line has room for more data."""
        return self.wire.queued < QUEUED_BYTES

    def send(self, *parts: bytes | memoryview, asker: Answered | None = None) -> bool:
        """Send a message now; False, and nothing is sent, while keys are exchanged.  Never waits.

        ``asker`` is called with the answer to a global request.
        """
        with self.transport.clear_to_send_lock:
            if self._held or not self.transport.clear_to_send.is_set():
                return False
            self._send(*parts, asker=asker)
            return True

    def post(self, message: bytes, asker: Answered | None = None) -> None:
        """Send a short message now, or when the present key exchange is over, in order."""
        if not self.send(message, asker=asker):
            self._held.append((message, asker))
            self.wire.wake()

    def await_turn(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called when there is room again, or at the connection's end; each who waits gets a turn."""
        with self._lock:
            ended = self._ended
            if not ended:
                self._turns.append(tell)
        if ended:
            tell()
        elif self.may_send():  # the room came meanwhile
            self.wire.wake()

    def await_room(self, deadline: Deadline) -> None:
        """Wait until somebody who sends by paramiko's own channel may send more, so that our streams get their turns.

        Paramiko would put a whole window of his into the wire, and the streams would wait behind it.
        """
        if not self.may_send():
            came = threading.Event()
            self.await_turn(came.set)
            deadline.wait(came)

    def resume(self, stream: LeanStream) -> None:
        """Have what waits for that stream's Sink delivered."""
        self._resumed.append(stream)
        self.wire.wake()

    def forget(self, number: int) -> None:
        """The channel is closed on both sides, and its Sink knows."""
        self._streams.pop(number, None)

    # -- the transport's thread ----------------------------------------------------------------------------------------

    def _take(self, payload: memoryview) -> bool:
        """Whether the message is ours; then it has been dealt with."""
        kind = payload[0]
        if kind in (messages.REQUEST_SUCCESS, messages.REQUEST_FAILURE):
            asker = self._asked.popleft() if self._asked else None
            if asker:
                asker()
            return asker is not None
        if not messages.FIRST_CHANNEL_MESSAGE <= kind <= messages.LAST_CHANNEL_MESSAGE:
            return False
        try:
            number = messages.channel_of(payload)
            if number < FIRST_NUMBER:
                return False
            stream = self._streams.get(number)
            if stream is None:
                raise messages.Malformed(f"a message for the unknown channel {number}")
            self._received += len(payload)
            self._touched[stream] = None
            stream.hear(kind, payload)
        except messages.Malformed as error:
            raise paramiko.SSHException(str(error)) from error
        return True

    def _on_turn(self) -> None:
        """All that has come is dealt with: hand it on, and say what was to be said."""
        self._deliver()
        if self._held:
            self._send_held()
        if self._turns:
            self._give_turns()
        bulk = self._received > IDLE_BYTES and time.monotonic() >= self._echo_due
        if (bulk or (self._unmeasured and self._streams)) and not self._echoing:
            self._unmeasured = False
            self._echo()

    def _deliver(self) -> None:
        while self._resumed:
            self._touched[self._resumed.popleft()] = None
        touched, self._touched = self._touched, {}
        for stream in touched:
            stream.deliver()

    def _send_held(self) -> None:
        with self.transport.clear_to_send_lock:
            while self._held and self.transport.clear_to_send.is_set():
                message, asker = self._held.popleft()
                self._send(message, asker=asker)

    def _send(self, *parts: bytes | memoryview, asker: Answered | None) -> None:
        self._asker = asker
        # The end of the connection is told to every stream by the thread that reads.
        with suppress(EOFError, paramiko.SSHException):
            self._packetizer.send(*parts)

    def _give_turns(self) -> None:
        """If the line has room again, each who waited for it gets his turn."""
        if self._held or self.wire.queued or not self.transport.clear_to_send.is_set():
            return
        with self._lock:
            turns, self._turns = self._turns, deque()
        for tell in turns:
            tell()

    # -- echoes --------------------------------------------------------------------------------------------------------

    def _echo(self) -> None:
        asked, before, accepted = time.monotonic(), self._received, self.wire.accepted
        waits = self.wire.queued
        self._echoing = True

        def answered() -> None:
            now = time.monotonic()
            seconds, received = now - asked, self._received - before
            if max(waits, self.wire.accepted - accepted) > IDLE_BYTES:
                pass  # it was our own data that the question waited behind: that says nothing of the way back
            elif received > IDLE_BYTES:
                self.tuner.busy_echo(seconds, received)
            else:
                self.tuner.idle_echo(seconds)
            self._received = 0
            self._echoing = False
            self._echo_due = now + ECHO_SECONDS

        self.post(messages.keepalive(), answered)

    def _on_sent(self, payload: bytes) -> None:
        """Take note of each request that will be answered, ours and paramiko's, in the order they go out."""
        if payload[0] == messages.GLOBAL_REQUEST and messages.wants_reply(payload):
            asker, self._asker = self._asker, None
            self._asked.append(asker)
