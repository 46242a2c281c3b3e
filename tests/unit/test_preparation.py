"""How far a machine's preparation is, by its state file, and waiting for it."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from remote_runtime.guest import loader, preparation, prepared, processes
from remote_runtime.guest.clock import Deadline
from remote_runtime.guest.console import Console
from remote_runtime.guest.loader import GuestFailure

NOW = 1_000_000.0


def said(**changes: Any) -> bytes:
    values = {"state": "running", "step": "Installing Jupyter", "log": [], "pid": 1, "started": "x", "updated": NOW}
    return json.dumps({**values, **changes}).encode()


def test_what_the_script_says_counts() -> None:
    assert preparation.parse(said(), NOW, gone=False) == ("running", "Installing Jupyter", ())
    assert preparation.parse(said(state="ready", step="Ready"), NOW + 9e9, gone=True) == ("ready", "Ready", ())
    assert preparation.parse(said(state="failed", log=["a", "b"]), NOW, gone=True).log == ("a", "b")


@pytest.mark.parametrize(("later", "gone"), [(0, True), (preparation.FRESH_SECONDS + 1, False)])
def test_a_script_that_fell_silent_has_failed(later: float, gone: bool) -> None:
    report = preparation.parse(said(), NOW + later, gone=gone)
    assert report.state == "failed"
    assert report.step == "Installing Jupyter"
    assert len(report.log) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 9999, said(state="x"), said(log=3), said(updated="soon"), b'{"state":1}'],
)
def test_nonsense_is_silence(content: bytes) -> None:
    assert preparation.parse(content, NOW, gone=False) == preparation.SILENT


class Told(Console):
    """Keeps what it is told, by kind."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.told: list[tuple[str, str]] = []

    def _send(self, kind: str, **fields: Any) -> None:
        self.told.append((fields.get("code", kind), fields["text"]))


