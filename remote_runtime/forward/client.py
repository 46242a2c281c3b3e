"""One local client of a forward, and the Sink through which the VM's bytes reach it.

The client belongs to the forward's loop: no other thread touches it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.forward.http import apology, repeatable
from remote_runtime.stream import Stream

READ_BYTES = 64 << 10
HIGH_BYTES = 1 << 20
"""So much may wait for a slow local client before the VM is told to pause."""
LOW_BYTES = HIGH_BYTES // 4
REPEATS = 5
"""How often one request may be made again."""


class Client:
    """A local connection and, once there is one, its stream to the VM.

    ``stream`` is None while the client waits for a link; no byte is read from it before the stream is ``confirmed``,
    so that nothing is lost when the stream has to be opened again on the next connection.  What it says first is kept
    until the VM answers: if that is an HTTP request that may be made twice, a cut before the answer loses nothing
    either.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.since = time.monotonic()
        self.stream: Stream | None = None
        self.sink: ClientSink | None = None
        self.confirmed = False
        self.refusals = 0
        self.ended = False
        self.error: RemoteRuntimeError | None = None
        self._unsent = b""  # read from the client, not yet taken by the stream
        self._asked: bytes | None = b""  # all that the client has said; None once it is too much, or answered
        self._repeats = 0
        self._read_ended = False
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._out_ended = False
        self._paused = False

    # -- what the loop asks to know which readiness to wait for --------------------------------------------------------

    @property
    def wants_read(self) -> bool:
        """Whether bytes of the local client can be taken now."""
        return self.confirmed and not self._read_ended and not self._unsent

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the local client."""
        return bool(self._out)

    # -- what the loop does with it ------------------------------------------------------------------------------------

    def attach(self, opener: Callable[[ClientSink], Stream], post: Post) -> None:
        """Give it a stream; what an earlier one may still say is no longer heard.  Raises what the opener raises."""
        self.detach()
        sink = ClientSink(self, post)
        self.stream = opener(sink)
        self.sink = sink

    def detach(self) -> None:
        """Go back to waiting, after a stream that was never confirmed."""
        self.stream = self.sink = self.error = None
        self.ended = False

    def ask_again(self) -> bool:
        """Go back to waiting after a stream that was lost, if what the client has said may be said again; whether so.

        Nothing at all may, and so may a safe request, but not too often: it may itself be what ends the connection.
        """
        if self._asked is None or self._repeats >= REPEATS or (self._asked and not repeatable(self._asked)):
            return False
        self._repeats += 1
        self.detach()
        self.confirmed = False
        self._unsent = self._asked
        self.since = time.monotonic()
        return True

    def confirm(self) -> None:
        """The stream is open, or has room again."""
        self.confirmed = True
        self.feed_stream()

    def read_local(self) -> None:
        """Take bytes from the local client and give them to the stream.  Raises OSError if the client is gone."""
        try:
            chunk = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        if chunk:
            self._unsent = chunk
            if self._asked is not None:
                self._asked = self._asked + chunk if len(self._asked) + len(chunk) <= READ_BYTES else None
        else:
            self._read_ended = True
        self.feed_stream()

    def feed_stream(self) -> None:
        """Give the stream what it has room for, then the end, if the client has sent it."""
        if self.stream is None:
            return
        if self._unsent:
            taken = self.stream.write(memoryview(self._unsent))
            self._unsent = self._unsent[taken:]
        if self._read_ended and not self._unsent:
            self.stream.shutdown_write()

    def take(self, chunk: bytes) -> None:
        """Queue the VM's bytes for the local client."""
        self._asked = None
        self._out.append(memoryview(chunk))
        self._out_bytes += len(chunk)
        if self._out_bytes > HIGH_BYTES and not self._paused and self.stream:
            self._paused = True
            self.stream.pause(True)

    def write_local(self) -> None:
        """Send the local client what it has room for.  Raises OSError if the client is gone."""
        while self._out:
            try:
                sent = self.sock.send(self._out[0])
            except BlockingIOError:
                break
            self._out_bytes -= sent
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]
        if self._paused and self._out_bytes <= LOW_BYTES and self.stream:
            self._paused = False
            self.stream.pause(False)
        if self._out_ended and not self._out:
            self._out_ended = False
            self.sock.shutdown(socket.SHUT_WR)

    def end_local(self) -> None:
        """The VM sends no more: pass that on once everything has been sent.  Raises OSError if the client is gone."""
        self._out_ended = True
        self.write_local()

    def end(self, error: RemoteRuntimeError | None) -> None:
        """The stream is over; the loop decides what becomes of the client."""
        self.ended = True
        self.error = error

    def apologise(self) -> bool:
        """Tell a client that was not served, and speaks HTTP, to come back later; whether it did.

        Its request is read for this only: it will not be answered in any other way.
        """
        try:
            answer = apology(self._asked or self.sock.recv(READ_BYTES, socket.MSG_PEEK))
            if answer:
                # What stays unread would turn our close into a reset, which destroys the answer on its way.
                with contextlib.suppress(BlockingIOError):
                    while len(self.sock.recv(READ_BYTES)) == READ_BYTES:
                        pass
                self.sock.send(answer)
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has said nothing yet, or is gone
            return False
        return bool(answer)

    def close(self, *, cut: bool) -> None:
        """Close the local connection; ``cut``: by a reset, so that nobody takes half an answer for a whole one."""
        if self.stream:
            self.stream.abort()
        self.detach()
        if cut:
            with contextlib.suppress(OSError):  # the client may have reset it before us
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class ClientSink:
    """Passes on what one stream says, in order, as calls that the loop makes on the client."""

    def __init__(self, client: Client, post: Post) -> None:
        self.client = client
        self._post = post

    def data(self, chunk: bytes) -> None:
        self._post(self, Client.take, chunk)

    def eof(self) -> None:
        self._post(self, Client.end_local)

    def writable(self) -> None:
        self._post(self, Client.confirm)

    def closed(self, error: RemoteRuntimeError | None) -> None:
        self._post(self, Client.end, error)


Post = Callable[..., None]
"""``post(sink, method, *arguments)``: have the loop call ``method(client, *arguments)``."""
