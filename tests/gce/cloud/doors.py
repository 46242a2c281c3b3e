"""The ways to a VM's port 22: each address is open, refuses, or is silent as behind a firewall."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

Door = Literal["open", "refusing", "silent"]
PORT = 22


class Doors:
    """Listens at some addresses, and hands over who comes in; what runs it calls :meth:`serve`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[socket.socket]] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._ended = False

    def set(self, address: str, door: Door) -> None:
        """Make one address open, refusing or silent, from now on."""
        with self._lock:
            self._close(address)
            if self._ended or door == "refusing":
                return
            if door == "silent":
                self._listeners[address] = _deaf(address)
                return
            listener = socket.create_server((address, PORT), backlog=64)
            listener.setblocking(False)
            self._listeners[address] = [listener]
            self._selector.register(listener, selectors.EVENT_READ)
        self._wake()

    def pause(self, paused: bool) -> None:
        """Let the kernel take connections that nobody serves, or serve them again."""
        with self._lock:
            for listener in self._open():
                if paused:
                    self._selector.unregister(listener)
                else:
                    self._selector.register(listener, selectors.EVENT_READ)
        self._wake()

    def serve(self, handle: Callable[[socket.socket], None]) -> None:
        """Hand every connection to ``handle``, which owns it then; returns after :meth:`end`."""
        while not self._ended:
            for key, _ in self._selector.select():
                if key.fileobj == self._woken:
                    os.read(self._woken, 64)
                elif isinstance(key.fileobj, socket.socket):
                    with suppress(OSError):  # closed meanwhile, or the client is gone
                        connection, _ = key.fileobj.accept()
                        connection.setblocking(True)
                        handle(connection)

    def end(self) -> None:
        """Close all addresses and let :meth:`serve` return; any thread may say so."""
        with self._lock:
            self._ended = True
            for address in list(self._listeners):
                self._close(address)
        self._wake()

    def close(self) -> None:
        """After :meth:`serve` has returned."""
        self.end()
        with self._lock:
            self._selector.close()
            os.close(self._woken)
            os.close(self._waker)
            self._waker = -1

    def _open(self) -> list[socket.socket]:
        return [sockets[0] for sockets in self._listeners.values() if len(sockets) == 1]

    def _wake(self) -> None:
        with self._lock:
            if self._waker >= 0:
                os.write(self._waker, b"!")

    def _close(self, address: str) -> None:
        for listener in self._listeners.pop(address, ()):
            with suppress(KeyError, ValueError):
                self._selector.unregister(listener)
            listener.close()


def _deaf(address: str) -> list[socket.socket]:
    """A listener whose queue is full: the kernel drops what knocks, as a firewall does."""
    listener = socket.create_server((address, PORT), backlog=0)
    listener.listen(0)
    sockets = [listener]
    for _ in range(2):
        knocking = socket.socket()
        knocking.setblocking(False)
        knocking.connect_ex((address, PORT))
        sockets.append(knocking)
    return sockets
