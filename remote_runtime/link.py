"""The Link keeps one Connection to the VM up, and the guest prepared.

On every connect and reconnect it asks for a fresh endpoint (``resolve``), logs in, and prepares the guest
(``prepare``), before anything else may use the connection.  What is above it, a forward's listener say, stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from remote_runtime import ssh
from remote_runtime._threads import Deadline, ThreadGroup, backoff
from remote_runtime.errors import NetworkError, RemoteRuntimeError
from remote_runtime.events import EventSink, LinkChanged, LinkState, step
from remote_runtime.model import Endpoint, Question, ServerInfo
from remote_runtime.stream import Sink, Stream

Resolve = Callable[[Deadline], Endpoint]
Prepare = Callable[[ssh.Connection, Deadline], ServerInfo]

PROBE_EVERY_SECONDS = 5.0
PROBE_SECONDS = 9.0
"""A peer that has not answered a probe for so long is taken for dead."""

ATTEMPT_SECONDS = 180.0
"""One attempt to come back; generous, since the server may have to be started again."""


class Link:
    """Keeps one connection up; connected and prepared when constructed.

    ``name`` is for messages.  ``ask`` may be used by the first login only: later nobody may be there to answer.
    Raises what ``resolve``, the login and ``prepare`` raise.
    """

    def __init__(
        self,
        name: str,
        *,
        resolve: Resolve,
        prepare: Prepare,
        ask: Question | None,
        on_event: EventSink,
        deadline: Deadline,
    ) -> None:
        self._name = name
        self._resolve = resolve
        self._prepare = prepare
        self._on_event = on_event
        self._lock = threading.Lock()
        self._news = threading.Event()  # something for the supervisor to look at
        self._over = threading.Event()
        self._closing = threading.Event()
        self._prepare_wanted = ""
        self._attempt = deadline
        self._connection: ssh.Connection | None = None
        self._listeners: list[Callable[[], None]] = []
        self.error: RemoteRuntimeError | None = None
        self.state: LinkState = "connected"
        with step(on_event, "ssh", f"Logging in to {name}"):
            connection = ssh.connect(resolve(deadline), ask=ask, on_event=on_event, deadline=deadline)
        try:
            with step(on_event, "server", f"Preparing Jupyter on {name}"):
                self.server = prepare(connection, deadline)
        except BaseException:
            connection.close()
            raise
        self._adopt(connection)
        self._threads = ThreadGroup(self._stop)
        self._threads.spawn("link", self._supervise)

    # -- what others use -----------------------------------------------------------------------------------------------

    def connection(self) -> ssh.Connection:
        """The connection of this moment.

        Raises :class:`NetworkError` with code ``reconnecting`` while there is none, or the final error.
        """
        with self._lock:
            connection, ready = self._connection, self.state == "connected"
        if connection and ready:
            return connection
        raise self.error or NetworkError(
            f"The link to {self._name} is {self.state}", hint="It comes back by itself.", code="reconnecting"
        )

    def open_stream(self, host: str, port: int, sink: Sink) -> Stream:
        """Open a stream on the connection of this moment; raises :class:`NetworkError` if there is none."""
        return self.connection().open_stream(host, port, sink)

    def on_connected(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called, from the link's thread, each time the link has come back."""
        self._listeners.append(tell)

    def request_prepare(self, reason: str) -> None:
        """Prepare the guest again: its server's port refused a stream."""
        self._prepare_wanted = reason
        self._news.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the link is closed, or for ``seconds``.  Raises the final error if it failed for good."""
        Deadline(seconds).wait(self._over)
        if self.error:
            raise self.error

    def close(self) -> None:
        """End the connection and the thread; safe to call twice."""
        self._threads.close()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            connection.close()
        if self.state != "failed":
            self._change("closed")
        self._over.set()

    # -- the supervisor ------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._closing.set()
        self._attempt.cancel()
        self._news.set()
        with self._lock:
            connection = self._connection
        if connection:
            connection.close()  # whatever waits for an answer of the VM wakes up

    def _supervise(self) -> None:
        while not self._closing.is_set():
            told = self._news.wait(PROBE_EVERY_SECONDS)
            self._news.clear()
            if self._closing.is_set():
                return
            reason = self._trouble(probe=not told)
            if reason and not self._recover(reason):
                return

    def _trouble(self, *, probe: bool) -> str:
        """Why the link has to be brought up again; empty if all is well."""
        connection = self._connection
        if connection is None or not connection.alive:
            return "the connection was lost"
        if self._prepare_wanted:
            return self._prepare_wanted
        if probe:
            try:
                connection.probe(Deadline(PROBE_SECONDS))
            except NetworkError:
                return f"no sign of life for {PROBE_SECONDS:g} s"
        return ""

    def _recover(self, reason: str) -> bool:
        """Try until the link is up again; False if it never will be."""
        for pause in backoff():
            self._change("reconnecting", reason, pause)
            if self._pause(pause):
                return False
            try:
                self._establish()
            except RemoteRuntimeError as error:
                if self._closing.is_set():
                    return False
                if not error.retryable:
                    self._fail(error)
                    return False
                reason = error.message
                continue
            self._change("connected")
            for tell in self._listeners:
                tell()
            return True
        raise AssertionError("unreachable: backoff never ends")

    def _pause(self, seconds: float) -> bool:
        """Wait before an attempt; True if the link is being closed."""
        deadline = Deadline(seconds)
        while not self._closing.is_set() and not deadline.expired:
            self._news.wait(deadline.remaining())
            if not self._closing.is_set():
                self._news.clear()
        return self._closing.is_set()

    def _establish(self) -> None:
        self._attempt = Deadline(ATTEMPT_SECONDS)
        connection = self._connection
        if connection is None or not connection.alive:
            if connection:
                connection.close()
            endpoint = self._resolve(self._attempt)
            connection = ssh.connect(endpoint, ask=None, on_event=self._on_event, deadline=self._attempt)
            self._adopt(connection)
        if self._closing.is_set():
            connection.close()
            self._attempt.cancel()
        self._prepare_wanted = ""
        self.server = self._prepare(connection, self._attempt)

    def _adopt(self, connection: ssh.Connection) -> None:
        with self._lock:
            self._connection = connection
        connection.on_lost(self._news.set)

    def _fail(self, error: RemoteRuntimeError) -> None:
        self.error = error
        self._change("failed", error.message)
        self._over.set()

    def _change(self, state: LinkState, reason: str = "", retry_in: float | None = None) -> None:
        with self._lock:
            self.state = state
        self._on_event(LinkChanged(state, reason, retry_in))

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
