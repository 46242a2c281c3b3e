"""Carries bytes between a socket and a VM through Identity-Aware Proxy, in a thread.

A WebSocket that is cut is replaced, and both streams go on where they were: whoever has the socket notices a pause at
most.  No side can make the other's data pile up here: who does not read is not read for.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from remote_runtime._threads import SLICE_SECONDS, Deadline
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.providers.gce.iap_failures import NORMAL, Ended, pause
from remote_runtime.providers.gce.iap_protocol import Malformed, Session, Target
from remote_runtime.providers.gce.iap_watch import Watch
from remote_runtime.providers.gce.iap_websocket import WebSocket, open_websocket

ATTEMPT_SECONDS = 15.0
RESUME_SECONDS = 120.0
"""For so long a session that was cut is taken up again.  Whoever has an SSH connection in it gives it up sooner."""

SILENT_SECONDS = 8.0
"""Nothing was heard for so long, though there is something that the relay has to confirm: the WebSocket is given up."""

IDLE_SECONDS = 2.0
"""After so long in silence the relay is told of the little that it was not told of yet."""

LEAVE_SECONDS = 1.0
"""For so long after the owner's close, what was written before is still sent."""

QUEUED_BYTES = 128 << 10
READ_BYTES = 64 << 10
TURN_BYTES = 256 << 10
PENDING_BYTES = 1 << 20
"""So much is kept here for an owner who does not read; then the WebSocket is not read either."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Pump:
    """Both streams of one tunnel.  ``far`` is the owner's end of it."""

    def __init__(self, endpoint: str, target: Target, token: Callable[[], str]) -> None:
        self.far, self._near = socket.socketpair()
        self._near.setblocking(False)
        self._endpoint = endpoint
        self._session = Session(target)
        self._ask_token = token
        self._token = ""
        self._websocket: WebSocket | None = None
        self._pending: list[memoryview] = []  # for the owner
        self._front = memoryview(b"")  # goes before it
        self._pending_bytes = 0
        self._owner_writes = self._owner_reads = True
        self._leaving = threading.Event()
        self._life = Deadline(None)
        self._leave_by: Deadline | None = None
        self._heard_at = self._answered_at = time.monotonic()

    def leave(self) -> None:
        """Have :meth:`run` return soon; from any thread."""
        self._leaving.set()
        self._life.cancel()

    def close(self) -> None:
        """Free everything, the owner's end too if it is still here; not while :meth:`run` runs."""
        if self._websocket:
            self._websocket.abandon()
        self._near.close()
        self.far.close()

    def run(self) -> None:
        """Carry bytes until one of the two sides has ended: the thread."""
        try:
            with suppress(Malformed):
                while self._serve() and self._resume():
                    pass
            self._hand_over()
        finally:
            self.close()

    # -- WebSockets one after the other --------------------------------------------------------------------------------

    def open(self, deadline: Deadline) -> None:
        """Begin the session, or take it up again, over a new WebSocket.

        Raises :class:`Ended`, :class:`Malformed` and what :func:`open_websocket` raises.
        """
        is_old_token = bool(self._token)
        try:
            self._open(deadline)
        except Ended as end:
            if end.wants_token:
                self._token = ""
            if not (end.wants_token and is_old_token):
                raise
            self._open(deadline)

    def _open(self, deadline: Deadline) -> None:
        self._session.begin()
        websocket = open_websocket(self._session.url(self._endpoint), self._current_token, deadline)
        try:
            self._hear(websocket)
            while not self._session.is_open:
                if websocket.end:
                    raise websocket.end
                deadline.check("waiting for IAP's relay")
                websocket.wait(deadline)
                self._hear(websocket)
        except BaseException:
            websocket.abandon()
            raise
        self._websocket = websocket
        self._heard_at = self._answered_at = time.monotonic()

    def _current_token(self) -> str:
        self._token = self._token or self._ask_token()
        return self._token

    def _resume(self) -> bool:
        """Take the session up again after its WebSocket was cut; whether that went well."""
        deadline = self._life.sooner(RESUME_SECONDS)
        attempt = 0
        while self._owner_is_there():
            deadline.sooner(pause(attempt, random.random())).wait(threading.Event())  # noqa: S311 - no secret
            attempt += 1
            if deadline.expired:
                return False
            try:
                self.open(deadline.sooner(ATTEMPT_SECONDS))
                return True
            except Malformed:
                return False
            except (Ended, RemoteRuntimeError) as error:
                if not (error.may_resume if isinstance(error, Ended) else error.retryable):
                    return False
        return False

    # -- one WebSocket -------------------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Carry bytes over the present WebSocket; when that has ended, whether another one may take its place."""
        websocket = self._websocket
        assert websocket  # noqa: S101 - run() is called after open()
        with Watch() as watch:
            while not websocket.end and not self._has_left(websocket):
                self._send(websocket)
                near_events = self._near_events(websocket)
                watch.events(self._near, near_events)
                watch.events(websocket, self._websocket_events(websocket))
                ready = watch.wait(self._patience(websocket, near_events))
                if websocket in ready:
                    self._hear(websocket)
                if ready.get(self._near, 0) & _READ:
                    self._take()
                self._deliver()
                self._look_for_silence(websocket)
        if websocket.end is None:
            websocket.close(NORMAL, Deadline(LEAVE_SECONDS))
            return False
        websocket.abandon()
        if websocket.end.wants_token:
            self._token = ""
        return websocket.end.may_resume

    def _send(self, websocket: WebSocket) -> None:
        """Send acknowledgements and data, as long as there is room on the line."""
        if websocket.queued < QUEUED_BYTES:
            ack = self._session.next_ack(idle=time.monotonic() - self._heard_at >= IDLE_SECONDS)
            if ack:
                websocket.send(ack)
        while websocket.queued < QUEUED_BYTES:
            message = self._session.next_data()
            if message is None:
                break
            websocket.send(message)
        websocket.flush()

    def _near_events(self, websocket: WebSocket) -> int:
        """What to wait for at the owner's side: no more is read than can be sent now."""
        wanted = self._owner_writes and self._session.room and not self._session.unsent
        reads = _READ if wanted and websocket.queued < QUEUED_BYTES else 0
        return reads | (_WRITE if self._pending_bytes else 0)

    def _websocket_events(self, websocket: WebSocket) -> int:
        reads = _READ if self._pending_bytes < PENDING_BYTES else 0
        return reads | (_WRITE if websocket.wants_write else 0)

    def _patience(self, websocket: WebSocket, near_events: int) -> float | None:
        """How long to wait for something to happen, in seconds; None: as long as it takes."""
        now = time.monotonic()
        moments = []
        if self._session.ack_owed and websocket.queued < QUEUED_BYTES:
            moments.append(self._heard_at + IDLE_SECONDS)
        if self._session.unconfirmed:
            moments.append(self._answered_at + SILENT_SECONDS)
        if not near_events & _READ:
            moments.append(now + SLICE_SECONDS)  # the owner may go, and nothing would tell
        return max(0.0, min(moments) - now) if moments else None

    def _look_for_silence(self, websocket: WebSocket) -> None:
        """End a WebSocket over which nothing comes any more."""
        now = time.monotonic()
        if not self._session.unconfirmed or self._pending_bytes >= PENDING_BYTES:
            self._answered_at = now
        elif now - self._answered_at >= SILENT_SECONDS:
            websocket.end = Ended()

    def _has_left(self, websocket: WebSocket) -> bool:
        """Whether the owner is gone, and what was written before is sent or has had its time."""
        if self._owner_writes and not self._leaving.is_set():
            return False
        if self._owner_is_there():
            return False
        self._leave_by = self._leave_by or Deadline(LEAVE_SECONDS)
        is_sent = not (self._owner_writes or self._session.unsent or websocket.queued)
        return is_sent or self._leave_by.expired

    def _hear(self, websocket: WebSocket) -> None:
        messages = websocket.read()
        if messages:
            self._heard_at = self._answered_at = time.monotonic()
        for message in messages:
            payload = self._session.hear(message)
            if payload:
                self._pending.append(payload)
                self._pending_bytes += len(payload)

    # -- the owner -----------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Take what the owner has written."""
        size = 0
        while size < TURN_BYTES and self._session.room:
            try:
                data = self._read_owner(min(READ_BYTES, self._session.room))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._owner_writes = False
                return
            self._session.take(data)
            size += len(data)

    def _read_owner(self, size: int) -> bytes:
        try:
            return self._near.recv(size)
        except ConnectionResetError:
            # The owner left without having read everything: Linux says so once, and then gives what was written.
            return self._near.recv(size)

    def _deliver(self) -> None:
        """Give the owner what has come, as far as there is room."""
        try:
            while self._pending_bytes:
                if not self._front:  # in one piece, as each send wakes the owner
                    self._front = memoryview(b"".join(self._pending))
                    self._pending.clear()
                count = self._near.send(self._front)
                self._session.deliver(count)
                self._pending_bytes -= count
                self._front = self._front[count:]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._forget_owner()

    def _owner_is_there(self) -> bool:
        """Whether somebody may still read what comes."""
        if self._owner_reads:
            try:
                if self._leaving.is_set():
                    raise BrokenPipeError
                self._near.send(b"")
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._forget_owner()
        return self._owner_reads

    def _forget_owner(self) -> None:
        self._owner_reads = False
        self._pending.clear()
        self._front = memoryview(b"")
        self._pending_bytes = 0

    def _hand_over(self) -> None:
        """Wait until the owner has taken what came before the end."""
        with Watch() as watch:
            self._deliver()
            while self._pending_bytes and self._owner_is_there():
                watch.events(self._near, _WRITE)
                watch.wait(SLICE_SECONDS)
                self._deliver()
