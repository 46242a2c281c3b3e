"""Our directories on the VM: private, real, and read with suspicion."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest import paths
from remote_runtime.guest.loader import GuestFailure, private_directory, read_private, write_private
from remote_runtime.guest.paths import State, parse_record

RECORD = {
    "pid": 4242,
    "started": "boot/17",
    "port": 8888,
    "base_url": "/",
    "root_dir": "/home/ada",
    "version": "2.14.0",
    "python": "/usr/bin/python3",
    "extension": "01234567",
    "environment": "",
    "options": {},
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_directory_is_made_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert mode(Path(private_directory(str(tmp_path / "new")))) == 0o700
    finally:
        os.umask(old)


def test_an_open_directory_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    private_directory(str(tmp_path / "open"))
    assert mode(tmp_path / "open") == 0o700


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_what_is_no_directory_of_ours_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state"
    if kind == "file":
        path.touch()
    else:
        target = tmp_path / "target"
        if kind == "link":
            target.mkdir()
        path.symlink_to(target)
    with pytest.raises(GuestFailure) as caught:
        private_directory(str(path))
    assert caught.value.code == "guest_state_unsafe"
    assert not list((tmp_path / "target").iterdir()) if kind == "link" else True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(GuestFailure, match="not a directory of this user"):
        private_directory(str(tmp_path / "theirs"))


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(str(path), b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_that_can_not_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError):
        write_private(str(tmp_path / "file"), b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_no_link_and_no_pipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    assert read_private(str(tmp_path / "real")) == b"secret"
    assert read_private(str(tmp_path / "link")) is None
    assert read_private(str(tmp_path / "pipe")) is None
    assert read_private(str(tmp_path / "absent")) is None


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(str(tmp_path), "m1")
    made.make()
    return made


def test_state_is_kept_per_machine(tmp_path: Path, state: State) -> None:
    other = State(str(tmp_path), "m2")
    other.make()
    state.write_token("a" * 48)
    state.write_record(RECORD)
    state.stopped = True
    assert (state.token(), state.record(), state.stopped) == ("a" * 48, RECORD, True)
    assert (other.token(), other.record(), other.stopped) == ("", {}, False)
    for path in tmp_path.rglob("*"):
        assert mode(path) == (0o700 if path.is_dir() else 0o600)


def test_the_mark_of_a_stopped_server_goes_away(state: State) -> None:
    state.stopped = True
    state.stopped = True
    state.stopped = False
    state.stopped = False
    assert not state.stopped


@pytest.mark.parametrize("content", ["", "short", "a" * 48 + "\n", "a b" * 20, "é" * 40])
def test_a_token_that_is_none(state: State, content: str) -> None:
    Path(state.token_file).write_text(content)
    assert state.token() == ""


def test_a_record_is_read_back() -> None:
    assert parse_record(json.dumps(RECORD).encode()) == RECORD


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "1"},
        {"pid": True},
        {"pid": 1},
        {"pid": -1},
        {"port": 0},
        {"port": 65536},
        {"started": ""},
        {"options": []},
        {"base_url": None},
    ],
)
def test_a_record_with_a_wrong_field_counts_as_none(change: dict[str, object]) -> None:
    assert parse_record(json.dumps({**RECORD, **change}).encode()) == {}


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)).map(
        lambda v: json.dumps(v).encode()
    )
)
def test_no_content_breaks_the_reader(content: bytes) -> None:
    assert parse_record(content) == {}


def test_very_deep_content_does_not_break_the_reader() -> None:
    assert parse_record(b"[" * 100_000) == {}


def test_the_machine_is_named_by_a_hash_of_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "id").write_text("0123456789abcdef\n")
    files = [str(tmp_path / name) for name in ("absent", "empty", "id")]
    monkeypatch.setattr(paths, "MACHINE_ID_FILES", files)
    key = paths.machine_key()
    assert len(key) == 16
    assert "0123456789abcdef" not in key
    assert key == paths.machine_key()
    monkeypatch.setattr(paths, "MACHINE_ID_FILES", files[:2])
    assert paths.machine_key() != key
