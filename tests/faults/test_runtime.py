"""A connected Runtime, its websockets and its kernels, when the connection or the machine's processes die."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import websocket

from remote_runtime import Runtime, Settings
from remote_runtime.events import Event, LinkChanged
from tests.jupyter.kernels import ask
from tests.jupyter.machine import Machine, machine_with_jupyter
from tests.jupyter.test_connect import get, join, run_cell, send
from tests.leaks import strays

CUTS = 5
WEBSOCKETS = 4
PATIENCE_SECONDS = 30.0
WORST_SECONDS = 5.0


@pytest.fixture
def runtime(user: Settings) -> Iterator[Runtime]:
    with join(user) as runtime:
        yield runtime


class Page:
    """A notebook page's websocket, which connects again whenever it was cut, as JupyterLab does; counts its answers."""

    def __init__(self, runtime: Runtime, kernel: str) -> None:
        self._url = f"ws://localhost:{runtime.port}/api/kernels/{kernel}/channels?token={runtime.token}"
        self._news = threading.Condition()
        self._leaving = False
        self._channel: websocket.WebSocket | None = None
        self.connects = 0
        self.answers = 0
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def until(self, *, connects: int) -> None:
        """Wait for an answer on the connection of that number, or on a later one."""
        with self._news:
            assert self._news.wait_for(lambda: self.connects >= connects and self.answers > 0, PATIENCE_SECONDS)

    def _live(self) -> None:
        while not self._leaving:
            channel = websocket.create_connection(self._url, timeout=PATIENCE_SECONDS)
            with self._news:
                self.connects += 1
                self.answers = 0
                self._channel = channel
            with suppress(ConnectionError, websocket.WebSocketConnectionClosedException):
                while not self._leaving:
                    self._ask(channel)
            channel.close()

    def _ask(self, channel: websocket.WebSocket) -> None:
        ask(channel)
        with self._news:
            self.answers += 1
            self._news.notify_all()

    def close(self) -> None:
        self._leaving = True
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


@contextmanager
def kernel_of(runtime: Runtime) -> Iterator[str]:
    kernel: str = send(runtime, "POST", "api/kernels", {"name": "python3"})["id"]
    yield kernel
    send(runtime, "DELETE", f"api/kernels/{kernel}")


def test_after_each_cut_requests_are_answered_websockets_are_back_and_the_kernel_knows_all(
    runtime: Runtime, machine: Machine
) -> None:
    server = runtime.server.pid
    waits = []
    with kernel_of(runtime) as kernel, ExitStack() as opened:
        run_cell(runtime, kernel, "kept = 42")
        pages = [Page(runtime, kernel) for _ in range(WEBSOCKETS)]
        for page in pages:
            opened.callback(page.close)
        for cut in range(1, CUTS + 1):
            for page in pages:
                page.until(connects=cut)
            assert machine.sshd.kill_connections() > 0
            began = time.monotonic()
            assert json.loads(get(runtime, "api/status"))
            waits.append(time.monotonic() - began)
        for page in pages:
            page.until(connects=CUTS + 1)
        [(_, shown)] = run_cell(runtime, kernel, "print(kept)")
        assert shown == "42\n"
    print(f"worst wait {max(waits):.2f} s, all {[round(wait, 2) for wait in waits]}")
    assert max(waits) < WORST_SECONDS
    assert runtime.server.pid == server
    assert runtime.state == "connected"


def test_every_process_of_the_machine_dies_and_the_url_stays(settings: Settings, tmp_path: Path) -> None:
    """As when a VM was reset: its SSH server comes back by itself, its Jupyter does not."""
    told: list[Event] = []
    with ExitStack() as opened:
        machine = opened.enter_context(machine_with_jupyter(tmp_path / "machine"))
        machine.introduce(settings.home)
        runtime = opened.enter_context(join(settings, on_event=told.append))
        url, server = runtime.url, runtime.server.pid
        send(runtime, "POST", "api/kernels", {"name": "python3"})

        machine.sshd.stop()
        doomed = strays(machine.sshd.files.directory)
        assert server in [process.pid for process in doomed]
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, PATIENCE_SECONDS)
        machine.sshd.start()

        began = time.monotonic()
        assert json.loads(get(runtime, "api/status"))["kernels"] == 0
        print(f"back after {time.monotonic() - began:.1f} s")
        assert runtime.url == url
        assert runtime.server.pid != server
    assert "failed" not in [event.state for event in told if isinstance(event, LinkChanged)]
