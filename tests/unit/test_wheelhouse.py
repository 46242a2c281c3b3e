"""Which wheels a machine needs, and how the host gets and keeps them."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from remote_runtime import wheelhouse, wheels
from remote_runtime._threads import Deadline
from remote_runtime.errors import GuestError, TimedOut
from remote_runtime.guest import install, pins, target
from remote_runtime.wheelhouse import needed, wheels_for
from remote_runtime.wheels import Locked, applies, best, marker_environment, parse_lock, platforms_of, tags_of
from tests.jupyter.packages import LocalIndex, make_wheel, serving

LINUX: dict[str, Any] = {
    "implementation": "cpython",
    "python": "3.11.2",
    "abi": "cp311",
    "system": "Linux",
    "machine": "x86_64",
    "libc": "glibc",
    "libc_version": "2.36",
    "macos": "",
}
MAC = {**LINUX, "system": "Darwin", "machine": "arm64", "libc": "", "libc_version": "", "macos": "14.5"}
ALPINE = {**LINUX, "libc": "musl", "libc_version": "1.2.4", "machine": "aarch64"}
LOCKS = "".join((files("remote_runtime.guest") / name).read_text() for name in install.LOCKS["lab"])


def locked(name: str = "pkg", version: str = "1.0") -> Locked:
    return Locked(name, version, None, frozenset())


@pytest.mark.parametrize(
    ("name", "value"),
    [("libc_version", "2.3000000"), ("python", "3.99999.1"), ("machine", "../x"), ("abi", None), ("macos", "9999999")],
)
def test_a_machine_that_says_nonsense_of_itself_is_not_believed(name: str, value: object) -> None:
    target = {"implementation": "cpython", "python": "3.11.2", "abi": "cp311", "system": "Linux", "machine": "x86_64"}
    target |= {"libc": "glibc", "libc_version": "2.36", "macos": ""}
    wheels.check_target(target)
    with pytest.raises(ValueError, match=name):
        wheels.check_target({**target, name: value})


def test_the_lock_is_read() -> None:
    first, second = "a" * 64, "b" * 64
    text = f"# note\nTwo_Words==1.0 \\\n    --hash=sha256:{first} \\\n    --hash=sha256:{second}\n    # via x\n"
    text += f"b==2 ; python_full_version < '3.9' --hash=sha256:{first}\n"
    one, two = parse_lock(text)
    assert (one.name, one.version, one.marker, one.hashes) == ("two-words", "1.0", None, {first, second})
    assert not applies(two, LINUX)
    assert applies(two, {**LINUX, "python": "3.8.18"})


@pytest.mark.parametrize("line", ["a==1", "a>=1 --hash=sha256:" + "a" * 64, "a==1 --hash=md5:00", "-e . --hash=x"])
def test_what_is_not_locked_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_lock(line)


def test_this_python_describes_itself_as_its_own_tools_see_it() -> None:
    described = target.describe()
    ranks = tags_of(described)
    assert set(ranks) == set(sys_tags())
    published = [tag for tag in dict.fromkeys(sys_tags()) if not tag.platform.startswith("linux_")]
    assert sorted(published, key=ranks.__getitem__) == published
    from packaging.markers import default_environment

    ours = marker_environment(described)
    free = ("platform_release", "platform_version")
    assert {name: value for name, value in default_environment().items() if name not in free} == {
        name: value for name, value in ours.items() if name not in free
    }
    assert install.describe_target(described["executable"]) == described


def test_platforms() -> None:
    assert platforms_of(LINUX)[:2] == ["manylinux_2_36_x86_64", "manylinux_2_35_x86_64"]
    assert platforms_of(LINUX)[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    assert platforms_of({**LINUX, "machine": "aarch64"})[-3:] == [
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
        "linux_aarch64",
    ]
    assert platforms_of(ALPINE) == [
        "musllinux_1_2_aarch64",
        "musllinux_1_1_aarch64",
        "musllinux_1_0_aarch64",
        "linux_aarch64",
    ]
    assert {"macosx_14_0_arm64", "macosx_11_0_universal2"} <= set(platforms_of(MAC))
    with pytest.raises(ValueError, match="FreeBSD"):
        platforms_of({**LINUX, "system": "FreeBSD"})


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        (LINUX, "pkg-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"),
        ({**LINUX, "libc_version": "2.17"}, "pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
        ({**LINUX, "python": "3.12.0", "abi": "cp312"}, "pkg-1.0-cp39-abi3-manylinux_2_28_x86_64.whl"),
        ({**LINUX, "python": "3.13.0", "abi": "cp313t"}, "pkg-1.0-py3-none-any.whl"),
        ({**LINUX, "python": "3.8.18", "abi": "cp38"}, "pkg-1.0-py3-none-any.whl"),
        ({**LINUX, "implementation": "pypy", "abi": "cp311"}, "pkg-1.0-py3-none-any.whl"),
        (MAC, "pkg-1.0-cp311-cp311-macosx_11_0_arm64.whl"),
        (ALPINE, "pkg-1.0-cp311-cp311-musllinux_1_2_aarch64.whl"),
    ],
)
def test_the_best_wheel(machine: dict[str, Any], wanted: str) -> None:
    offered = [
        "pkg-1.0-py3-none-any.whl",
        "pkg-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "pkg-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "pkg-1.0-cp39-abi3-manylinux_2_28_x86_64.whl",
        "pkg-1.0-cp311-cp311-macosx_11_0_arm64.whl",
        "pkg-1.0-cp311-cp311-musllinux_1_2_aarch64.whl",
        "pkg-2.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "other-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "pkg-1.0.tar.gz",
        "pkg-broken.whl",
    ]
    assert best(offered, locked(), tags_of(machine)) == wanted
    assert best(reversed(offered), locked(), tags_of(machine)) == wanted


def test_a_later_build_goes_first_and_none_may_fit() -> None:
    offered = ["pkg-1.0-1-py3-none-any.whl", "pkg-1.0-2-py3-none-any.whl"]
    assert best(offered, locked(), tags_of(LINUX)) == offered[1]
    assert best(["pkg-1.0-cp310-cp310-win_amd64.whl"], locked(), tags_of(LINUX)) is None


@pytest.mark.parametrize("minor", range(8, 15))
@pytest.mark.parametrize("machine", [LINUX, MAC], ids=["linux", "mac"])
def test_the_lock_holds_one_release_of_each_package_for_every_python(machine: dict[str, Any], minor: int) -> None:
    entries = [entry for entry in parse_lock(LOCKS) if applies(entry, {**machine, "python": f"3.{minor}.9"})]
    names = [entry.name for entry in entries]
    assert sorted(names) == sorted(set(names))
    assert {"jupyter-server", "ipykernel", "jupyterlab", "pip", "pyzmq", "tornado"} <= set(names)


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCKS
    assert "-url" not in LOCKS
    assert len(LOCKS) < 64 << 10, "it travels to every machine"


def test_the_pinned_pip_is_the_locked_one() -> None:
    hashes = {value for entry in parse_lock(LOCKS) if entry.name == "pip" for value in entry.hashes}
    assert hashes == {sha256 for _, _, sha256 in pins.PIP_WHEELS}


def test_uv_goes_along_where_there_is_one() -> None:
    assert [entry.version for entry in needed(LINUX, "none") if entry.name == "uv"] == [pins.UV_VERSION]
    assert not [entry for entry in needed({**LINUX, "machine": "riscv64"}, "none") if entry.name == "uv"]
    assert {entry.name for entry in needed(LINUX, "lab")} > {entry.name for entry in needed(LINUX, "none")}


class House:
    """Two small packages in place of the lock, an index that has them, and a cache."""

    def __init__(self, directory: Path, index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
        self.index = index
        self.cache = directory / "cache"
        self.said: list[str] = []
        self.wheels = [make_wheel(directory, name) for name in ("rr_one", "rr_two")]
        index.add(*self.wheels)
        self.lock(*self.wheels, monkeypatch=monkeypatch)
        for name in list(os.environ):
            if name.startswith("PIP_") or name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", index.url)

    def lock(self, *wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        entries = []
        for path in wheels:
            name, version, _, _ = parse_wheel_filename(path.name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            entries.append(Locked(name, str(version), None, frozenset({digest, "0" * 64})))
        monkeypatch.setattr(wheelhouse, "needed", lambda target, ui: entries)

    def get(self, *, seconds: float = 30) -> list[Path]:
        return wheels_for(LINUX, ui="none", cache_dir=self.cache, say=self.said.append, deadline=Deadline(seconds))

    def fail(self) -> GuestError:
        with pytest.raises(GuestError) as caught:
            self.get()
        assert caught.value.code == "wheels_unavailable"
        assert caught.value.hint
        assert not [path for path in self.cache.rglob("*") if path.is_file() and path.name.startswith(".")]
        return caught.value


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with serving() as index:
        yield House(tmp_path, index, monkeypatch)


def test_wheels_are_fetched_once(house: House) -> None:
    found = house.get()
    assert [path.name for path in found] == [path.name for path in house.wheels]
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in house.wheels]
    assert house.said == ["Fetching 2 wheels for the VM"]
    house.index.asked.clear()
    assert house.get() == found
    assert house.index.asked == []
    assert not [path for path in house.cache.rglob("*") if path.name.startswith(".")]


def test_a_damaged_wheel_is_fetched_again(house: House) -> None:
    first, second = house.get()
    first.write_bytes(b"half")
    house.index.asked.clear()
    assert house.get() == [first, second]
    assert first.read_bytes() == house.wheels[0].read_bytes()
    assert not any("rr_two" in path for path in house.index.asked)


def test_a_changed_wheel_is_not_kept(house: House, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    house.index.tampered[house.wheels[0].name] = make_wheel(evil, "rr_one", body="evil = 1\n")
    error = house.fail()
    assert "not the file that was locked" in error.message
    assert not error.retryable
    assert not list(house.cache.rglob("rr_one*"))


def test_an_unreachable_index_is_worth_another_try(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    error = house.fail()
    assert error.retryable
    assert "refused" in error.message


def test_a_package_that_the_index_lacks(house: House) -> None:
    del house.index.wheels[house.wheels[1].name]
    assert "rr-two" in house.fail().message


def test_no_wheel_for_that_python(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = house.wheels[0].rename(tmp_path / "rr_one-1.0-cp39-cp39-win_amd64.whl")
    house.index.wheels = {other.name: other}
    house.lock(other, monkeypatch=monkeypatch)
    assert "no wheel for its Python" in house.fail().message


def test_a_silent_index_ends_with_the_deadline(house: House) -> None:
    house.index.answers["/files/"] = 0
    ended = threading.Timer(10, house.index.ended.set)
    ended.start()
    try:
        with pytest.raises(TimedOut):
            house.get(seconds=1)
        assert not house.index.ended.is_set(), "it waited for the server"
    finally:
        ended.cancel()
        ended.join()


@pytest.mark.parametrize(
    "change", [{"python": "x"}, {"system": "Plan9"}, {"libc_version": None}, {"abi": "", "python": ""}]
)
def test_nonsense_from_the_machine_is_no_crash(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(GuestError) as caught:
        wheels_for({**LINUX, **change}, ui="none", cache_dir=tmp_path, say=print, deadline=Deadline(0))
    assert caught.value.code == "wheels_unavailable"


def test_uv_is_unpacked_whole_or_not(tmp_path: Path) -> None:
    from remote_runtime.guest.diagnosis import Failure
    from remote_runtime.guest.installers import unpacked_uv

    wheel = tmp_path / "uv-9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-9.data/scripts/uvx", b"other")
    with pytest.raises(Failure):
        unpacked_uv(str(wheel), str(tmp_path))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("uv-9.data/scripts/uv", b"#!/bin/sh\n")
    path = Path(unpacked_uv(str(wheel), str(tmp_path)))
    assert path.stat().st_mode & 0o777 == 0o700
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["uv", wheel.name]
