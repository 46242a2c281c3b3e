"""Waiting for several sockets, each time for something else."""

from __future__ import annotations

import selectors
import socket
from typing import Protocol, Union


class HasFileno(Protocol):
    """What a selector takes besides sockets."""

    def fileno(self) -> int:
        """The descriptor."""


Source = Union[socket.socket, HasFileno]


class Watch:
    """A selector that is told each time what to wait for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._known: dict[object, int] = {}

    def events(self, source: Source, wanted: int) -> None:
        """Wait for these events from now on."""
        known = self._known.get(source, 0)
        if wanted == known:
            return
        if not wanted:
            self._selector.unregister(source)
        elif known:
            self._selector.modify(source, wanted)
        else:
            self._selector.register(source, wanted)
        self._known[source] = wanted

    def wait(self, seconds: float | None) -> dict[object, int]:
        """Who is ready, and for what."""
        return {key.fileobj: events for key, events in self._selector.select(seconds)}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
