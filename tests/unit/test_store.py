"""What is remembered: private, whole or not at all, and held by one process at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.errors import AlreadyConnected, StateError
from remote_runtime.events import Event, Notice
from remote_runtime.machines import list_machines
from remote_runtime.model import Remembered
from remote_runtime.settings import Settings
from remote_runtime.store import Store, parse_remembered, private_directory, write_private

MACHINE = Remembered("trainer", "ssh", local_port=8890, token="abc", server_pid=5, settings={"target": "ada@host:22"})

HOLD = """
import sys
from pathlib import Path
from remote_runtime.store import Store
with Store(Path(sys.argv[1])).hold("ssh", "trainer"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


@contextmanager
def another_process_holds(store: Store) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", HOLD, str(store.state_dir)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_saved_is_loaded(store: Store) -> None:
    assert store.load("ssh", "trainer") is None
    assert store.names() == []
    store.save(MACHINE)
    assert store.load("ssh", "trainer") == MACHINE
    assert store.load("sandbox", "trainer") is None
    newer = Remembered("trainer", "ssh", local_port=9000)
    store.save(newer)
    assert store.load("ssh", "trainer") == newer


def test_machines_are_listed_by_name(store: Store) -> None:
    for name, provider in [("zeta", "ssh"), ("alpha", "ssh"), ("alpha", "sandbox")]:
        store.save(Remembered(name, provider))
    assert store.names() == [("sandbox", "alpha"), ("ssh", "alpha"), ("ssh", "zeta")]


def test_forgetting(store: Store) -> None:
    store.save(MACHINE)
    with store.hold("ssh", "trainer"):
        pass
    store.forget("ssh", "trainer")
    store.forget("ssh", "trainer")
    assert store.load("ssh", "trainer") is None
    assert store.names() == []


def test_a_machine_that_was_deleted_is_not_known_but_keeps_its_url(store: Store) -> None:
    store.mark("ssh", "trainer", deleted=True)
    assert store.load("ssh", "trainer") is None
    store.save(MACHINE)
    store.mark("ssh", "trainer", deleted=True)
    with store.hold("ssh", "trainer") as known:
        assert (known.url, known.deleted) == (MACHINE.url, True)
    assert store.names() == []
    assert store.load("ssh", "trainer") == dataclasses.replace(MACHINE, deleted=True)
    store.mark("ssh", "trainer", deleted=False)
    assert store.names() == [("ssh", "trainer")]
    assert store.load("ssh", "trainer") == MACHINE


def test_the_holder_is_noted_and_a_machine_that_got_no_token_is_forgotten(store: Store) -> None:
    with store.hold("ssh", "new") as known:
        assert known.host_pid == os.getpid()
        assert store.load("ssh", "new") == known
    assert store.load("ssh", "new") is None
    store.save(MACHINE)
    with store.hold("ssh", "trainer") as known:
        assert known == dataclasses.replace(MACHINE, host_pid=known.host_pid, host_started=known.host_started)
        assert known.host_started == pytest.approx(psutil.Process().create_time())
    assert store.load("ssh", "trainer") == dataclasses.replace(MACHINE, host_pid=0, host_started=0.0)


def test_only_this_user_can_read_it(store: Store) -> None:
    store.save(MACHINE)
    (path,) = store.state_dir.rglob("machine.json")
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


names = st.text(min_size=1, max_size=40) | st.sampled_from([".", "..", "a/b", "../../x", "ada@host:22", "[::1]:22"])


@given(st.lists(st.tuples(st.sampled_from(["ssh", "sandbox"]), names), unique=True, max_size=8))
def test_any_name_has_a_place_of_its_own_below_the_state(machines: list[tuple[str, str]]) -> None:
    from remote_runtime.store import _file_name, _parts

    files = [_file_name(provider, name) for provider, name in machines]
    assert len(set(files)) == len(files)
    assert [_parts(file) for file in files] == machines
    for file in files:
        assert file not in (".", "..")
        assert not set(file) & set('/\\:\0"<>|?*')


def test_a_machine_named_like_a_path_stays_below_the_state(store: Store) -> None:
    store.save(Remembered("../../../escaped", "ssh"))
    assert store.load("ssh", "../../../escaped") == Remembered("../../../escaped", "ssh")
    assert [path.name for path in store.state_dir.parent.iterdir()] == ["state"]


def test_a_reader_never_sees_half_a_file(store: Store) -> None:
    store.save(MACHINE)
    done = threading.Event()
    seen: list[Remembered | None] = []

    def read() -> None:
        while not done.is_set():
            seen.append(store.load("ssh", "trainer"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for port in range(1, 200):
            store.save(Remembered("trainer", "ssh", local_port=port, token="x" * 20_000))
    finally:
        done.set()
        reader.join(10)
    assert len(seen) > 1
    assert None not in seen, "the file was gone for a moment"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(StateError) as caught:
        write_private(taken, b"new")
    assert caught.value.code == "state_unusable"
    assert str(taken) in caught.value.message
    assert "REMOTE_RUNTIME_HOME" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_where_a_directory_must_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    store = Store(tmp_path / "state")
    for action in (
        lambda: store.save(MACHINE),
        lambda: store.load("ssh", "trainer"),
        lambda: private_directory(tmp_path / "state" / "x"),
    ):
        with pytest.raises(StateError):
            action()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"name"',
        b"{}",
        b'{"name": 1, "provider": "ssh"}',
        b'{"name": "x"}',
        b'{"name": "x", "provider": "ssh", "local_port": "8888"}',
        b'{"name": "x", "provider": "ssh", "settings": []}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(store: Store, content: bytes) -> None:
    path = store.directory("ssh", "x") / "machine.json"
    path.write_bytes(content)
    with pytest.raises(StateError) as caught:
        store.load("ssh", "x")
    assert caught.value.code == "state_damaged"
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert store.names() == [("ssh", "x")]
    store.mark("ssh", "x", deleted=True)
    assert path.read_bytes() == content


def test_a_damaged_file_does_not_hide_the_other_machines(settings: Settings) -> None:
    store = Store(settings.state_dir)
    for name in ("one", "two"):
        store.save(dataclasses.replace(MACHINE, name=name))
    path = store.directory("ssh", "one") / "machine.json"
    path.write_bytes(b"{")
    events: list[Event] = []
    assert [machine.name for machine in list_machines(settings, events.append)] == ["two"]
    [notice] = events
    assert isinstance(notice, Notice)
    assert (notice.code, notice.level) == ("state_damaged", "warning")
    assert str(path) in notice.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["name", "provider", "local_port", "token", "base_url", "server_pid", "host_pid", "host_started", "settings"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "new_in_another_version"]), json_values))
