"""Sockets through Identity-Aware Proxy: no byte is lost whatever happens to the WebSocket, and nothing piles up."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.providers.gce import iap, iap_pump
from remote_runtime.providers.gce.iap_protocol import Session
from tests.gce.cloud.relay import CUTS, CutKind, Relay
from tests.gce.traffic import MIB, at_once, both_ways, drain, drain_all, exactly, flood, stuff

SECONDS = 20.0
SECRET = "ya29.secret-of-the-test"


@dataclass
class Bench:
    """A relay, and a socket for each session on its far side."""

    relay: Relay
    backends: list[socket.socket] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def dial(self) -> iap.Tunnel:
        return iap.dial(
            project="p",
            zone="z",
            instance="trainer",
            port=22,
            token=self._token,
            deadline=Deadline(SECONDS),
            endpoint=self.relay.url,
        )

    @property
    def backend(self) -> socket.socket:
        return self.backends[-1]

    def _token(self) -> str:
        self.tokens.append(f"{SECRET}-{len(self.tokens)}")
        return self.tokens[-1]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    backends: list[socket.socket] = []

    def reach(query: dict[str, str], token: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        backends.append(ours)
        return theirs

    with Relay(tmp_path, reach) as relay:
        for name, value in relay.environment().items():
            monkeypatch.setenv(name, value)
        yield Bench(relay, backends)
    for backend in backends:
        backend.close()
    assert relay.problems == []


def test_bytes_go_both_ways_until_the_owner_closes(bench: Bench) -> None:
    with bench.dial() as sock:
        sock.sendall(b"up")
        assert bench.backend.recv(9) == b"up"
        bench.backend.sendall(b"down")
        assert sock.recv(9) == b"down"
    assert bench.backend.recv(9) == b""
    assert bench.relay.requests == {"connect": 1}
    assert bench.relay.tokens == bench.tokens == [f"{SECRET}-0"]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if place > 1 else []) for place, kind in enumerate(CUTS)]
)
def test_twenty_cuts_lose_no_byte(bench: Bench, kind: CutKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iap_pump, "SILENT_SECONDS", 0.3)
    bench.relay.cut(kind, after=3 * MIB, times=20)
    with bench.dial() as sock:
        both_ways(sock, bench.backend, 64)
    assert bench.relay.cuts_made == {kind: 20}
    assert bench.relay.requests == {"connect": 1, "reconnect": 20}


@pytest.mark.parametrize("kind", [kind for kind in CUTS if kind != "silence"])
def test_a_cut_during_a_download_alone_is_mended(bench: Bench, kind: CutKind) -> None:
    """But for silence: nobody can tell it from a VM that has nothing to say."""
    bench.relay.cut(kind, after=MIB, times=5)
    with bench.dial() as sock:
        sent, got = at_once(lambda: flood(bench.backend, 8, 3), lambda: drain(sock, 8))
    assert got == sent
    assert bench.relay.cuts_made == {kind: 5}


def test_a_session_in_use_is_asked_for_again(bench: Bench) -> None:
    bench.relay.in_use = 3
    bench.relay.cut("reset", after=MIB)
    with bench.dial() as sock:
        both_ways(sock, bench.backend, 2)
    assert bench.relay.requests == {"connect": 1, "reconnect": 4}


def test_fresh_token_when_the_relay_wants_one_and_not_sooner(bench: Bench) -> None:
    bench.relay.cut("reset", after=MIB)
    bench.relay.cut("reauthenticate", after=2 * MIB)
    with bench.dial() as sock:
        both_ways(sock, bench.backend, 2)
    first, second = f"{SECRET}-0", f"{SECRET}-1"
    assert bench.relay.tokens == [first, first, second]


def test_old_token_that_is_refused_is_replaced(bench: Bench) -> None:
    with bench.dial() as sock:
        bench.relay.refuse(401)
        bench.relay.cut_now("reset")
        both_ways(sock, bench.backend, 1)
    assert len(bench.tokens) == 2


# -- nothing piles up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [MIB // 2, 1 << 30])
def test_owner_who_does_not_read_is_not_read_for(bench: Bench, window: int) -> None:
    """The relay may limit what it sends without confirmation, or not."""
    bench.relay.window = window
    with bench.dial() as sock:
        sent = stuff(bench.backend, limit=32 * MIB)
        (session,) = bench.relay.sessions.values()
        assert session.sent < 16 * MIB
        sock.sendall(b"still")  # the other direction is not held up
        assert bench.backend.recv(9) == b"still"
        bench.backend.shutdown(socket.SHUT_WR)
        assert drain_all(sock) == sent


def test_relay_that_confirms_nothing_is_not_flooded(bench: Bench) -> None:
    bench.relay.acknowledges = False
    got: list[bytes] = []
    with bench.dial() as sock:
        reader = threading.Thread(target=lambda: got.append(drain_all(bench.backend)))
        reader.start()
        sent = stuff(sock, limit=32 * MIB)
        assert len(sent) < 8 * MIB
        bench.backend.sendall(b"still")
        assert sock.recv(9) == b"still"
        bench.relay.acknowledges = True
        sock.sendall(b"last")
    reader.join()
    assert got == [sent + b"last"]


def spent(seconds: float) -> float:
    """The processor time of this process in that time."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


