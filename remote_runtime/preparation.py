"""The VM's side of each new connection: the server runs, is ours, and goes on being the one that proved itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

from remote_runtime import bootstrap, proof
from remote_runtime._threads import Deadline
from remote_runtime.errors import ChannelRefused, GuestError
from remote_runtime.events import EventSink, StepProgress
from remote_runtime.model import ServerInfo, ServerOptions
from remote_runtime.ssh import Connection

LOOK_SECONDS = 1.0
"""Between two looks for a Python that a startup script is to bring."""


class Preparation:
    """What the Link does with each new connection, before any client's byte: the server runs, and is ours."""

    def __init__(
        self, options: ServerOptions, token: str, new_token: bool, expects: Callable[[], bool], on_event: EventSink
    ) -> None:
        self._options = options
        self._token = token
        self._new_token = new_token
        self._expects = expects
        self._first = True
        self._on_event = on_event
        self._sentinel: proof.Sentinel | None = None

    def __call__(self, connection: Connection, deadline: Deadline) -> ServerInfo:
        server = self._ensure_server(connection, deadline)
        former, self._sentinel = self._sentinel, self._sentinel_for(server, connection, deadline)
        if former:
            former.close()
        self._token = server.token
        self._first = self._new_token = False
        return server

    def _ensure_server(self, connection: Connection, deadline: Deadline) -> ServerInfo:
        """Have the server run; a Python that a startup script may yet install is waited for."""
        missing = False
        while True:
            expects = self._expects()
            try:
                return bootstrap.ensure_server(
                    connection,
                    self._options,
                    token=self._token,
                    new_token=self._new_token,
                    restart=self._first,
                    expects_preparation=expects,
                    on_event=self._on_event,
                    deadline=deadline,
                )
            except GuestError as error:
                if not (expects and bootstrap.python_may_come(error.code, was_missing=missing)):
                    raise
            if not missing:
                missing = True
                self._on_event(StepProgress(bootstrap.STEP, "Waiting for the VM's startup script to install Python"))
            deadline.sooner(LOOK_SECONDS).wait(threading.Event())  # a close cancels the deadline
            deadline.check("waiting for the VM's startup script to install Python")

    def _sentinel_for(self, server: ServerInfo, connection: Connection, deadline: Deadline) -> proof.Sentinel:
        """Have the server prove itself; one that was only just started, and can't be reached, is stopped again."""
        try:
            return proof.Sentinel(server, connection, deadline)
        except ChannelRefused:
            if self._first and not server.adopted:
                bootstrap.stop_server(connection, deadline)
            raise

    def server_stands(self) -> bool:
        """Whether the server that proved itself last still runs: only then may a client's byte go to its port."""
        return self._sentinel is not None and self._sentinel.stands
