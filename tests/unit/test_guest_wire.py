"""The guest's end of the wire, over a real pipe."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from remote_runtime.guest import loader
from remote_runtime.guest.loader import GuestFailure, read_block
from remote_runtime.guest.wire import LINE_LIMIT, Wire

NONCE = "0123456789abcdef"


class Out:
    """What was written to file descriptor 1."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def frames(self) -> list[dict[str, Any]]:
        lines = self._capfd.readouterr().out.splitlines()
        assert all(line.startswith(NONCE + " ") for line in lines)
        return [json.loads(line[len(NONCE) + 1 :]) for line in lines]


@pytest.fixture
def out(capfd: pytest.CaptureFixture[str]) -> Out:
    return Out(capfd)


def block(content: bytes) -> bytes:
    return b"%d\n%s" % (len(content), content)


def test_frames_are_lines_of_json(out: Out) -> None:
    wire = Wire(NONCE, io.BytesIO())
    wire.say("two\nlines")
    wire.output("stdout", "aGk=")
    wire.result({"a": 1})
    assert out.frames() == [
        {"type": "progress", "text": "two\nlines"},
        {"type": "output", "stream": "stdout", "data": "aGk="},
        {"type": "result", "value": {"a": 1}},
    ]


def test_secrets_are_masked_and_texts_bounded(out: Out) -> None:
    wire = Wire(NONCE, io.BytesIO())
    wire.keep_secret("")
    wire.keep_secret("s3cret")
    wire.say("token=s3cret")
    wire.error(GuestFailure("c", "s3cret " + "m" * 5000, "see s3cret", True, ["l"] * 100 + ["s3cret"]))
    said, error = out.frames()
    assert said["text"] == "token=..."
    assert error["message"].startswith("... mmm")
    assert len(error["message"]) == LINE_LIMIT
    assert (error["hint"], error["log"][-1], error["retryable"]) == ("see ...", "...", True)
    assert len(error["log"]) == 40


def test_a_host_that_went_away_does_not_stop_the_work() -> None:
    kept = os.dup(1)
    readable, writable = os.pipe()
    os.dup2(writable, 1)
    os.close(writable)
    os.close(readable)
    try:
        Wire(NONCE, io.BytesIO()).say("nobody listens")
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@pytest.mark.parametrize("content", [b"", b"x", b"one\ntwo\n", bytes(range(256))])
def test_a_block_is_its_length_and_its_bytes(content: bytes) -> None:
    stream = io.BytesIO(block(content) + b"rest")
    assert read_block(stream) == content
    assert stream.read() == b"rest"


@pytest.mark.parametrize("sent", [b"", b"10\nshort", b"garbage\n", b"-1\n", b"99999999999999999999999\n", b"\n"])
def test_input_that_ends_early_or_is_no_block(sent: bytes) -> None:
    with pytest.raises(GuestFailure) as caught:
        read_block(io.BytesIO(sent))
    assert caught.value.code == "guest_input_ended"


def header(*files: tuple[str, bytes]) -> bytes:
    listed = [{"name": name, "sha256": hashlib.sha256(content).hexdigest()} for name, content in files]
    return block(json.dumps({"files": listed}).encode())


def test_files_that_are_needed_arrive(tmp_path: Path, out: Out) -> None:
    sent = header(("a.whl", b"aaa"), ("../b.whl", b"")) + block(b"aaa") + block(b"")
    paths = Wire(NONCE, io.BytesIO(sent)).need("wheels", str(tmp_path), {"ui": "lab"})
    assert paths == [str(tmp_path / "a.whl"), str(tmp_path / "b.whl")]
    assert (tmp_path / "a.whl").read_bytes() == b"aaa"
    assert out.frames() == [{"type": "need", "what": "wheels", "ui": "lab"}]


def test_a_host_that_has_none_says_so(tmp_path: Path, out: Out) -> None:
    assert Wire(NONCE, io.BytesIO(block(b'{"files": null}'))).need("wheels", str(tmp_path), {}) is None
    assert out.frames()


def test_a_damaged_file_is_refused(tmp_path: Path, out: Out) -> None:
    sent = header(("a.whl", b"aaa")) + block(b"bbb")
    with pytest.raises(GuestFailure, match=r"a\.whl"):
        Wire(NONCE, io.BytesIO(sent)).need("wheels", str(tmp_path), {})
    assert not list(tmp_path.iterdir())
    assert out.frames()


def request(content: bytes) -> dict[str, str]:
    return {"nonce": NONCE, "guest": hashlib.sha256(content).hexdigest()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_program_is_asked_for_once(home: Path, out: Out) -> None:
    wanted = request(b"program")
    first = loader.obtain_program(wanted, io.BytesIO(block(b"program")))
    assert loader.obtain_program(wanted, io.BytesIO()) == first
    assert out.frames() == [{"type": "need", "what": "guest"}]
    assert Path(first).read_bytes() == b"program"
    assert Path(first).stat().st_mode & 0o777 == 0o600


def test_a_program_that_was_changed_is_replaced(home: Path, out: Out) -> None:
    wanted = request(b"program")
    path = Path(loader.obtain_program(wanted, io.BytesIO(block(b"program"))))
    path.write_bytes(b"other")
    loader.obtain_program(wanted, io.BytesIO(block(b"program")))
    assert path.read_bytes() == b"program"
    assert len(out.frames()) == 2


def test_a_program_that_arrives_damaged_is_not_kept(home: Path, out: Out) -> None:
    with pytest.raises(GuestFailure) as caught:
        loader.obtain_program(request(b"program"), io.BytesIO(block(b"profram")))
    assert caught.value.code == "guest_damaged"
    assert not list((home / ".remote-runtime" / "guest").iterdir())
    assert out.frames()


def test_the_programs_that_came_last_are_kept(home: Path, out: Out) -> None:
    for number in range(loader.KEPT_PROGRAMS + 2):
        content = b"%d" % number
        path = loader.obtain_program(request(content), io.BytesIO(block(content)))
        os.utime(path, (number, number))
    kept = sorted(entry.read_bytes() for entry in (home / ".remote-runtime" / "guest").iterdir())
    assert kept == [b"2", b"3", b"4", b"5"]
    assert out.frames()


@pytest.mark.parametrize("value", ["", "/nonexistent/home"])
def test_without_a_home_there_is_no_place(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HOME", value)
    with pytest.raises(GuestFailure) as caught:
        loader.obtain_program(request(b""), io.BytesIO())
    assert caught.value.code == "guest_no_home"