@pytest.mark.slow  # it judges by processor time
def test_nothing_is_busy_while_nothing_happens(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iap_pump, "SILENT_SECONDS", 60.0)
    with bench.dial() as sock:
        sock.sendall(b"up")
        assert bench.backend.recv(9) == b"up"
        idle = spent(1.0)
        stuff(bench.backend, limit=32 * MIB)
        unread = spent(1.0)
        bench.relay.acknowledges = False
        stuff(sock, limit=32 * MIB)
        unconfirmed = spent(1.0)
        bench.relay.cut_now("silence")
        sock.close()
    assert max(idle, unread, unconfirmed) < 0.2


@pytest.mark.slow  # it judges by processor time
def test_nothing_is_busy_while_the_line_is_blocked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a little to acknowledge, which has to wait its turn."""
    monkeypatch.setattr(iap_pump, "SILENT_SECONDS", 60.0)
    monkeypatch.setattr(iap_pump, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(iap_pump, "Session", partial(Session, limit=64 * MIB))
    with bench.dial() as sock:
        bench.backend.sendall(b"a little")
        assert sock.recv(9) == b"a little"
        bench.relay.cut_now("silence")
        assert len(stuff(sock, limit=60 * MIB)) < 60 * MIB
        time.sleep(0.5)
        assert spent(1.0) < 0.2


@pytest.mark.slow  # it judges by processor time
def test_nothing_is_busy_while_the_relay_is_gone(bench: Bench) -> None:
    """With more than 32 KiB received and not acknowledged, which is where gcloud's client turns and turns."""
    with bench.dial() as sock:
        bench.relay.refuse(503, times=100)
        bench.relay.cut("reset", after=MIB)
        sender = threading.Thread(target=flood, args=(bench.backend, 4, 5))
        sender.start()
        left = 4 * MIB
        while not bench.relay.cuts_made:
            left -= len(sock.recv(MIB))
        time.sleep(0.3)
        assert spent(1.5) < 0.4
        bench.relay.refusals.clear()
        exactly(sock, left)
        sender.join()


# -- ends ------------------------------------------------------------------------------------------------------------


def test_what_was_written_before_the_close_arrives(bench: Bench) -> None:
    def write_and_close() -> str:
        with sock:
            return flood(sock, 8, 6)

    sock = bench.dial()
    bench.backend.sendall(b"never read")
    sent, got = at_once(write_and_close, lambda: drain(bench.backend, 8))
    assert got == sent
    assert bench.backend.recv(9) == b""


def test_close_is_quick_whatever_the_relay_does(bench: Bench) -> None:
    with bench.dial() as sock:
        bench.relay.cut_now("silence")
        stuff(sock, limit=16 * MIB)
        before = time.monotonic()
    assert time.monotonic() - before < 5.0


def test_close_ends_the_attempts_to_come_back(bench: Bench) -> None:
    with bench.dial() as sock:
        bench.relay.refuse(503, times=100)
        bench.relay.cut_now("reset")
        sock.sendall(b"x")
        while bench.relay.requests["connect"] + len(bench.relay.refusals) == 101:
            time.sleep(0.01)
    assert bench.relay.refusals


def test_end_of_the_vm_comes_after_all_that_it_sent(bench: Bench) -> None:
    with bench.dial() as sock:
        with bench.backends.pop() as backend:
            sender = threading.Thread(target=flood, args=(backend, 1, 7))
            sender.start()
            got = exactly(sock, 3)
            sender.join(SECONDS)
        got += drain_all(sock)
    assert got == random.Random(7).randbytes(MIB)


def test_half_close_lets_the_answer_come(bench: Bench) -> None:
    with bench.dial() as sock:
        sent = flood(sock, 1, 8)
        sock.shutdown(socket.SHUT_WR)
        assert drain(bench.backend, 1) == sent
        bench.relay.cut_now("reset")
        answer = flood(bench.backend, 1, 9)
        assert drain(sock, 1) == answer


def test_shutdown_of_both_directions_ends_it(bench: Bench) -> None:
    with bench.dial() as sock:
        sock.shutdown(socket.SHUT_RDWR)
        assert bench.backend.recv(9) == b""


@pytest.mark.parametrize("code", [4001, 4010, 1000, 404])
def test_session_that_the_relay_gives_up_ends(bench: Bench, code: int) -> None:
    with bench.dial() as sock:
        bench.relay.refuse(code)
        bench.relay.cut_now("reset")
        sock.sendall(b"x")
        assert sock.recv(9) == b""


def test_relay_that_stays_away_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iap_pump, "RESUME_SECONDS", 1.0)
    with bench.dial() as sock:
        bench.relay.refuse(503, times=100)
        bench.relay.cut_now("reset")
        sock.sendall(b"x")
        assert sock.recv(9) == b""


def test_no_token_in_any_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.relay.cut("reset", after=MIB)
    with bench.dial() as sock:
        both_ways(sock, bench.backend, 2)
        assert SECRET not in repr(sock)
    assert SECRET not in caplog.text
