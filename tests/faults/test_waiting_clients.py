"""Clients of a LocalForward whose far side comes, goes, refuses and loses streams in any order: none is forgotten."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from remote_runtime.errors import ChannelRefused, NetworkError
from remote_runtime.forward import LocalForward, listen
from remote_runtime.forward.client import ClientSink
from remote_runtime.forward.local import REFUSALS

PATIENCE_SECONDS = 10.0
ROOM_BYTES = 10_000
"""What a stream here takes before it has to be emptied: less than most clients send."""

Address = tuple[str, int]


class FarSide:
    """The machine: it echoes, in memory, and does each of its steps when it is told to."""

    def __init__(self) -> None:
        self.up = True
        self.mend = False  # a stream was refused: somebody has to look after the port, and then to call retry()
        self.attempts: Counter[Address] = Counter()
        self.refusals: Counter[Address] = Counter()
        self.lost: list[EchoStream] = []  # after they were confirmed
        self.read: Counter[Address] = Counter()  # streams that have read something, by client
        self.unconfirmed: list[EchoStream] = []
        self.confirmed: list[EchoStream] = []
        self._lock = threading.Lock()

    def open(self, sink: ClientSink) -> EchoStream:
        """What a LocalForward calls: a stream that is not confirmed, or an error while it is down."""
        address = sink.client.sock.getpeername()[:2]
        with self._lock:
            self.attempts[address] += 1
            if not self.up:
                raise NetworkError("down", code="reconnecting")
            stream = EchoStream(self, sink, address)
            self.unconfirmed.append(stream)
            return stream

    def on_refused(self, error: ChannelRefused) -> bool:
        self.mend = True
        return True

    def take_unconfirmed(self) -> list[EchoStream]:
        with self._lock:
            taken, self.unconfirmed = self.unconfirmed, []
        return taken

    # -- the steps -----------------------------------------------------------------------------------------------------

    def confirm(self) -> None:
        for stream in self.take_unconfirmed():
            self.confirmed.append(stream)
            stream.may_be_used = True
            stream.sink.writable()

    def lose_unconfirmed(self) -> None:
        for stream in self.take_unconfirmed():
            stream.sink.closed(NetworkError("lost", code="connection_lost"))

    def lose_confirmed(self) -> None:
        taken, self.confirmed = self.confirmed, []
        self.lost += taken
        for stream in taken:
            stream.sink.closed(NetworkError("lost", code="connection_lost"))

    def refuse(self) -> None:
        for stream in self.take_unconfirmed():
            self.refusals[stream.address] += 1
            stream.sink.closed(ChannelRefused("nothing listens"))

    def echo(self) -> None:
        for stream in list(self.confirmed):
            if stream.echo():
                self.confirmed.remove(stream)

    def may_be_cut(self, address: Address) -> bool:
        """Whether that client had a fate that no forward could spare it: what it said was read, and perhaps done."""
        cut = any(stream.has_read for stream in self.lost if stream.address == address)
        return cut or self.refusals[address] >= REFUSALS


class EchoStream:
    """A Stream that gives back what it was given, a bit at a time."""

    def __init__(self, far: FarSide, sink: ClientSink, address: Address) -> None:
        self.sink = sink
        self.address = address
        self.may_be_used = False
        self._far = far
        self._lock = threading.Lock()
        self._held = b""
        self._starved = False
        self._ended = False
        self.has_read = False

    def write(self, data: memoryview) -> int:
        assert self.may_be_used, "a client was read before its stream was confirmed"
        with self._lock:
            accepted = min(len(data), ROOM_BYTES - len(self._held))
            self._held += data[:accepted]
            self._starved = accepted < len(data)
            if data and not self.has_read:
                self.has_read = True
                self._far.read[self.address] += 1
        return accepted

    def shutdown_write(self) -> None:
        self._ended = True

    def abort(self) -> None:
        """Nothing is said any more by whoever calls the sink; a late word would be dropped by it."""

    def pause(self, paused: bool) -> None:
        """So little is never too much for a local client."""

    def echo(self) -> bool:
        """Give back what is held; whether that was all."""
        with self._lock:
            held, self._held = self._held, b""
            starved, self._starved = self._starved, False
            ended = self._ended and not starved
        if held:
            self.sink.data(held)
        if starved:
            self.sink.writable()
        if ended:
            self.sink.eof()
            self.sink.closed(None)
        return ended


class Play:
    """A forward, its far side, and its clients."""

    def __init__(self, forward: LocalForward, far: FarSide) -> None:
        self.forward = forward
        self.far = far
        self.clients: list[tuple[socket.socket, bytes]] = []

    def arrive(self) -> None:
        """Another client comes and says all that it has to say; return when the forward has seen it."""
        number = len(self.clients)
        client = socket.create_connection(("127.0.0.1", self.forward.port), timeout=PATIENCE_SECONDS)
        said = b"%d:" % number + bytes([number % 256]) * (number % 5 * 8_000)
        self.clients.append((client, said))
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        address = client.getsockname()
        assert_soon(lambda: self.far.attempts[address] > 0)

    def down(self) -> None:
        self.far.up = False

    def come_up(self) -> None:
        self.far.up = True
        self.forward.retry()

    def settle(self) -> None:
        """From now on all is well: every client that can be served is."""
        self.come_up()
        for client, said in self.clients:
            address = client.getsockname()
            heard = self._hear(client)
            if heard is None:
                assert self.far.may_be_cut(address), "a client was cut without need"
            else:
                assert heard == said
                assert self.far.read[address] == 1
            assert self.far.read[address] <= 1, "a client was served twice"

    def _hear(self, client: socket.socket) -> bytes | None:
        """All that the client gets; None if it is reset."""
        heard = b""
        end = time.monotonic() + PATIENCE_SECONDS
        client.settimeout(0.002)
        while True:
            self._help()
            try:
                chunk = client.recv(1 << 20)
            except TimeoutError:
                assert time.monotonic() < end, "a client was forgotten"
                continue
            except ConnectionResetError:
                return None
            if not chunk:
                return heard
            heard += chunk

    def _help(self) -> None:
        if self.far.mend:
            self.far.mend = False
            self.forward.retry()
        self.far.confirm()
        self.far.echo()


STEPS: dict[str, Callable[[Play], None]] = {
    "a client arrives": Play.arrive,
    "the link goes down": Play.down,
    "the link comes up": Play.come_up,
    "retry without a reason": lambda play: play.forward.retry(),
    "streams are confirmed": lambda play: play.far.confirm(),
    "streams are lost before they are confirmed": lambda play: play.far.lose_unconfirmed(),
    "streams are lost after they were confirmed": lambda play: play.far.lose_confirmed(),
    "streams are refused": lambda play: play.far.refuse(),
    "bytes are echoed": lambda play: play.far.echo(),
    "a pause": lambda play: time.sleep(0.002),
}
OFTEN = ["a client arrives"] * 3


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*STEPS, *OFTEN]), max_size=40))
def test_no_waiter_is_lost_none_is_served_twice_and_all_bytes_are_right(steps: list[str]) -> None:
    far = FarSide()
    with LocalForward(listen(0), far.open, on_refused=far.on_refused) as forward:
        play = Play(forward, far)
        try:
            for step in steps:
                STEPS[step](play)
            play.settle()
        finally:
            for client, _ in play.clients:
                client.close()


def assert_soon(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.0005)
