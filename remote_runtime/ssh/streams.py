"""Paramiko's channels as :class:`~remote_runtime.stream.Stream`, without a thread per channel.

A channel offers blocking calls only.  Three kinds of threads, shared by all streams of a connection, hide that:

* one *reader* hands on what arrived (it sleeps until a channel's buffer says that there is something),
* one *writer* sends what was written, ends and aborts streams (it may wait for the socket, never for a window),
* a few *openers* wait for the VM to confirm new channels, which takes a round trip each.

Two hooks of paramiko tell when to act, both without an underscore: ``BufferedPipe.set_event`` for arriving data,
and ``Channel.out_buffer_cv``, the condition that is notified when the VM grants more window.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import paramiko

from remote_runtime._threads import Deadline, ThreadGroup
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.ssh import private
from remote_runtime.ssh.failures import lost, not_admitted, refused
from remote_runtime.ssh.transport import WINDOW_BYTES
from remote_runtime.stream import Sink

QUEUE_BYTES = 256 << 10
"""How much of a stream may wait here to be sent; more would only add delay for the other streams."""

TURN_BYTES = 256 << 10
"""How much of one stream is sent before the next one gets its turn."""

OPEN_SECONDS = 60.0
OPENERS = 8


class StreamPump:
    """Owns the threads that move the bytes of all streams of one transport."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport
        self.readable: queue.SimpleQueue[ChannelStream | None] = queue.SimpleQueue()
        self.sendable: queue.SimpleQueue[ChannelStream | None] = queue.SimpleQueue()
        self.opening: queue.SimpleQueue[ChannelStream | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._heard = time.monotonic()
        if private.usable():  # else only answers count as signs of life
            self._read_message = transport.packetizer.read_message
            transport.packetizer.read_message = self._hear  # type: ignore[method-assign]
        self._openers = 0
        self._unopened = 0
        self._threads = ThreadGroup(self._stop)
        self._threads.spawn("ssh-reader", lambda: self._serve(self.readable, ChannelStream.deliver))
        self._threads.spawn("ssh-writer", lambda: self._serve(self.sendable, ChannelStream.flush))

    def open(self, host: str, port: int, sink: Sink, admit: Callable[[], bool]) -> ChannelStream:
        """A stream to ``host:port`` as the VM sees them; it is confirmed later, by ``sink.writable()``."""
        stream = ChannelStream(self, host, port, sink, admit)
        with self._lock:
            if self._closed or not self.transport.is_active():
                raise lost("it is closed")
            self._unopened += 1
            if self._openers < min(OPENERS, self._unopened):
                self._openers += 1
                self._threads.spawn("ssh-opener", lambda: self._serve(self.opening, self._open))
        self.opening.put(stream)
        return stream

    def probe(self, answered: Callable[[], None]) -> None:
        """Ask the server for a sign of life; ``answered`` is called when an answer, any answer, has come."""

        def ask() -> None:
            with suppress(paramiko.SSHException, OSError, EOFError):
                self.transport.global_request("keepalive@openssh.com", wait=True)
                if self.transport.is_active():
                    answered()

        self._threads.spawn("ssh-probe", ask)

    def heard(self) -> float:
        """When something came from the server last, of the monotonic clock."""
        return self._heard

    def await_room(self, deadline: Deadline) -> None:
        """Who sends by a channel waits for the socket by himself."""

    def _hear(self) -> tuple[int, paramiko.Message]:
        message = self._read_message()
        self._heard = time.monotonic()
        return message

    def close(self) -> None:
        """End the threads; the transport must have been closed before, since they may be waiting for it."""
        self._threads.close()

    def _open(self, stream: ChannelStream) -> None:
        try:
            stream.open()
        finally:
            with self._lock:
                self._unopened -= 1

    def _stop(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            openers = self._openers
        self.readable.put(None)
        self.sendable.put(None)
        for _ in range(openers):
            self.opening.put(None)

    @staticmethod
    def _serve(work: queue.SimpleQueue[ChannelStream | None], do: Callable[[ChannelStream], None]) -> None:
        while (stream := work.get()) is not None:
            do(stream)


class ChannelStream:
    """One direct-tcpip channel as a Stream.  Each direction is driven by one thread of the pump at a time."""

    def __init__(self, pump: StreamPump, host: str, port: int, sink: Sink, admit: Callable[[], bool]) -> None:
        self._pump = pump
        self._target = (host, port)
        self._admit = admit
        self._sink = sink
        self._channel: paramiko.Channel | None = None
        self._lock = threading.Lock()
        self._out: deque[bytes] = deque()
        self._queued = 0
        self._starved = False
        self._end_wanted = False
        self._end_sent = False
        self._end_seen = False
        self._paused = False
        self._over = False
        self._read_due = False
        self._send_due = False

    # -- the Stream ------------------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> int:
        with self._lock:
            if self._over or self._end_wanted:
                return len(data)  # nobody will read it; the Sink hears of the end by itself
            accepted = min(len(data), QUEUE_BYTES - self._queued)
            self._starved = accepted < len(data)
            if accepted:
                self._out.append(bytes(data[:accepted]))
                self._queued += accepted
        self._schedule_send()
        return accepted

    def shutdown_write(self) -> None:
        self._end_wanted = True
        self._schedule_send()

    def abort(self) -> None:
        with self._lock:
            self._over = True
            self._out.clear()
        self._schedule_send()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        if not paused:
            self._schedule_read()

    # -- called by the pump's threads --------------------------------------------------------------------------------

    def open(self) -> None:
        """Ask the VM for the channel and wait for its answer (an opener's work)."""
        if self._over:
            return
        try:
            channel = self._pump.transport.open_channel(
                "direct-tcpip", self._target, ("127.0.0.1", 0), window_size=WINDOW_BYTES, timeout=OPEN_SECONDS
            )
        except paramiko.ChannelException as error:
            self._finish(refused(self._target, error))
            return
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._finish(lost(str(error)))
            return
        channel.settimeout(0.0)
        channel.out_buffer_cv = _Notifier(channel.lock, self._schedule_send)
        self._channel = channel
        if not self._admit():
            self._finish(not_admitted(self._target))
            return
        if not self._over:
            self._sink.writable()
        channel.in_buffer.set_event(_Signal(self._schedule_read))  # type: ignore[arg-type]
        self._schedule_send()

    def deliver(self) -> None:
        """Hand on what has arrived (the reader's work)."""
        self._read_due = False
        channel = self._channel
        if channel is None or self._over or self._paused or self._end_seen:
            return
        try:
            # Take all there is: what is left in paramiko's buffer would be moved in memory at each read.
            chunk = channel.recv(WINDOW_BYTES)
        except TimeoutError:
            return
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._finish(lost(str(error)))
            return
        if chunk:
            self._sink.data(chunk)
            if channel.recv_ready() or channel.eof_received or channel.closed:
                self._schedule_read()
        elif channel.eof_received:
            self._end_seen = True
            self._sink.eof()
            if channel.closed:
                self._finish(None)
            else:
                self._schedule_send()  # if our own end has been sent, the channel can be closed now
        else:
            self._finish(lost("the channel was cut"))

    def flush(self) -> None:
        """Send what the window allows, up to a turn; then the end, if it is wanted (the writer's work)."""
        self._send_due = False
        channel = self._channel
        if channel is None:
            return
        try:
            if self._over:
                channel.close()
                return
            self._send(channel)
        except TimeoutError:
            return  # the window is used up: the notifier brings us back
        except (paramiko.SSHException, OSError, EOFError):
            return  # the reader sees the same end, and tells it in order with the data

    def _send(self, channel: paramiko.Channel) -> None:
        budget = TURN_BYTES
        while budget > 0:
            with self._lock:
                chunk = self._out.popleft() if self._out else b""
            if not chunk:
                break
            sent = 0
            try:
                sent = channel.send(chunk)
            finally:
                with self._lock:
                    if sent < len(chunk) and not self._over:
                        self._out.appendleft(chunk[sent:])
                    self._queued -= sent
            if not sent:
                return  # the channel is closed
            budget -= sent
            self._tell_room()
        if self._out:
            self._schedule_send()
        elif self._end_wanted and not self._end_sent:
            self._end_sent = True
            channel.shutdown_write()
        if self._end_sent and self._end_seen:
            channel.close()
            self._finish(None)

    def _tell_room(self) -> None:
        with self._lock:
            tell = self._starved and self._queued <= QUEUE_BYTES // 2
            self._starved = self._starved and not tell
        if tell:
            self._sink.writable()

    def _finish(self, error: RemoteRuntimeError | None) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            self._out.clear()
        self._sink.closed(error)
        self._schedule_send()

    def _schedule_read(self) -> None:
        if not self._read_due:
            self._read_due = True
            self._pump.readable.put(self)

    def _schedule_send(self) -> None:
        if not self._send_due:
            self._send_due = True
            self._pump.sendable.put(self)


class _Signal:
    """What paramiko's buffer takes for an event: ``set`` is called, under its lock, when there is something to read."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def set(self) -> None:
        self._ready()

    def clear(self) -> None:
        """The buffer is empty again: nothing to do."""


class _Notifier(threading.Condition):
    """A channel's window condition that also wakes the writer."""

    def __init__(self, lock: threading.Lock, granted: Callable[[], None]) -> None:
        super().__init__(lock)
        self._granted = granted

    def notify_all(self) -> None:
        super().notify_all()
        self._granted()
