"""The Link keeps one Connection to the VM up, and the guest prepared.

On every connect and reconnect it asks for a fresh endpoint (``resolve``), logs in, and prepares the guest
(``prepare``), before anything else may use the connection.  What is above it, a forward's listener say, stays as it is.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Optional

from remote_runtime import recovery, ssh
from remote_runtime._threads import Deadline, ThreadGroup
from remote_runtime.errors import NetworkError, RemoteRuntimeError
from remote_runtime.events import EventSink, LinkState, step
from remote_runtime.model import Endpoint, Question, ServerInfo, no_second_try
from remote_runtime.recovery import Down, Over, Up
from remote_runtime.stream import Sink, Stream

Resolve = Callable[[Deadline], Endpoint]
Judge = Callable[[Optional[RemoteRuntimeError], Deadline], None]
Prepare = Callable[[ssh.Connection, Deadline], ServerInfo]

SUSPECT_SECONDS = 3.0
"""A peer that has not answered a probe for so long is suspected dead: a new login is raced against its answer."""

FIRST_SILENCE_SECONDS = 60.0
"""A peer that has not answered for so long while the guest is prepared the first time, or runs what one of the verbs
besides connect asks for, is given up: generous, since the answer may have to wait behind a big upload on a slow line.
Linux's kernel knows a dead path sooner by itself."""

SLEPT_SECONDS = 5.0
"""A clock that has gone so much further than the wait that was asked for says that this computer slept."""

ATTEMPT_SECONDS = 180.0
"""One attempt to come back; generous, since the server may have to be started again."""


