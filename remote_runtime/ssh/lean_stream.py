"""One of our own channels; :mod:`remote_runtime.ssh.lean` is all of them together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko

from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.ssh import messages
from remote_runtime.ssh.failures import lost, not_admitted, refused
from remote_runtime.ssh.window import credit
from remote_runtime.stream import Sink

if TYPE_CHECKING:
    from remote_runtime.ssh.lean import LeanStreams

TURN_BYTES = 64 << 10
"""How much one stream sends before the next one gets its turn, if there is not room for all."""


class LeanStream:
    """One direct-tcpip channel of our own as a :class:`~remote_runtime.stream.Stream`."""

    def __init__(
        self, streams: LeanStreams, number: int, target: tuple[str, int], sink: Sink, admit: Callable[[], bool]
    ) -> None:
        self.sink = sink
        self.granted = 0  # what the VM may still send
        self._streams = streams
        self._number = number
        self._target = target
        self._admit = admit
        self._lock = threading.Lock()
        self._remote: int | None = None  # the VM's number of the channel, once it is confirmed
        self._window = 0  # what we may still send
        self._packet = 0
        self._starved = False
        self._arrived: list[memoryview] = []
        self._paused = False
        self._end_wanted = self._end_sent = False
        self._end_seen = self._end_told = False
        self._close_sent = self._close_seen = False
        self._over = False

    # -- the Stream ----------------------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> int:
        taken = 0
        with self._lock:
            if self._over or self._end_wanted or self._close_sent:
                return len(data)  # nobody will read it; the Sink hears of the end by itself
            if self._remote is None:
                return 0  # the Sink hears when it is confirmed
            size = min(len(data), TURN_BYTES)
            while taken < size:
                part = min(size - taken, self._packet, self._window)
                if part <= 0:
                    self._starved = True  # the VM will grant more
                    return taken
                chunk = data[taken : taken + part]
                sent = self._streams.may_send() and self._streams.send(messages.data_header(self._remote, part), chunk)
                if not sent:
                    break
                self._window -= part
                taken += part
        if taken < len(data):
            self._streams.await_turn(self.sink.writable)
        return taken

    def shutdown_write(self) -> None:
        with self._lock:
            self._end_wanted = True
            self._send_end()

    def abort(self) -> None:
        with self._lock:
            self._over = True
            self._arrived.clear()
            self._send_close()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        if not paused:
            self._streams.resume(self)

    # -- the transport's thread ----------------------------------------------------------------------------------------

    def hear(self, kind: int, payload: memoryview) -> None:
        """Deal with a message for this channel; what it brings is handed on by :meth:`deliver`."""
        if kind == messages.DATA:
            data = messages.data_of(payload)
            self._spend(len(data))
            if not self._over:
                self._arrived.append(data)
        elif kind == messages.WINDOW_ADJUST:
            self._grant(messages.adjusted_by(payload))
        elif kind == messages.EXTENDED_DATA:
            self._spend(messages.extended_size(payload))
        elif kind == messages.EOF:
            self._end_seen = True
        elif kind == messages.CLOSE:
            self._hear_close()
        elif kind == messages.OPEN_CONFIRMATION:
            self._confirm(messages.confirmation(payload))
        elif kind == messages.OPEN_FAILURE:
            answer = messages.refusal(payload)
            self._streams.forget(self._number)
            self.finish(refused(self._target, paramiko.ChannelException(answer.code, answer.text)))
        elif kind == messages.CHANNEL_REQUEST and messages.request_wants_reply(payload) and self._remote is not None:
            self._streams.post(messages.short(messages.CHANNEL_FAILURE, self._remote))

    def deliver(self) -> None:
        """Hand on what has come, unless the Sink wants a pause; and let the VM send more."""
        if self._over or self._paused:
            return
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            self.sink.data(bytes(arrived[0]) if len(arrived) == 1 else b"".join(arrived))
        if self._end_seen and not self._end_told:
            self._end_told = True
            self.sink.eof()
        if self._close_seen:
            self.finish(None if self._end_seen else lost("the channel was cut"))
        elif self._end_told and self._end_sent:
            with self._lock:
                self._send_close()
            self.finish(None)
        elif not self._end_seen and self._remote is not None:
            grant = credit(self.granted, self._streams.tuner.target)
            if grant:
                self.granted += grant
                self._streams.post(messages.adjust(self._remote, grant))

    def finish(self, error: RemoteRuntimeError | None) -> None:
        """The stream is over."""
        with self._lock:
            if self._over:
                return
            self._over = True
            self._arrived.clear()
        if self._close_seen:
            self._streams.forget(self._number)
        self.sink.closed(error)

    def cut(self) -> None:
        """The connection is gone: hand on what had come before, whether or not the Sink wanted a pause."""
        self._paused = False
        self.deliver()
        self.finish(lost("the channel was cut"))

    def _spend(self, size: int) -> None:
        self.granted -= size
        if self.granted < 0:
            raise messages.Malformed("more data than was granted")

    def _grant(self, size: int) -> None:
        with self._lock:
            self._window += size
            tell, self._starved = self._starved, False
        if tell:
            self.sink.writable()

    def _confirm(self, answer: messages.Confirmation) -> None:
        with self._lock:
            if self._remote is not None:
                raise messages.Malformed("a channel that was confirmed twice")
            self._remote, self._window, self._packet = answer.remote, answer.window, answer.packet
            if self._over:  # aborted before
                self._send_close()
                return
        if not self._admit():
            self.finish(not_admitted(self._target))
            with self._lock:
                self._send_close()
            return
        self.sink.writable()
        with self._lock:
            self._send_end()

    def _hear_close(self) -> None:
        self._close_seen = True
        with self._lock:
            self._send_close()
            over = self._over
        if over:
            self._streams.forget(self._number)

    def _send_end(self) -> None:
        if self._end_wanted and not self._end_sent and not self._close_sent and self._remote is not None:
            self._end_sent = True
            self._streams.post(messages.short(messages.EOF, self._remote))
            if self._end_told:
                self._streams.resume(self)  # both ends are over now

    def _send_close(self) -> None:
        if not self._close_sent and self._remote is not None:
            self._close_sent = True
            self._streams.post(messages.short(messages.CLOSE, self._remote))
