"""Whether a connection still lives: it is asked, and how long the answer takes tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from remote_runtime._threads import ThreadGroup, timed_out
from remote_runtime.errors import NetworkError
from remote_runtime.ssh.connection import Connection

ASK_EVERY_SECONDS = 1.0


class Pulse:
    """Asks one connection for signs of life, one question at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._answer: threading.Event | None = None
        self._asked = 0.0

    @property
    def answered(self) -> bool:
        """Whether the newest question was answered."""
        return self._answer is not None and self._answer.is_set()

    def silence(self) -> float:
        """For how many seconds an answer is due, and nothing else came either; if no answer is due, ask again.

        On a busy line the answer waits behind data, which is a sign of life itself.
        """
        if self._answer is None or self._answer.is_set():
            self._asked = time.monotonic()
            self._answer = self._connection.probe()
            return 0.0
        return time.monotonic() - max(self._asked, self._connection.heard())

    @contextmanager
    def required(self, seconds: float) -> Iterator[None]:
        """End the connection if it is silent for so long within the block, so that whoever waits for it wakes up.

        Raises :class:`TimedOut` instead of the :class:`NetworkError` that comes of that.
        """
        left, silent = threading.Event(), threading.Event()

        def ask_again_and_again() -> None:
            while not left.wait(ASK_EVERY_SECONDS):
                if self.silence() >= seconds:
                    silent.set()
                    self._connection.close()
                    return

        with ThreadGroup(left.set) as threads:
            threads.spawn("ssh-pulse", ask_again_and_again)
            try:
                yield
            except NetworkError as error:
                if silent.is_set():
                    raise timed_out("waiting for a sign of life of the machine", seconds) from error
                raise