class Link:
    """Keeps one connection up; connected and prepared when constructed.

    ``name`` is for messages.  ``judge`` hears how each login went, and decides whether one that failed is worth another
    attempt at once (see :class:`.Instance`).  ``ask`` may be used by the first login only: later nobody may be there to
    answer.  ``transport`` and ``first_command`` are those of all its connections (see :func:`.ssh.connect`).
    Raises what ``resolve``, the login and ``prepare`` raise.
    """

    def __init__(
        self,
        name: str,
        *,
        resolve: Resolve,
        judge: Judge = no_second_try,
        prepare: Prepare,
        ask: Question | None,
        on_event: EventSink,
        deadline: Deadline,
        transport: ssh.TransportKind = "lean",
        first_command: str = "",
    ) -> None:
        self._name = name
        self._resolve = resolve
        self._judge = judge
        self._prepare = prepare
        self._on_event = on_event
        self._transport: ssh.TransportKind = transport
        self._first_command = first_command
        self._unlocked = ssh.Unlocked()
        self._lock = threading.Lock()
        self._news = threading.Event()  # something for the supervisor to look at
        self._over = threading.Event()
        self._status: recovery.State = Up()
        self._prepare_wanted = ""
        self._suspect = self._slept = False
        self._source: str | None = None  # the address from which this computer reaches the machine
        self._usual_login = 0.0  # seconds
        self._attempt = deadline
        self._connection: ssh.Connection | None = None
        self._pulse: ssh.Pulse
        self._listeners: list[Callable[[], None]] = []
        with step(on_event, "ssh", f"Logging in to {name}"):
            connection = self._log_in(ask, deadline)
        try:
            self._adopt(connection)
            with step(on_event, "server", f"Preparing Jupyter on {name}"), self._pulse.required(FIRST_SILENCE_SECONDS):
                self.server = prepare(connection, deadline)
        except BaseException:
            connection.close()
            raise
        self._threads = ThreadGroup(self._stop)
        self._threads.spawn("link", self._supervise)

    # -- what others use -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> LinkState:
        """``connected``, ``reconnecting``, ``failed`` or ``closed``."""
        return recovery.public(self._status)

    def connection(self) -> ssh.Connection:
        """The connection of this moment.

        Raises :class:`NetworkError` with code ``reconnecting`` while there is none, and ``closed`` when there will be
        none, or the error by which the link failed.
        """
        with self._lock:
            connection, status = self._connection, self._status
        if connection and isinstance(status, Up):
            return connection
        if isinstance(status, Over):
            raise status.error or closed(self._name)
        raise NetworkError(
            f"The link to {self._name} is reconnecting",
            hint="It comes back by itself.",
            code="reconnecting",
        )

    def open_stream(self, host: str, port: int, sink: Sink, *, admit: Callable[[], bool] = lambda: True) -> Stream:
        """Open a stream on the connection of this moment (see :meth:`.Connection.open_stream`).

        Raises :class:`NetworkError` if there is none.
        """
        return self.connection().open_stream(host, port, sink, admit=admit)

    def on_settled(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called, from the link's thread, each time the link has come back or failed for good."""
        self._listeners.append(tell)

    def request_prepare(self, reason: str) -> None:
        """Prepare the guest again: its server's port refused a stream."""
        self._prepare_wanted = reason
        self._news.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the link is closed, or for ``seconds``.  Raises the final error if it failed for good."""
        Deadline(seconds).wait(self._over)
        if isinstance(self._status, Over) and self._status.error:
            raise self._status.error

    def close(self) -> None:
        """End the connection and the thread; safe to call twice."""
        self._threads.close()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            connection.close()

    # -- the supervisor ------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._move(recovery.closed)
        self._attempt.cancel()
        self._news.set()
        with self._lock:
            connection = self._connection
        if connection:
            connection.close()  # whatever waits for an answer of the VM wakes up

    def _supervise(self) -> None:
        while not isinstance(self._status, Over):
            if isinstance(self._status, Up):
                self._watch()
            elif self._pause(self._status.retry_at):
                self._come_back()

    def _watch(self) -> None:
        """Look after a link that is up, for one interval."""
        self._rest(ssh.ASK_EVERY_SECONDS)
        trouble = self._trouble()
        if trouble:
            self._move(lambda status: recovery.lost(status, trouble, time.monotonic()))

    def _pause(self, until: float) -> bool:
        """Wait for a moment to try again, for one interval at most; whether it has come."""
        came = self._rest(min(until - time.monotonic(), ssh.ASK_EVERY_SECONDS))
        if self._moved():
            self._move(lambda status: recovery.hurried(status, time.monotonic()))
        return came and time.monotonic() >= until

    def _trouble(self) -> str:
        """Why the link has to be brought up again; empty if all is well."""
        if self._connection is None or not self._connection.alive:
            return "the connection was lost"
        if self._prepare_wanted:
            return self._prepare_wanted
        silent = self._pulse.silence()
        if self._slept:
            self._slept, self._suspect = False, True
            return "this computer was asleep"
        if self._moved():
            self._suspect = True
            return "this computer's network has changed"
        if silent >= SUSPECT_SECONDS:
            self._suspect = True
            return f"no sign of life for {SUSPECT_SECONDS:g} s"
        return ""

    def _moved(self) -> bool:
        """Whether this computer has another address towards the machine since it was asked the last time."""
        connection = self._connection
        source = connection.source() if connection else None
        moved = recovery.moved(self._source, source)
        self._source = source or self._source
        return moved

    def _rest(self, seconds: float) -> bool:
        """Wait for news, up to ``seconds``; whether nothing came up before."""
        if seconds <= 0:
            return True
        asleep_at = time.time()
        told = self._news.wait(seconds)
        self._news.clear()
        if time.time() - asleep_at > seconds + SLEPT_SECONDS:
            self._slept = True
            self._move(lambda status: recovery.hurried(status, time.monotonic()))
        return not told

    def _come_back(self) -> None:
        """Make one attempt."""
        try:
            self._establish()
        except RemoteRuntimeError as error:
            if self._old_is_back():
                self._up_again()
            else:
                jitter = random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
                failure = error  # the name that except binds is gone when the lambda could want it
                self._move(lambda status: recovery.failed(status, failure, time.monotonic(), jitter))
        else:
            self._up_again()

    def _up_again(self) -> None:
        self._suspect = self._slept = False
        self._move(recovery.succeeded)

    def _establish(self) -> None:
        """Log in, unless the connection is fine and only its server was in doubt; then prepare."""
        self._attempt = Deadline(ATTEMPT_SECONDS)
        patience = recovery.login_seconds(self._status, self._usual_login)
        connection = self._connection
        if connection is None or not connection.alive or self._suspect:
            fresh = self._log_in(None, self._attempt, patience)
            if self._old_is_back():
                fresh.close()
                return
            self._adopt(fresh)
            if connection:
                connection.close()
            connection = fresh
        if isinstance(self._status, Over):  # closed meanwhile: what was adopted after that is closed by close()
            self._attempt.cancel()
        self._prepare_wanted = ""
        with self._pulse.required(patience):
            self.server = self._prepare(connection, self._attempt)

    def _log_in(self, ask: Question | None, deadline: Deadline, seconds: float | None = None) -> ssh.Connection:
        """A new connection to where the machine is now; ``seconds`` bound the login alone."""

        def attempt(endpoint: Endpoint) -> ssh.Connection:
            began = time.monotonic()
            connection = ssh.connect(
                endpoint,
                ask=ask,
                on_event=self._on_event,
                deadline=deadline.sooner(seconds),
                unlocked=self._unlocked,
                transport=self._transport,
                first_command=self._first_command,
            )
            self._usual_login = time.monotonic() - began
            return connection

        return log_in(self._resolve, attempt, self._judge, deadline)

    def _old_is_back(self) -> bool:
        """Whether the connection that was suspected dead has answered after all."""
        connection = self._connection
        return bool(self._suspect and self._pulse.answered and connection and connection.alive)

    def _adopt(self, connection: ssh.Connection) -> None:
        with self._lock:
            self._connection = connection
        self._pulse = ssh.Pulse(connection)
        self._source = connection.source()
        connection.on_change(self._hear)

    def _hear(self) -> None:
        """The connection ended, or answered a probe."""
        if isinstance(self._status, Down) and self._old_is_back():
            self._attempt.cancel()  # no need to go on with a new login
        if not (self._pulse.answered and isinstance(self._status, Up)):
            self._news.set()

    def _move(self, change: Callable[[recovery.State], recovery.State]) -> None:
        """Take on the state that ``change`` makes of the present one, and tell what is new.

        In one step, since close() may come from another thread at any moment, and what is over must stay so.
        """
        with self._lock:
            before = self._status
            status = self._status = change(before)
        if status == before:
            return
        self._on_event(recovery.told(before, status, time.monotonic()))
        if isinstance(status, Over):
            self._over.set()
        if not isinstance(status, Down):
            for tell in self._listeners:
                tell()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def closed(name: str) -> NetworkError:
    """That the link to the machine of that name was closed on this side."""
    return NetworkError(f"The link to {name} is closed", code="closed", retryable=False)


def log_in(
    resolve: Resolve, attempt: Callable[[Endpoint], ssh.Connection], judge: Judge, deadline: Deadline
) -> ssh.Connection:
    """Log in where ``resolve`` says, again as long as ``judge`` lets another attempt be made."""
    while True:
        endpoint = resolve(deadline)
        try:
            connection = attempt(endpoint)
        except RemoteRuntimeError as error:
            judge(error, deadline)
        else:
            judge(None, deadline)
            return connection
