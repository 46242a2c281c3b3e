"""A laboratory network for tests, with an SSH server on its far machine.  Mark the tests that use it ``netns``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.netlab import Netlab, unavailable
from remote_runtime.model import Endpoint
from tests.openssh import Files, Option, Sshd, prepare

PATIENCE = 20.0
"""Seconds that a test on such a network waits for anything, before it calls it failed."""


@pytest.fixture
def netlab() -> Iterator[StartNetlab]:
    """Make any number of laboratories, which end with the test: ``lab = netlab(rtt_ms=40, mbit=100)``."""
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    with ExitStack() as opened:
        yield lambda **line: opened.enter_context(Netlab(**line))


@pytest.fixture
def far_sshd(netlab: StartNetlab, tmp_path: Path) -> Iterator[StartFarSshd]:
    """Start an SSH server on a laboratory's far machine, at port 22: ``far_sshd(lab, MaxSessions="1")``."""
    with ExitStack() as running:

        def start(lab: Netlab, **options: Option) -> FarSshd:
            directory = tmp_path / f"far-sshd-{len(list(tmp_path.glob('far-sshd-*')))}"
            server = FarSshd(prepare(directory, **{"ListenAddress": "0.0.0.0", **options}), lab)
            running.callback(server.files.show_log)
            running.callback(server.stop)
            return server

        yield start


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds at last, within ``PATIENCE`` seconds."""
    end = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


class StartNetlab(Protocol):
    """What the fixture ``netlab`` gives; the arguments are those of :class:`benchmarks.netlab.Netlab`."""

    def __call__(self, **line: Any) -> Netlab: ...


class StartFarSshd(Protocol):
    """What the fixture ``far_sshd`` gives; options are in sshd_config's spelling."""

    def __call__(self, lab: Netlab, **options: Option) -> FarSshd: ...


class FarSshd(Sshd):
    """A daemon on the far machine; its endpoint has the address of the moment, to be dialled from the near one."""

    def __init__(self, files: Files, lab: Netlab) -> None:
        self._lab = lab
        super().__init__(files, 22)

    def start(self) -> None:
        """Listen (again); returns when it does."""
        with self._lab.far.in_namespace():
            super().start()

    def endpoint(self, **changes: Any) -> Endpoint:
        """How to log in to it from the near machine, now; ``changes`` replace fields of the Endpoint."""
        return super().endpoint(**{"host": self._lab.far.address, **changes})