@pytest.fixture
def state_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if os.getuid() != 0:
        pytest.skip("the state file is believed if it is root's")
    path = tmp_path / "preparation.json"
    monkeypatch.setattr(preparation, "STATE_FILE", str(path))
    monkeypatch.setattr(preparation, "CLOUD_INITS", str(tmp_path / "user-data"))
    monkeypatch.setattr(preparation, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(preparation, "APPEAR_SECONDS", 0.2)
    return path


def write(path: Path, **changes: Any) -> None:
    ours = {"pid": os.getpid(), "started": processes.started(os.getpid()), "updated": time.time()}
    path.with_suffix(".new").write_bytes(said(**{**ours, **changes}))
    path.with_suffix(".new").replace(path)


def test_steps_are_told_until_it_is_ready(state_file: Path) -> None:
    wire = Told()
    write(state_file, step="One")
    waiting = threading.Thread(target=preparation.await_end, args=(wire, Deadline(20)), kwargs={"expected": False})
    waiting.start()
    until(lambda: ("progress", "Preparing the VM: One") in wire.told)
    write(state_file, step="Two")
    until(lambda: ("progress", "Preparing the VM: Two") in wire.told)
    write(state_file, state="ready")
    waiting.join(20)
    assert not waiting.is_alive()
    assert len(wire.told) == 2


def test_a_failure_is_told_and_not_waited_for(state_file: Path) -> None:
    wire = Told()
    write(state_file, state="failed", log=["one", "two", "three", "four"])
    preparation.await_end(wire, Deadline(20), expected=False)
    ((code, text),) = wire.told
    assert code == "preparation_failed"
    assert "Installing Jupyter (two | three | four)" in text


def test_one_that_died_has_failed(state_file: Path) -> None:
    wire = Told()
    write(state_file, started="another boot/1")
    preparation.await_end(wire, Deadline(20), expected=True)
    assert [code for code, _ in wire.told] == ["preparation_failed"]
    assert "ended in the middle" in wire.told[0][1]


def test_silence_is_waited_for_only_where_it_is_odd(state_file: Path) -> None:
    wire = Told()
    preparation.await_end(wire, Deadline(20), expected=False)
    assert wire.told == []
    preparation.await_end(wire, Deadline(20), expected=True)
    assert [code for code, _ in wire.told] == ["progress", "preparation_silent"]


@pytest.mark.parametrize(
    ("uptime", "codes"),
    [
        ("239.90 400.00\n", ["progress", "preparation_silent"]),
        ("240.10 400.00\n", []),
        ("", []),
    ],
    ids=["just booted", "long ago", "unknown"],
)
def test_a_script_that_is_user_data_is_waited_for_after_a_boot(
    state_file: Path, monkeypatch: pytest.MonkeyPatch, uptime: str, codes: list[str]
) -> None:
    state_file.with_name("uptime").write_text(uptime)
    monkeypatch.setattr(preparation, "UPTIME_FILE", str(state_file.with_name("uptime")))
    for user_data, told in ((False, []), (True, codes)):
        if user_data:
            state_file.with_name("user-data").touch()
        wire = Told()
        preparation.await_end(wire, Deadline(20), expected=False)
        assert [code for code, _ in wire.told] == told


def test_the_uptime_is_the_systems() -> None:
    if not Path(preparation.UPTIME_FILE).exists():
        pytest.skip("this system has no such file")
    assert 0 < preparation._uptime() < float("inf")


def test_it_is_not_waited_for_longer_than_asked(state_file: Path) -> None:
    write(state_file)
    with pytest.raises(GuestFailure) as caught:
        preparation.await_end(Told(), Deadline(0.05), expected=False)
    assert caught.value.code == "preparation_running"
    assert caught.value.retryable


def test_a_state_file_that_is_no_file_is_not_believed(state_file: Path) -> None:
    write(state_file.with_name("other"), state="failed")
    state_file.symlink_to(state_file.with_name("other"))
    assert preparation.report() == preparation.SILENT
    state_file.unlink()
    os.mkfifo(state_file)
    assert preparation.report() == preparation.SILENT


def until(holds: Any) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- what was put there -----------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for /opt/remote-runtime."""
    if os.getuid() != 0:
        pytest.skip("what is prepared is root's")
    directory = tmp_path / "opt" / "remote-runtime"
    directory.mkdir(parents=True, mode=0o755)
    monkeypatch.setattr(loader, "PREPARED", str(directory))
    monkeypatch.setattr(prepared, "FACTS", str(directory / "prepared.json"))
    monkeypatch.setattr(prepared, "ENVIRONMENTS", str(directory / "env"))
    return directory


def test_parts_of_root_are_used(place: Path) -> None:
    assert prepared.facts() == {}
    assert prepared.environment() == ""
    (place / "prepared.json").write_text('{"extension": "e", "environment": "k"}')
    assert prepared.facts()["extension"] == "e"
    assert prepared.environment() == ""
    (place / "env" / "k").mkdir(parents=True, mode=0o755)
    assert prepared.environment() == str(place / "env" / "k")


@pytest.mark.parametrize(
    ("state", "codes"),
    [
        ("silent", []),
        ("ready", []),
        ("failed", ["preparation_failed"]),
        ("running", ["progress", "preparation_failed"]),
    ],
)
def test_what_an_earlier_boot_has_prepared_hides_no_failure(
    state_file: Path, place: Path, state: str, codes: list[str]
) -> None:
    """Only the beginning of the script is not waited for then: what it brings is there."""
    (place / "prepared.json").write_text('{"extension": "e", "environment": ""}')
    state_file.with_name("user-data").touch()
    wire = Told()
    if state != "silent":
        write(state_file, state=state, step="Starting the Jupyter server of ada", log=["why"])
    if state == "running":
        with pytest.raises(GuestFailure) as caught:
            preparation.await_end(wire, Deadline(0.05), expected=True)
        assert caught.value.code == "preparation_running"
        wire.told.clear()
        waiting = threading.Thread(target=preparation.await_end, args=(wire, Deadline(20)), kwargs={"expected": True})
        waiting.start()
        until(lambda: bool(wire.told))
        write(state_file, state="failed", step="Starting the Jupyter server of ada", log=["why"])
        waiting.join(20)
    else:
        preparation.await_end(wire, Deadline(20), expected=True)
    assert [code for code, _ in wire.told] == codes
    assert all("Starting the Jupyter server of ada" in text for _, text in wire.told)


@pytest.mark.parametrize("spoil", ["writable", "foreign", "link", "writable above"])
def test_parts_that_others_could_change_are_not(place: Path, spoil: str) -> None:
    file = place / "prepared.json"
    file.write_text("{}" if spoil == "link" else '{"extension": "e"}')
    if spoil == "writable":
        file.chmod(0o666)
    elif spoil == "foreign":
        os.chown(file, 64811, 64811)
    elif spoil == "link":
        file.rename(place / "other")
        file.symlink_to(place / "other")
    else:
        place.chmod(0o777)
    assert not loader.unalterable(str(file))
    assert prepared.facts() == {}


def test_the_program_is_taken_from_there_if_it_is_the_wanted_one(place: Path) -> None:
    import hashlib

    content = b"program"
    wanted = hashlib.sha256(content).hexdigest()
    path = place / "guest" / f"guest-{wanted}.pyz"
    assert loader.prepared_program(wanted) == ""
    path.parent.mkdir(mode=0o755)
    path.write_bytes(content)
    assert loader.prepared_program(wanted) == str(path)
    path.write_bytes(b"another")
    assert loader.prepared_program(wanted) == ""
