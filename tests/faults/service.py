"""A web server on a machine that can be reached through a Link and a LocalForward, joined as ``connect`` joins them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager

from remote_runtime._threads import Deadline
from remote_runtime.events import Event, LinkChanged
from remote_runtime.forward import LocalForward, listen
from remote_runtime.link import Link
from remote_runtime.model import Endpoint, ServerInfo
from remote_runtime.ssh import Connection
from tests.faults import web

PATIENCE_SECONDS = 60.0


class Service:
    """Its local ``port``, its ``link``, and what the link said, each with its moment."""

    def __init__(self, clients: ThreadPoolExecutor) -> None:
        self.port = 0
        self.link: Link
        self.prepared = 0
        self.told: list[tuple[float, LinkChanged]] = []
        self._news = threading.Condition()
        self._clients = clients

    # -- what the link calls -------------------------------------------------------------------------------------------

    def prepare(self, connection: Connection, deadline: Deadline) -> ServerInfo:
        """Run one command on the machine, as the real preparation does."""
        with connection.execute("true", deadline) as process:
            assert list(process.lines()) == []
        self.prepared += 1
        return ServerInfo(pid=1, port=1, token="secret")

    def hear(self, event: Event) -> None:
        if isinstance(event, LinkChanged):
            with self._news:
                self.told.append((time.monotonic(), event))
                self._news.notify_all()

    # -- what tests call -----------------------------------------------------------------------------------------------

    def until(self, state: str, *, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait for the link to have said that it is in ``state``; the moment when it first did."""

        def moments() -> list[float]:
            return [moment for moment, event in self.told if event.state == state]

        with self._news:
            assert self._news.wait_for(moments, seconds), f"never {state}: {self.told}"
            return moments()[0]

    def get(self, size: int = 1000) -> float:
        """Make a new request and see that the right answer comes; how many seconds that took."""
        started = time.monotonic()
        web.get(self.port, size)
        return time.monotonic() - started

    def getting(self, *, delay: float = 0.0) -> Future[float]:
        """Make a request in the background, ``delay`` seconds from now; the moment of its right answer."""

        def get() -> float:
            time.sleep(delay)
            self.get()
            return time.monotonic()

        return self._clients.submit(get)


@contextmanager
def service(
    resolve: Callable[[], Endpoint], web_port: int, *, within: Callable[[], AbstractContextManager[object]] = ExitStack
) -> Iterator[Service]:
    """Reach the web server at ``web_port`` of the machine, for the block.

    The Link, its threads and all its connections are made in the context that ``within()`` gives, such as a network
    namespace; the local port is outside of it.
    """
    with ExitStack() as opened:
        served = Service(opened.enter_context(ThreadPoolExecutor(8)))
        with within():
            served.link = opened.enter_context(
                Link(
                    "machine",
                    resolve=lambda deadline: resolve(),
                    prepare=served.prepare,
                    ask=None,
                    on_event=served.hear,
                    deadline=Deadline(PATIENCE_SECONDS),
                )
            )
        forward = opened.enter_context(
            LocalForward(listen(0), lambda sink: served.link.open_stream("127.0.0.1", web_port, sink))
        )
        served.link.on_settled(forward.retry)
        served.port = forward.port
        served.get()
        yield served
