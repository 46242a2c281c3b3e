"""The byte seam: the only thing that ``forward`` knows of SSH, and SSH of ``forward``.

A :class:`Stream` is the near end of a byte stream to the VM, a :class:`Sink` is who receives what comes back.
Both are one-way streets without blocking: a Stream takes what it has room for and says later, through its
Sink, that there is room again; a Sink takes everything and says, through ``Stream.pause``, when to stop.

The life of one stream, from the Sink's point of view::

    open_stream(host, port, sink) -> Stream
        writable()                      confirmed: bytes may flow from now on
        data(...) | writable() ...      in any number; writable() means that there is room again
        eof()                           the far side sends no more; it may still read
        closed(None)                    both directions ended in order
      or, at any moment
        closed(error)                   ChannelRefused: the VM said no to this stream alone;
                                        NetworkError: the connection under it is gone

``closed`` comes exactly once, last, unless the stream was aborted, after which nothing comes.
"""

from __future__ import annotations

from typing import Protocol

from remote_runtime.errors import RemoteRuntimeError


class Sink(Protocol):
    """Receives what a Stream brings.  Called from any thread, one call at a time; must not block."""

    def data(self, chunk: bytes) -> None:
        """Take these bytes; all of them are now the Sink's."""

    def eof(self) -> None:
        """The far side will send no more."""

    def writable(self) -> None:
        """The stream is confirmed (the first time), or has room again after a short write."""

    def closed(self, error: RemoteRuntimeError | None) -> None:
        """The stream is over, in order (None) or because of ``error``."""


class Stream(Protocol):
    """The near end of a byte stream to the VM.  No method blocks."""

    def write(self, data: memoryview) -> int:
        """Take up to ``len(data)`` bytes and return how many; less than all: wait for ``Sink.writable``."""

    def shutdown_write(self) -> None:
        """Tell the far side, after all that was written, that no more will come."""

    def abort(self) -> None:
        """End both directions now; unsent bytes are dropped and the Sink hears nothing more."""

    def pause(self, paused: bool) -> None:
        """Stop (or resume) calls of ``Sink.data``, so that the far side feels the backpressure."""
