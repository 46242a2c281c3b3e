"""The SSH connection is cut again and again, and whoever comes then waits a moment instead of failing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.faults import web
from tests.faults.service import Service, service
from tests.openssh import Sshd

CUTS = 50
WORST_SECONDS = 5.0
"""A generous bound for busy machines; benchmarks/cuts.py measures the real figure."""


@pytest.fixture
def served(sshd: Sshd) -> Iterator[Service]:
    with web.web_server() as port, service(sshd.endpoint, port) as served:
        yield served


def test_after_each_of_50_cuts_a_new_request_is_answered(served: Service, sshd: Sshd) -> None:
    waits = []
    for _ in range(CUTS):
        assert sshd.kill_connections() > 0
        waits.append(served.get())
    print(f"worst wait {max(waits):.3f} s, median {sorted(waits)[CUTS // 2]:.3f} s")
    assert max(waits) < WORST_SECONDS
    assert served.prepared == CUTS + 1


def test_requests_that_come_at_the_moment_of_a_cut_are_all_answered(served: Service, sshd: Sshd) -> None:
    """Some find the old connection still there and are on their way when it goes: those may be cut, but never garbled
    or dropped silently; whoever comes after the cut is served."""
    outcomes: list[str] = []
    stop = threading.Event()

    def ask_again_and_again() -> None:
        while not stop.is_set():
            try:
                served.get(100_000)
                outcomes.append("answered")
            except ConnectionResetError:
                outcomes.append("reset")

    clients = [threading.Thread(target=ask_again_and_again) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(10):
        sshd.kill_connections()
        served.get()
    stop.set()
    for client in clients:
        client.join()
    print({outcome: outcomes.count(outcome) for outcome in set(outcomes)})
    assert set(outcomes) <= {"answered", "reset"}  # any other error would have ended its thread, and the test
    assert outcomes.count("reset") <= 4 * 10


def test_a_download_under_way_is_cut_by_a_reset_and_never_silently_truncated(served: Service, sshd: Sshd) -> None:
    for _ in range(3):
        with web.request(served.port, 1 << 32) as answer:
            got = answer.read(100_000)
            assert got == web.expected(len(got))
            sshd.kill_connections()
            with pytest.raises(ConnectionResetError):
                while answer.read(1 << 20):
                    pass
        served.get()


def test_a_client_that_was_told_all_before_the_cut_keeps_it(served: Service, sshd: Sshd) -> None:
    """An answer that had come whole is not spoilt by what happens later."""
    with web.request(served.port, 1000) as answer:
        assert answer.read(1000) == web.expected(1000)
        assert answer.read(1) == b""
        sshd.kill_connections()
        assert answer.read(1) == b""
    served.get()
