"""A kernel of one's own on the VM, and code that runs in it: by jupyter_client's messages over Jupyter's WebSocket.

Jupyter's server stands between us and the kernel on purpose: while our connection is cut it keeps the kernel's messages
for the session that comes back, which a kernel's own ports would not.  The only importer of jupyter_client.
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, Union

from remote_runtime._threads import Deadline, ThreadGroup, timed_out
from remote_runtime.cells import Cell, CellResult, Message, Output, death
from remote_runtime.errors import KernelError, NetworkError, RemoteRuntimeError, TimedOut
from remote_runtime.model import ServerInfo

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LEASE_SECONDS = 300.0
"""How long a kernel outlives the program that it belongs to, or a cut of the connection."""

LONGEST_LEASE_SECONDS = 7 * 24 * 3600.0
"""More the server does not grant."""

ANSWER_SECONDS = 130.0
"""A little longer than clients wait at the forward for the link to come back."""

END_SECONDS = 5.0
_SLICE_SECONDS = 0.2
_RETRY_SECONDS = 0.25
_PONG_SECONDS = 5.0

# The library would log the headers of its requests, and the token with them, where somebody wants to see all.
_SILENT = logging.Logger("remote_runtime.websockets", level=logging.CRITICAL)

News = Union[Message, Literal["connection"]]
"""A message, or that something is different now with the connection: look."""


def nobody(_: Output) -> None:
    """Tell nobody of the outputs."""


class Kernel:
    """A kernel that this object has started and will end; usable from several threads, which take turns.

    ``port`` is the local port, ``server`` tells what is behind it now.  ``check`` raises when that will never answer
    again, ``reachable`` tells whether it does now.  If this process is killed the server ends the kernel ``lease``
    seconds later.  ``ended`` is set when it has ended otherwise, by the code of the error that tells so.
    Raises :class:`KernelError` and :class:`NetworkError`.
    """

    def __init__(
        self,
        port: int,
        server: Callable[[], ServerInfo],
        *,
        check: Callable[[], None],
        reachable: Callable[[], bool],
        lease: float,
        deadline: Deadline,
    ) -> None:
        self._session, self._encode = _jupyter_client()
        self._port = port
        self._server = server
        self._check = check
        self._reachable = reachable
        self.id: str = self._call("POST", "remote-runtime/kernels", deadline, {"lease": lease})["id"]
        self.ended: Literal["", "kernel_died", "kernel_lost"] = ""
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._running = False
        self._closing = threading.Event()
        self._raw: socket.socket | None = None
        self._channels: ClientConnection | None = None
        self._threads = ThreadGroup(self._stop)
        self._threads.spawn("kernel", self._stay_connected)

    def execute(self, code: str, on_output: Callable[[Output], None], deadline: Deadline) -> CellResult:
        """Run ``code`` and return what it gave, also if it raised an exception.

        Raises :class:`TimedOut`, after the code was interrupted, and :class:`KernelError` with the codes
        ``kernel_died``, ``kernel_lost`` (its server has ended, or ended it), ``result_lost`` (a cut came between) and
        ``kernel_closed``.
        """
        left = deadline.remaining()
        if not self._turn.acquire(timeout=-1 if left is None else left):
            raise timed_out("waiting for other code to end", deadline.seconds)
        try:
            self._running = True
            return self._execute(code, on_output, deadline)
        except (TimedOut, KeyboardInterrupt):
            self._interrupt()
            raise
        finally:
            self._running = False
            self._turn.release()

    def close(self) -> None:
        """End the kernel; safe to call twice.  If its server can't be reached now, that ends it by and by."""
        first = not self._closing.is_set()
        self._closing.set()  # before the kernel's end is news to whoever waits for it
        if first and self._reachable():
            with suppress(RemoteRuntimeError):
                self._call("DELETE", f"api/kernels/{self.id}", Deadline(END_SECONDS))
        self._threads.close()

    # -- one piece of code ---------------------------------------------------------------------------------------------

    def _execute(self, code: str, on_output: Callable[[Output], None], deadline: Deadline) -> CellResult:
        self._forget_news()
        if self.ended:
            raise _ended(self.ended)
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        # What is sent after code that failed or was interrupted is not to be dropped: each is awaited by itself.
        request = self._session.msg("execute_request", {**content, "stop_on_error": False})
        cell = Cell(request["header"]["msg_id"])
        channels = self._living_channels(deadline)
        self._send(channels, request)
        while not cell.done:
            news = self._next(deadline)
            if self._channels not in (None, channels):  # they were cut, and are back
                channels = self._channels
                question = self._session.msg("kernel_info_request", {})
                cell.probe = question["header"]["msg_id"]
                self._send(channels, question)
            if isinstance(news, dict):
                output = cell.take(news)
                if output:
                    on_output(output)
            if cell.lost:
                raise KernelError(
                    "The connection was cut while code ran: whether it ran, and to its end, can't be known",
                    hint="The kernel and its variables are still there: look at them before you run it again.",
                    code="result_lost",
                )
        return cell.result()

    def _living_channels(self, deadline: Deadline) -> ClientConnection:
        """Wait for a connection that is known to be alive, so that the code is not sent into a dead one."""
        while True:
            channels = self._channels
            if channels is None:
                self._next(deadline)
            elif _answers(channels, deadline):
                return channels
            else:
                self._hang_up()
                while self._channels is channels:
                    self._next(deadline)

    def _next(self, deadline: Deadline) -> News:
        """What comes next from the server.  Raises when the kernel is no more, and when nothing can come any more."""
        while True:
            news: News | None = None
            with suppress(queue.Empty):
                news = self._news.get(timeout=deadline.bounded(_SLICE_SECONDS))
            if self._closing.is_set():
                raise KernelError("The Runtime was closed while code ran", code="kernel_closed")
            if isinstance(news, dict) and death(news):
                self.ended = "kernel_died"
            if self.ended:
                raise _ended(self.ended)
            if news is None:
                deadline.check("running code")
                self._check()
                continue
            return news

    def _forget_news(self) -> None:
        while not self._news.empty():
            self._news.get()

    def _send(self, channels: ClientConnection, message: Message) -> None:
        """Send it, or not: the end of a connection is noticed in its turn."""
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed, OSError):
            channels.send(json.dumps({**message, "channel": "shell"}, default=self._encode))

    def _interrupt(self) -> None:
        with suppress(RemoteRuntimeError):
            self._call("POST", f"api/kernels/{self.id}/interrupt", Deadline(END_SECONDS))

    # -- the connection ------------------------------------------------------------------------------------------------

    def _stay_connected(self) -> None:
        """What the thread does: connect, listen, and connect again; the server's lease runs while nobody does."""
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

        while not self._closing.is_set():
            try:
                with self._connection() as channels:
                    self._channels = channels
                    self._news.put("connection")
                    with suppress(ConnectionClosed):
                        for text in channels:
                            self._hear(text)
            except InvalidStatus as error:
                if error.response.status_code == http.HTTPStatus.NOT_FOUND:
                    self.ended = self.ended or "kernel_lost"
                    return
            except (OSError, WebSocketException):
                pass  # it is tried again
            finally:
                self._channels = None
                self._news.put("connection")
            self._closing.wait(_RETRY_SECONDS)

    def _hear(self, text: str | bytes) -> None:
        if not isinstance(text, str):
            return  # buffers of widgets
        message = json.loads(text)
        if self._running:
            self._news.put(message)
        elif death(message):
            self.ended = "kernel_died"

    @contextmanager
    def _connection(self) -> Iterator[ClientConnection]:
        from websockets.sync.client import connect

        server = self._server()
        with socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS) as raw:
            with self._lock:
                self._raw = raw
            if self._closing.is_set():
                self._hang_up()
            with connect(
                f"ws://localhost:{self._port}{server.base_url}api/kernels/{self.id}/channels"
                f"?session_id={self._session.session}",
                sock=raw,
                additional_headers={"Authorization": f"token {server.token}"},
                compression=None,
                open_timeout=ANSWER_SECONDS,
                close_timeout=_RETRY_SECONDS,
                max_size=None,
                logger=_SILENT,
            ) as channels:
                yield channels

    def _hang_up(self) -> None:
        with self._lock:
            raw = self._raw
        if raw:
            with suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)

    def _stop(self) -> None:
        self._closing.set()
        self._news.put("connection")
        self._hang_up()

    def _call(self, method: str, path: str, deadline: Deadline, body: object = None) -> Any:
        """One request to the server; the JSON of its answer."""
        server = self._server()
        seconds = deadline.bounded(ANSWER_SECONDS)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        headers = {"Authorization": f"token {server.token}", "Host": f"localhost:{self._port}"}
        try:
            connection.request(method, server.base_url + path, json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            deadline.check("waiting for the Jupyter server")
            raise NetworkError(
                "The Jupyter server did not answer a request about a kernel",
                hint="remote-runtime logs shows the server's own words.",
                code="server_not_answering",
            ) from error
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise KernelError(
                f"The Jupyter server refused a request about a kernel, with status {answer.status}",
                hint="remote-runtime logs shows why. A server of an older version has to be stopped first: "
                "remote-runtime stop.",
            )
        return json.loads(content or b"null")


def _answers(channels: ClientConnection, deadline: Deadline) -> bool:
    from websockets.exceptions import ConnectionClosed

    try:
        return channels.ping().wait(deadline.bounded(_PONG_SECONDS))
    except (ConnectionClosed, OSError):
        return False


def _jupyter_client() -> tuple[Any, Callable[[Any], Any]]:
    """A session of Jupyter's messages, and what encodes their dates."""
    try:
        from jupyter_client.jsonutil import json_default
        from jupyter_client.session import Session
    except ImportError as error:
        raise KernelError(
            "jupyter_client is not installed, by which code is run in a kernel",
            hint="Install it beside remote-runtime: pip install 'remote-runtime[kernels]'",
            code="kernels_missing",
        ) from error
    return Session(), json_default


def _ended(code: Literal["kernel_died", "kernel_lost"]) -> KernelError:
    fresh = "Its variables are gone; what comes next runs in a fresh one."
    if code == "kernel_died":
        hint = f"The machine may have run out of memory. {fresh}"
        return KernelError("The kernel's process has died", hint=hint, code=code)
    message = "The kernel has ended: its server was stopped or started again, or somebody ended it"
    return KernelError(message, hint=fresh, code=code)
