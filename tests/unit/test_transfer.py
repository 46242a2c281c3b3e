"""Files and directories to a machine and back: whole, in place at once, and nothing that leads out of the tree."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import transfer
from remote_runtime._threads import Deadline
from remote_runtime.errors import GuestError, TransferError
from remote_runtime.guest import tree
from tests.jupyter.local import LocalShell


def put(machine: LocalShell, local: Path, remote: str = "~") -> str:
    return transfer.put(machine, local, remote, deadline=Deadline(30))


def get(machine: LocalShell, remote: str, local: Path) -> Path:
    return transfer.get(machine, remote, local, deadline=Deadline(30))


def project(top: Path) -> Path:
    """A directory with what directories may have."""
    (top / "src" / "empty").mkdir(parents=True)
    (top / "src" / "ünï code").write_text("x")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "secret").write_bytes(os.urandom(200_000))
    (top / "secret").chmod(0o600)
    (top / "nothing").touch()
    (top / "link").symlink_to("secret")
    (top / "src").chmod(0o750)
    return top


def content(top: Path) -> dict[str, tuple[int, bytes | None]]:
    """Mode and content of all that is in a directory, as somebody sees it who follows links."""
    return {
        str(path.relative_to(top)): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else None,
        )
        for path in [top, *top.rglob("*")]
    }


def test_a_file_goes_there_and_comes_back(machine: LocalShell, home: Path, tmp_path: Path) -> None:
    local = tmp_path / "model.bin"
    local.write_bytes(os.urandom(1_000_000))
    local.chmod(0o640)
    assert put(machine, local) == str(home / "model.bin")
    assert put(machine, local, "deep/er/copy.bin") == str(home / "deep/er/copy.bin")
    assert put(machine, local, "deep") == str(home / "deep/model.bin"), "into a directory that is there"
    assert put(machine, local, "new/") == str(home / "new/model.bin")
    assert put(machine, local, str(tmp_path / "elsewhere")) == str(tmp_path / "elsewhere")
    back = get(machine, "~/deep/er/copy.bin", tmp_path / "back.bin")
    assert back == tmp_path / "back.bin"
    assert (back.read_bytes(), stat.S_IMODE(back.stat().st_mode)) == (local.read_bytes(), 0o640)
    assert get(machine, "model.bin", tmp_path / "home") == tmp_path / "home" / "model.bin"


def test_a_directory_keeps_names_modes_and_contents(machine: LocalShell, home: Path, tmp_path: Path) -> None:
    local = project(tmp_path / "project")
    assert put(machine, local, "there") == str(home / "there")
    assert content(home / "there") == content(local)
    assert get(machine, "there", tmp_path / "back") == tmp_path / "back"
    assert content(tmp_path / "back") == content(local)


def test_to_a_directory_that_exists_files_are_added(machine: LocalShell, home: Path, tmp_path: Path) -> None:
    local = project(tmp_path / "project")
    (home / "there" / "src").mkdir(parents=True, mode=0o711)
    (home / "there" / "own").write_text("stays")
    (home / "there" / "run.sh").write_text("old")
    assert put(machine, local, "there") == str(home / "there")
    assert (home / "there" / "own").read_text() == "stays"
    assert (home / "there" / "run.sh").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((home / "there" / "src").stat().st_mode) == 0o711
    assert (home / "there" / "src" / "empty").is_dir()
    assert sorted(path.name for path in home.iterdir()) == [".remote-runtime", "there"], "no scraps"


@pytest.mark.parametrize(
    "name", ["本" * 85, "x" * 255, "é" * 127, "\udcff" * 200], ids=["three bytes each", "one", "two", "no text"]
)
def test_a_name_may_be_as_long_as_file_systems_take(machine: LocalShell, home: Path, tmp_path: Path, name: str) -> None:
    local = tmp_path / name
    local.write_text("content")
    put(machine, local)
    (tmp_path / "back").mkdir()
    assert get(machine, name, tmp_path / "back") == tmp_path / "back" / name
    assert (tmp_path / "back" / name).read_text() == (home / name).read_text() == "content"


def test_progress_is_told(machine: LocalShell, tmp_path: Path) -> None:
    local = tmp_path / "file"
    local.write_bytes(b"x" * 300_000)
    told: list[tuple[int, int]] = []
    transfer.put(machine, local, "file", on_progress=lambda *now: told.append(now), deadline=Deadline(30))
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (300_000, 300_000)
    told.clear()
    back = tmp_path / "back"
    transfer.get(machine, "file", back, on_progress=lambda *now: told.append(now), deadline=Deadline(30))
    assert told[-1] == (300_000, 300_000)


def test_what_is_not_there_is_said_and_nothing_is_left(machine: LocalShell, home: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="no-such-file: No such file"):
        put(machine, tmp_path / "no-such-file")
    with pytest.raises(GuestError, match="no-such-file on the VM: No such file") as caught:
        get(machine, "no-such-file", tmp_path / "back")
    assert caught.value.code == "transfer_failed"
    (home / "file").write_text("in the way")
    with pytest.raises(GuestError, match="Not a directory"):
        put(machine, project(tmp_path / "project"), "file")
    assert (home / "file").read_text() == "in the way"
    assert sorted(path.name for path in home.iterdir()) == [".remote-runtime", "file"]
    assert not (tmp_path / "back").exists()


def test_a_transfer_that_breaks_off_leaves_what_was_there(machine: LocalShell, home: Path, tmp_path: Path) -> None:
    local = tmp_path / "project"
    local.mkdir()
    (local / "a").write_bytes(b"new" * 100_000)
    os.mkfifo(local / "b")  # which can't be sent
    (home / "project").mkdir()
    (home / "project" / "a").write_text("old")
    with pytest.raises(TransferError, match="Neither a file nor a directory"):
        put(machine, local)
    assert [path.name for path in (home / "project").iterdir()] == ["a"]
    assert (home / "project" / "a").read_text() == "old"
    end = Deadline(10)
    while [path.name for path in home.iterdir() if path.name.endswith(".part")]:
        end.check("waiting for the VM to notice")


def test_a_link_that_leads_round_in_circles_is_refused(machine: LocalShell, tmp_path: Path) -> None:
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "about").symlink_to(tmp_path / "round")
    with pytest.raises(TransferError, match="leads back"):
        put(machine, tmp_path / "round")


class Liar:
    """A machine that sends these messages, whatever it is asked for."""

    def __init__(self, *messages: bytes) -> None:
        self.messages = messages

    def send(self, destination: str, name: str | None = None) -> tree.Receiver:
        receiver = tree.Receiver(destination, name)
        try:
            for message in self.messages:
                receiver.take(message)
        finally:
            receiver.close()
        return receiver


def head(name: str, *, directory: bool = True) -> bytes:
    return b"h" + json.dumps({"name": name, "directory": directory, "bytes": 1}).encode()


def entry(kind: bytes, path: object, mode: object = 0o644) -> bytes:
    return kind + json.dumps({"path": path, "mode": mode}).encode()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", ".", "..", "a/", 7, None, "nul\0"])
def test_a_path_that_leads_out_is_refused(path: object, tmp_path: Path) -> None:
    with pytest.raises(tree.BadTree):
        Liar(head("top"), entry(b"d", ""), entry(b"f", path), b"cx", b"e").send(str(tmp_path / "to"))
    assert list(tmp_path.iterdir()) == []


def test_the_machine_has_no_say_in_the_name_of_a_file_here(tmp_path: Path) -> None:
    messages = (head(".bashrc", directory=False), entry(b"f", ""), b"cx", b"e")
    receiver = Liar(*messages).send(f"{tmp_path}/", "data.csv")
    assert receiver.path == str(tmp_path / "data.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_a_machine_can_set_no_other_bits_than_those_of_rights(tmp_path: Path) -> None:
    Liar(head("x", directory=False), entry(b"f", "", 0o6755), b"e").send(str(tmp_path / "x"))
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755


MESSAGES = st.one_of(
    st.binary(max_size=20),
    st.builds(head, st.text(max_size=5), directory=st.booleans()),
    st.builds(entry, st.sampled_from([b"d", b"f"]), st.sampled_from(["", "a", "a/b", "..", "b"]), st.integers(0, 8191)),
    st.sampled_from([b"cxyz", b"e"]),
)


@given(st.lists(MESSAGES, max_size=8))
def test_whatever_comes_nothing_is_written_elsewhere_and_no_scrap_stays(messages: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch, "in")
        top.mkdir()
        complete = False
        try:
            complete = Liar(*messages).send(f"{top}/", "it").complete
        except (OSError, tree.BadTree):
            pass
        assert [path.name for path in Path(scratch).iterdir()] == ["in"]
        assert [path.name for path in top.iterdir()] == (["it"] if complete else [])


def test_packing_and_unpacking_are_inverse(tmp_path: Path) -> None:
    def messages() -> Iterator[bytes]:
        yield from tree.pack(str(project(tmp_path / "project")))

    Liar(*messages()).send(str(tmp_path / "copy"))
    assert content(tmp_path / "copy") == content(tmp_path / "project")
