"""A command that runs on the VM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

import paramiko

from remote_runtime._threads import Deadline
from remote_runtime.ssh.failures import lost, translated

LINE_BYTES = 1 << 20
PIECE_BYTES = 32 << 10
"""What is sent at once: a message's worth."""


class RemoteProcess:
    """A command that runs on the VM; every wait is bounded by the deadline it was started with."""

    def __init__(self, channel: paramiko.Channel, deadline: Deadline, await_room: Callable[[Deadline], None]) -> None:
        self._channel = channel
        self._deadline = deadline
        self._await_room = await_room

    def write(self, data: bytes) -> None:
        """Send ``data`` to its standard input.  Raises :class:`NetworkError` or :class:`TimedOut`."""
        view = memoryview(data)
        with translated("sending to a command"):
            while view:
                self._await_room(self._deadline)
                self._tick("sending to a command on the VM")
                sent = self._channel.send(bytes(view[:PIECE_BYTES]))
                if not sent:
                    raise lost("the command ended")
                view = view[sent:]

    def lines(self) -> Iterator[bytes]:
        """Its output, a line at a time without the newline; what is longer than a mebibyte is cut there."""
        pending = bytearray()
        with translated("reading from a command"):
            while chunk := self._receive():
                pending += chunk
                *whole, rest = pending.split(b"\n")
                for line in whole:
                    yield bytes(line[:LINE_BYTES])
                pending = rest if len(rest) <= LINE_BYTES else rest[:LINE_BYTES]
        if pending:
            yield bytes(pending)

    def wait(self) -> int:
        """Its exit status; -1 if the server gave none (the command was killed, or the connection ended)."""
        self._channel.status_event.wait(self._deadline.remaining())
        self._deadline.check("waiting for a command on the VM")
        return self._channel.exit_status

    def close(self) -> None:
        """Close the channel; the command itself may go on.  Safe to call twice."""
        self._channel.close()

    def _receive(self) -> bytes:
        self._tick("waiting for a command on the VM")
        chunk = self._channel.recv(65536)
        if not chunk and not self._channel.eof_received and not self._channel.get_transport().is_active():
            raise lost("it ended before the command did")  # which paramiko tells as if the command had ended
        return chunk

    def _tick(self, doing: str) -> None:
        self._deadline.check(doing)
        self._channel.settimeout(self._deadline.remaining())

    def __enter__(self) -> RemoteProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
