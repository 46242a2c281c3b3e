"""LocalForward: one selector loop that joins local clients to streams on the VM."""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from remote_runtime._threads import ThreadGroup
from remote_runtime.errors import ChannelRefused, NetworkError, RemoteRuntimeError
from remote_runtime.forward.client import Client, ClientSink
from remote_runtime.forward.listener import Listener
from remote_runtime.stream import Stream

WAIT_SECONDS = 120.0
"""How long a client may wait for the link to come back."""

WAITING_CLIENTS = 512
REFUSALS = 3
"""How often one client's stream may be refused by the VM's port before the client is let go."""

ACCEPT_PAUSE_SECONDS = 0.5
"""How long no client is accepted after the process has run out of file descriptors."""

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class LocalForward:
    """Joins each client of ``listener`` to a stream of its own; ready when constructed.

    ``opener(sink)`` opens a stream, or raises: with a ``retryable`` error the client waits until :meth:`retry` is
    called, 120 s and 512 of them at most.  Whoever waits in vain, or hears a final error, is let go: an HTTP client
    with a 503, another one with a reset.  An HTTP request that changes nothing, and was not answered yet when its
    stream was lost, is made again.  ``on_refused(error)`` is told of a stream that the VM refused and answers whether
    it is worth waiting; without it the client is cut at once.  The forward closes the listener.
    """

    def __init__(
        self,
        listener: Listener,
        opener: Callable[[ClientSink], Stream],
        *,
        on_refused: Callable[[ChannelRefused], bool] | None = None,
    ) -> None:
        self.port = listener.port
        self._listener = listener
        self._opener = opener
        self._on_refused = on_refused
        self._selector = selectors.DefaultSelector()
        self._near, self._far = (
            socket.socketpair()
        )  # the loop sleeps on the near end, the others wake it by the far one
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._posted: deque[tuple[ClientSink, Callable[..., None], tuple[Any, ...]]] = deque()
        self._clients: dict[Client, int] = {}  # and the readiness that the selector watches for
        self._waiting: deque[Client] = deque()
        self._retry = False
        self._closing = False
        self._accept_again = 0.0
        self._selector.register(self._near, READ)
        for sock in listener.sockets:
            self._selector.register(sock, READ)
        self._threads = ThreadGroup(self._stop)
        self._threads.spawn(f"forward-{self.port}", self._run)

    def retry(self) -> None:
        """Try again to open the streams of those who wait: the link is up, or will never be."""
        self._retry = True
        self._wake()

    def close(self) -> None:
        """Cut every client and free the port; safe to call twice."""
        self._threads.close()

    # -- other threads -------------------------------------------------------------------------------------------------

    def _post(self, sink: ClientSink, method: Callable[..., None], *arguments: Any) -> None:
        self._posted.append((sink, method, arguments))
        self._wake()

    def _wake(self) -> None:
        try:
            self._far.send(b".")
        except (BlockingIOError, OSError):
            return  # it has been woken often enough, or is closed

    def _stop(self) -> None:
        self._closing = True
        self._wake()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, ready in self._selector.select(self._pause()):
                    self._on_ready(key, ready)
                self._run_posted()
                self._look_after_waiting()
        finally:
            for client in list(self._clients):
                self._drop(client, cut=True)
            self._listener.close()
            self._selector.close()
            self._near.close()
            self._far.close()

    def _pause(self) -> float | None:
        now = time.monotonic()
        due = [self._accept_again] if self._accept_again else []
        if self._waiting:
            due.append(self._waiting[0].since + WAIT_SECONDS)
        return max(0.0, min(due) - now) if due else None

    def _on_ready(self, key: selectors.SelectorKey, ready: int) -> None:
        if key.fileobj is self._near:
            self._near.recv(4096)
        elif key.data is None:
            self._accept(key.fileobj)  # type: ignore[arg-type]
        elif key.data in self._clients:
            client: Client = key.data
            self._guarded(client, lambda: self._move(client, ready))

    @staticmethod
    def _move(client: Client, ready: int) -> None:
        if ready & READ and client.wants_read:
            client.read_local()
        if ready & WRITE:
            client.write_local()

    def _run_posted(self) -> None:
        # Bounded by what is there now, so that a busy stream can't keep the loop from its sockets.
        for _ in range(len(self._posted)):
            sink, method, arguments = self._posted.popleft()
            if sink.client.sink is sink and sink.client in self._clients:
                self._guarded(sink.client, lambda m=method, c=sink.client, a=arguments: m(c, *a))  # type: ignore[misc]
        if self._posted:
            self._wake()

    def _guarded(self, client: Client, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError:
            self._drop(client, cut=True)  # the local client is gone
            return
        if client.ended and not client.wants_write:
            self._on_stream_end(client)
        else:
            self._watch(client)

    def _on_stream_end(self, client: Client) -> None:
        error = client.error
        if error is None:
            self._drop(client, cut=False)
        elif client.confirmed:
            if isinstance(error, NetworkError) and client.ask_again():
                self._watch(client)  # nothing of it is read meanwhile
                self._open(client)
            else:
                self._drop(client, cut=True)
        elif isinstance(error, ChannelRefused):
            client.refusals += 1
            worth_it = self._on_refused is not None and self._on_refused(error)
            if worth_it and client.refusals < REFUSALS:
                self._wait(client)
            else:
                self._drop(client, cut=True)
        else:
            self._open(client)  # on the next connection, if there is one already

    # -- clients -------------------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        if self._accept_again:
            return
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no file descriptor left: those who have one must end first
            self._accept_again = time.monotonic() + ACCEPT_PAUSE_SECONDS
            for paused in self._listener.sockets:
                self._selector.unregister(paused)
            return
        client = Client(sock)
        self._clients[client] = 0
        self._open(client)

    def _open(self, client: Client) -> None:
        try:
            client.attach(self._opener, self._post)
        except RemoteRuntimeError as error:
            if error.retryable:
                self._wait(client)
            else:
                self._give_up(client)

    def _give_up(self, client: Client) -> None:
        """Let go of a client that was never served, with a word if it is one that understands it."""
        self._drop(client, cut=not client.apologise())

    def _wait(self, client: Client) -> None:
        client.detach()
        if len(self._waiting) >= WAITING_CLIENTS:
            self._drop(client, cut=True)
        else:
            self._waiting.append(client)

    def _look_after_waiting(self) -> None:
        now = time.monotonic()
        if self._accept_again and now >= self._accept_again:
            self._accept_again = 0.0
            for sock in self._listener.sockets:
                self._selector.register(sock, READ)
        if self._retry:
            self._retry = False
            waiting, self._waiting = self._waiting, deque()
            for client in waiting:
                self._open(client)
        while self._waiting and now - self._waiting[0].since >= WAIT_SECONDS:
            self._give_up(self._waiting.popleft())

    def _watch(self, client: Client) -> None:
        wanted = (READ if client.wants_read else 0) | (WRITE if client.wants_write else 0)
        watched = self._clients[client]
        if wanted == watched:
            return
        if not watched:
            self._selector.register(client.sock, wanted, client)
        elif not wanted:
            self._selector.unregister(client.sock)
        else:
            self._selector.modify(client.sock, wanted, client)
        self._clients[client] = wanted

    def _drop(self, client: Client, *, cut: bool) -> None:
        if self._clients.pop(client, 0):
            self._selector.unregister(client.sock)
        client.close(cut=cut)

    def __enter__(self) -> LocalForward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