def test_anything_else_is_read_or_refused(values: dict[str, object]) -> None:
    try:
        machine = parse_remembered(json.dumps(values).encode())
    except ValueError:
        return
    assert isinstance(machine.name, str)
    assert isinstance(machine.provider, str)


@given(st.binary(max_size=50))
def test_any_bytes_are_refused_in_one_way(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse_remembered(content)


def test_a_newer_versions_fields_do_no_harm(store: Store) -> None:
    store.save(MACHINE)
    (path,) = store.state_dir.rglob("machine.json")
    values = {**json.loads(path.read_bytes()), "colour": "blue", "nested": {"deep": [1]}}
    path.write_text(json.dumps(values))
    assert store.load("ssh", "trainer") == MACHINE
    path.write_text(json.dumps({"name": "trainer", "provider": "ssh"}))
    assert store.load("ssh", "trainer") == Remembered("trainer", "ssh"), "and an older one's lack of fields neither"


def test_one_process_holds_a_machine(store: Store) -> None:
    store.save(Remembered("trainer", "ssh", local_port=8890, token="abc", host_pid=4711))
    assert not store.held("ssh", "trainer")
    with another_process_holds(store) as process:
        assert store.held("ssh", "trainer")
        with pytest.raises(AlreadyConnected) as caught, store.hold("ssh", "trainer"):
            pytest.fail("two hold it")
        assert caught.value.url == "http://localhost:8890/?token=abc"
        assert caught.value.pid == process.pid
        assert "abc" not in f"{caught.value} {caught.value.hint}"
        assert f"To end only that connection, end process {process.pid}" in caught.value.hint
        assert "to stop Jupyter too: remote-runtime stop trainer" in caught.value.hint
        with store.hold("ssh", "other"):
            pass
        assert process.stdin
        process.stdin.close()
        process.wait(10)
    with store.hold("ssh", "trainer"):
        assert store.held("ssh", "trainer")
    assert not store.held("ssh", "trainer")


def test_a_machine_that_is_still_connecting_has_no_url(store: Store) -> None:
    with another_process_holds(store), pytest.raises(AlreadyConnected) as caught, store.hold("ssh", "trainer"):
        pytest.fail("two hold it")
    assert caught.value.url == ""


def test_somebody_who_only_looks_does_not_keep_us_out(store: Store) -> None:
    looks = FileLock(store.directory("ssh", "trainer") / "lock", thread_local=False)
    looks.acquire()
    threading.Timer(0.05, looks.release).start()
    with store.hold("ssh", "trainer"):
        assert store.held("ssh", "trainer")


def test_a_killed_holder_leaves_nothing_to_clean_up(store: Store) -> None:
    with another_process_holds(store) as process:
        process.kill()
        process.wait(10)
        with store.hold("ssh", "trainer"):
            pass


def test_an_error_in_the_block_lets_go(store: Store) -> None:
    with pytest.raises(KeyError), store.hold("ssh", "trainer"):
        raise KeyError
    assert not store.held("ssh", "trainer")
