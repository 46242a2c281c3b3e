"""One program of ours at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from remote_runtime.guest import locks
from remote_runtime.guest.clock import Deadline
from remote_runtime.guest.loader import GuestFailure

HOLDER = """
import sys, time
from remote_runtime.guest import locks
from remote_runtime.guest.clock import Deadline
locks.lock_directories = lambda state: sys.argv[2:]
with locks.exclusive(sys.argv[1], Deadline(5), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = [str(tmp_path / "first"), str(tmp_path / "second")]
    monkeypatch.setattr(locks, "lock_directories", lambda state: found)
    return found


@pytest.fixture
def other(tmp_path: Path, places: list[str]):
    """Another process that holds the lock of ``tmp_path`` until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    said: list[str] = []
    timer = threading.Timer(0.3, other.stdin.close)  # type: ignore[union-attr]

    def say(text: str) -> None:
        said.append(text)
        timer.start()

    with locks.exclusive(str(tmp_path), Deadline(10), say):
        assert other.wait(5) == 0
    timer.join()
    assert said == ["Waiting for another connect to this machine to finish"]


def test_holder_that_removes_the_lock_and_its_place_lets_the_next_in(
    tmp_path: Path, other: subprocess.Popen[bytes], places: list[str]
) -> None:
    """As an uninstall does."""

    def say(text: str) -> None:
        shutil.rmtree(places[0])

    with locks.exclusive(str(tmp_path), Deadline(10), say) as lock:
        assert Path(lock).parent == Path(places[0])
    other.stdin.close()  # type: ignore[union-attr]
    assert other.wait(5) == 0


def test_the_wait_ends_at_the_deadline(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    with pytest.raises(GuestFailure) as caught, locks.exclusive(str(tmp_path), Deadline(0.3), str):
        pass
    assert caught.value.code == "guest_busy"
    assert caught.value.retryable
    assert time.monotonic() - begun < 5


def test_the_death_of_the_holder_frees_the_lock(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    other.kill()
    other.wait()
    with locks.exclusive(str(tmp_path), Deadline(5), str):
        pass


def test_two_homes_have_two_locks(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    with locks.exclusive(str(tmp_path / "elsewhere"), Deadline(0), str):
        pass


def test_a_lock_file_that_was_removed_does_not_let_two_in(tmp_path: Path, places: list[str]) -> None:
    with locks.exclusive(str(tmp_path), Deadline(5), str) as path:
        Path(path).unlink()
        with locks.exclusive(str(tmp_path), Deadline(5), str) as again:
            assert again == path
            with pytest.raises(GuestFailure), locks.exclusive(str(tmp_path), Deadline(0), str):
                pass


def test_a_place_that_somebody_else_made_is_passed_over(tmp_path: Path, places: list[str]) -> None:
    (tmp_path / "trap").mkdir()
    (tmp_path / "first").symlink_to(tmp_path / "trap")
    assert locks.lock_path("/x").startswith(places[1])
    assert not list((tmp_path / "trap").iterdir())


def test_without_any_safe_place_there_is_an_error(tmp_path: Path, places: list[str]) -> None:
    for place in places:
        Path(place).touch()
    with pytest.raises(GuestFailure, match="not a directory of this user"):
        locks.lock_path("/x")


def test_the_first_place_is_on_a_local_disk() -> None:
    first, second = locks.lock_directories("/home/ada/.remote-runtime")
    assert first == f"/tmp/remote-runtime-{os.geteuid()}"
    assert second == "/home/ada/.remote-runtime/locks"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_who_takes_our_place_does_not_come_between_a_boot_and_a_login() -> None:
    uid = 64819
    squatted, session = Path(f"/tmp/remote-runtime-{uid}"), Path(f"/run/user/{uid}")
    with tempfile.TemporaryDirectory(dir="/tmp") as state:
        Path(state).chmod(0o700)
        os.chown(state, uid, uid)
        squatted.mkdir()  # root's here, and so not ours
        os.seteuid(uid)
        try:
            at_boot = locks.lock_path(state)
            os.seteuid(0)
            session.mkdir(parents=True)
            os.chown(session, uid, uid)
            os.seteuid(uid)
            assert locks.lock_path(state) == at_boot
            assert at_boot.startswith(state)
        finally:
            os.seteuid(0)
            squatted.rmdir()
            if session.exists():
                session.rmdir()
