"""Installing from an index of the test's own: real uv, real pip, one small package in place of Jupyter."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from remote_runtime.guest import child, install, installers, pins
from remote_runtime.guest.pipconf import PipConfig
from tests.jupyter.packages import (
    LocalIndex,
    bundled_pip,
    make_authority,
    make_uv_wheel,
    make_wheel,
    nowhere,
    serving,
    sha256,
)

SECONDS = 60.0


@pytest.fixture(scope="session")
def uv_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uv_wheel(tmp_path_factory.mktemp("uv"))


@pytest.fixture
def index() -> Iterator[LocalIndex]:
    with serving() as local:
        yield local


class Machine:
    """A machine with pip's configuration in the environment, whose lock is one small package."""

    def __init__(self, home: Path, uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.directory = home / "env" / "key"
        self.directory.parent.mkdir(parents=True)
        self.wheel = make_wheel(home)
        self.pip = bundled_pip()
        self.uv = uv
        self.said: list[str] = []
        self.needed: list[dict[str, Any]] = []
        self.sent: list[Path] = []
        self.monkeypatch = monkeypatch
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_", "SSL_", "XDG_")) or name.lower().endswith(("_proxy", "_ca_bundle")):
                monkeypatch.delenv(name)
        self.configure(CONFIG_FILE=os.devnull, RETRIES="0")
        monkeypatch.setenv("HOME", str(home))
        lock = f"rr-probe==1.0 --hash=sha256:{sha256(self.wheel)}\n".encode()
        resource = install._resource
        monkeypatch.setattr(install, "_resource", lambda name: lock if name.endswith(".txt") else resource(name))
        target = install.describe_target(sys.executable)
        key = (target["system"], target["machine"], target["libc"])
        monkeypatch.setattr(pins, "UV_WHEELS", {key: (uv.name, sha256(uv))})
        monkeypatch.setattr(pins, "PIP_WHEELS", (((3, 8), self.pip.name, sha256(self.pip)),))

    def evil_wheel(self) -> Path:
        """Another wheel with the same name."""
        place = self.home / "evil"
        place.mkdir()
        return make_wheel(place, body="def main():\n    print('evil')\n")

    def configure(self, **options: str) -> None:
        """Set ``PIP_*`` variables."""
        for name, value in options.items():
            self.monkeypatch.setenv("PIP_" + name, value)

    def build(self, *, seconds: float = SECONDS) -> str:
        python = install.build_environment(
            str(self.directory),
            python=sys.executable,
            ui="none",
            say=self.said.append,
            need=self._need,
            deadline_seconds=seconds,
        )
        assert python == str(self.directory / "bin" / "python")
        return python

    def fail(self, *, seconds: float = SECONDS) -> install.InstallError:
        """Build, which must not succeed and must leave nothing half-made."""
        with pytest.raises(install.InstallError) as caught:
            self.build(seconds=seconds)
        assert not self.directory.exists()
        assert [path.name for path in self.directory.parent.iterdir()] in ([], ["tools"])
        assert caught.value.hint
        return caught.value

    def _need(self, asked: dict[str, Any]) -> list[str] | None:
        self.needed.append(asked)
        if not self.sent:
            return None
        received = self.home / "received"
        received.mkdir()
        return [shutil.copy(path, received) for path in self.sent]


@pytest.fixture
def machine(tmp_path: Path, uv_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, uv_wheel, monkeypatch)


def works(machine: Machine, python: str) -> bool:
    """Whether the environment is whole at its place: the package imports, and its script finds its Python."""
    script = machine.directory / "bin" / "rr-probe"
    spoken = subprocess.run([script], capture_output=True, check=True).stdout
    imported = subprocess.run([python, "-I", "-c", "import rr_probe, sys; print(sys.prefix)"], capture_output=True)
    return spoken == b"probe runs\n" and imported.stdout.decode().strip() == str(machine.directory)


@pytest.mark.parametrize("html", [False, True], ids=["json", "html"])
def test_uv_installs_from_the_configured_index(machine: Machine, index: LocalIndex, html: bool) -> None:
    index.pages_in_html = html
    index.add(machine.uv, machine.wheel)
    machine.configure(INDEX_URL=index.url)
    assert works(machine, machine.build())
    assert any(line.startswith("Fetching uv") for line in machine.said)
    assert any(line.startswith("Installed 1 package") for line in machine.said)
    assert not any("pip" in path for path in index.asked)
    assert sorted(path.name for path in machine.directory.parent.iterdir()) == ["key", "tools"]
    assert "key.new-" not in (machine.directory / "bin" / "activate").read_text()


def test_uv_is_kept_for_the_next_time(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.wheel)
    machine.configure(INDEX_URL=index.url)
    machine.build()
    index.asked.clear()
    assert works(machine, machine.build())
    assert not any("uv" in path for path in index.asked)
    assert sorted(path.name for path in machine.directory.parent.iterdir()) == ["key", "tools"]


def test_packages_may_be_spread_over_extra_indexes_and_directories(
    machine: Machine, index: LocalIndex, tmp_path: Path
) -> None:
    index.add(machine.uv)
    links = tmp_path / "links"
    links.mkdir()
    shutil.copy(machine.wheel, links)
    with serving() as empty:
        machine.configure(INDEX_URL=empty.url, EXTRA_INDEX_URL=index.url, FIND_LINKS=str(links))
        assert works(machine, machine.build())


def test_a_directory_alone_is_enough(machine: Machine, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in (machine.uv, machine.wheel):
        shutil.copy(path, links)
    machine.configure(NO_INDEX="1", FIND_LINKS=str(links))
    assert works(machine, machine.build())


def test_pip_installs_where_uv_is_blocked(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.pip, machine.wheel)
    index.answers["/simple/uv/"] = 403
    machine.configure(INDEX_URL=index.url)
    assert works(machine, machine.build())
    assert any("403" in line and "pip" in line for line in machine.said)
    assert not machine.needed


def test_pip_installs_where_uv_does_not_run(machine: Machine, index: LocalIndex, tmp_path: Path) -> None:
    uv = tmp_path / "uv-0.0.2-py3-none-any.whl"
    with zipfile.ZipFile(uv, "w") as wheel:
        wheel.writestr("uv-0.0.2.data/scripts/uv", b"\x7fELF but for another machine")
    machine.monkeypatch.setattr(pins, "UV_WHEELS", {key: (uv.name, sha256(uv)) for key in pins.UV_WHEELS})
    index.add(uv, machine.pip, machine.wheel)
    machine.configure(INDEX_URL=index.url)
    assert works(machine, machine.build())


def test_the_pip_that_python_brings_serves_where_the_index_has_none(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.wheel)
    machine.configure(INDEX_URL=index.url)
    assert works(machine, machine.build())
    assert any("the pip that Python brings" in line for line in machine.said)


@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
def test_wheels_are_sent_where_nothing_can_be_reached(machine: Machine, with_uv: bool) -> None:
    machine.configure(INDEX_URL=nowhere())
    machine.sent = [machine.wheel, machine.pip, *([machine.uv] if with_uv else [])]
    assert works(machine, machine.build())
    (asked,) = machine.needed
    assert asked["ui"] == "none"
    assert asked["target"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_no_egress_and_no_wheels(machine: Machine) -> None:
    machine.configure(INDEX_URL=nowhere())
    error = machine.fail()
    assert error.code == "install_no_egress"
    assert "Connection refused" in error.message
    assert "none could be sent" in error.message


def test_a_changed_package_is_refused_for_good(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.pip, machine.wheel)
    index.tampered[machine.wheel.name] = machine.evil_wheel()
    machine.configure(INDEX_URL=index.url)
    error = machine.fail()
    assert error.code == "install_hash_mismatch"
    assert not machine.needed
    assert not any("pip" in path for path in index.asked)
    assert error.log


def test_a_changed_package_is_refused_by_pip_too(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.pip, machine.wheel)
    index.tampered[machine.wheel.name] = machine.evil_wheel()
    machine.configure(INDEX_URL=index.url)
    assert machine.fail().code == "install_hash_mismatch"


def test_a_changed_uv_is_never_run(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.pip, machine.wheel)
    index.tampered[machine.uv.name] = machine.evil_wheel()
    machine.configure(INDEX_URL=index.url)
    error = machine.fail()
    assert error.code == "install_hash_mismatch"
    assert machine.uv.name in error.message
    assert not machine.needed


def test_a_changed_wheel_that_was_sent_is_refused(machine: Machine) -> None:
    machine.configure(INDEX_URL=nowhere())
    machine.sent = [machine.evil_wheel(), machine.pip, machine.uv]
    assert machine.fail().code == "install_hash_mismatch"


def test_an_index_that_refuses(machine: Machine, index: LocalIndex) -> None:
    index.answers["/"] = 403
    machine.configure(INDEX_URL=index.url)
    error = machine.fail()
    assert error.code == "install_index_refused"
    assert "403" in error.message
    assert len(machine.needed) == 1


def test_an_index_without_the_package(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.pip)
    machine.configure(INDEX_URL=index.url)
    assert machine.fail().code == "install_package_missing"


def test_the_deadline_ends_everything(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.wheel)
    index.answers["/files/rr_probe"] = 0
    machine.configure(INDEX_URL=index.url)
    error = machine.fail(seconds=4)
    assert error.code == "install_timeout"
    assert not machine.needed


def test_a_silent_index_does_not_hold_longer_than_the_deadline(machine: Machine, index: LocalIndex) -> None:
    index.answers["/simple/uv"] = 0
    machine.configure(INDEX_URL=index.url)
    assert machine.fail(seconds=2).code == "install_timeout"


def test_a_password_in_the_index_url_is_used(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.wheel)
    index.account = "ada:s3cret"
    machine.configure(INDEX_URL=index.url.replace("://", "://ada:s3cret@"))
    assert works(machine, machine.build())
    assert any(line.startswith("Installed 1 package") for line in machine.said)
    assert "s3cret" not in "".join(machine.said)


def test_a_wrong_password_is_shown_to_nobody(machine: Machine, index: LocalIndex) -> None:
    index.add(machine.uv, machine.pip, machine.wheel)
    index.account = "ada:an0ther"
    machine.configure(INDEX_URL=index.url.replace("://", "://ada:s3cret@"))
    error = machine.fail()
    assert error.code == "install_index_refused"
    told = "\n".join((*machine.said, error.message, error.hint, *error.log))
    assert "401" in told
    assert "s3cret" not in told


def test_an_index_url_with_a_password_stays_out_of_argv(machine: Machine) -> None:
    config = PipConfig(indexes=("https://ada:s3cret@mirror/simple",))
    assert "s3cret" not in " ".join(installers.uv_install("uv", "python", ["r.txt"]))
    assert installers.uv_environment({}, config, "/c")["UV_DEFAULT_INDEX"] == config.indexes[0]


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    return make_authority(tmp_path)


def test_an_unknown_certificate_is_named_as_the_reason(
    machine: Machine, authority: tuple[Path, ssl.SSLContext]
) -> None:
    with serving(authority[1]) as index:
        index.add(machine.uv, machine.pip, machine.wheel)
        machine.configure(INDEX_URL=index.url)
        error = machine.fail()
    assert error.code == "install_certificate"
    assert "certificate" in error.message
    assert not index.asked


@pytest.mark.parametrize("way", ["uv", "pip"])
@pytest.mark.parametrize("trust", ["cert", "trusted-host"])
def test_certificate_and_trusted_host_are_followed(
    machine: Machine, authority: tuple[Path, ssl.SSLContext], trust: str, way: str
) -> None:
    with serving(authority[1]) as index:
        index.add(machine.pip, machine.wheel, *([machine.uv] if way == "uv" else []))
        machine.configure(INDEX_URL=index.url)
        machine.configure(**({"CERT": str(authority[0])} if trust == "cert" else {"TRUSTED_HOST": "localhost"}))
        assert works(machine, machine.build())
    assert any("uv" in path for path in index.asked if path.startswith("/files")) == (way == "uv")


@pytest.mark.parametrize("way", ["uv", "pip"])
def test_the_configured_proxy_is_used(machine: Machine, index: LocalIndex, way: str) -> None:
    index.add(machine.pip, machine.wheel, *([machine.uv] if way == "uv" else []))
    machine.configure(INDEX_URL="http://index.invalid/simple", PROXY=index.url.removesuffix("/simple"))
    machine.configure(TRUSTED_HOST="index.invalid")  # or pip would not go there without TLS
    assert works(machine, machine.build())
    assert any("uv" in path for path in index.asked if path.startswith("/files")) == (way == "uv")


def test_a_full_disk_is_named_as_the_reason(machine: Machine, index: LocalIndex) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    index.add(machine.uv, machine.pip, machine.wheel)
    machine.configure(INDEX_URL=index.url)
    with ExitStack() as opened:
        mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(machine.directory.parent)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("may not mount")
        opened.callback(subprocess.run, ["umount", str(machine.directory.parent)], check=True)
        error = machine.fail()
    assert error.code == "install_disk_full"
    assert not machine.needed


def test_what_a_killed_attempt_left_is_removed(machine: Machine, index: LocalIndex, tmp_path: Path) -> None:
    index.add(machine.uv, machine.wheel)
    machine.configure(INDEX_URL=index.url)
    index.answers["/files/rr_probe"] = 0
    code = (
        "import sys; from remote_runtime.guest import install\n"
        "lock = open(sys.argv[2], 'rb').read(); real = install._resource\n"
        "install._resource = lambda name: lock if name.endswith('.txt') else real(name)\n"
        "install.pins.UV_WHEELS = dict.fromkeys(install.pins.UV_WHEELS, (sys.argv[3], sys.argv[4]))\n"
        "install.build_environment(sys.argv[1], python=sys.executable, ui='none', need=lambda asked: None,\n"
        "    say=lambda text: print(text, flush=True), deadline_seconds=60)\n"
    )
    lock = tmp_path / "lock.txt"
    lock.write_bytes(install._resource("requirements.txt"))
    argv = [sys.executable, "-c", code, str(machine.directory), str(lock), machine.uv.name, sha256(machine.uv)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("Resolved 1 package" in line for line in process.stdout)
        victims = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for victim in victims:
            victim.kill()
    psutil.wait_procs(victims, 10)
    assert not machine.directory.exists()
    assert [path for path in machine.directory.parent.iterdir() if path.name.startswith("key.new-")]
    index.answers.clear()
    assert works(machine, machine.build())
    assert sorted(path.name for path in machine.directory.parent.iterdir()) == ["key", "tools"]


def test_a_link_in_the_way_is_removed_and_not_followed(machine: Machine, index: LocalIndex, tmp_path: Path) -> None:
    index.add(machine.uv, machine.wheel)
    machine.configure(INDEX_URL=index.url)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    machine.directory.symlink_to(precious)
    assert works(machine, machine.build())
    assert (precious / "file").exists()


def test_an_interpreter_that_does_not_run_is_named(machine: Machine, index: LocalIndex) -> None:
    machine.monkeypatch.setattr(sys, "executable", str(machine.home / "no-python"))
    error = machine.fail()
    assert error.code == "install_failed"
    assert "no-python" in error.message


def run_lines(code: str, *, seconds: float = 20, on_line: Callable[[str], None] | None = None) -> tuple[int, list[str]]:
    lines: list[str] = []
    status = child.run(
        [sys.executable, "-c", code],
        environ=os.environ,
        deadline=time.monotonic() + seconds,
        on_line=on_line or lines.append,
    )
    return status, lines


def test_lines_come_clean_and_whole() -> None:
    code = (
        r"import sys; sys.stdout.write('a\x1b[31mb\x1b[0m\r10%\r\n\n\x07c\u202e\n' + 'x' * 5000 + '\nend'); sys.exit(3)"
    )
    status, lines = run_lines(code)
    assert status == 3
    assert lines == ["ab", "10%", "c", "x" * child.LINE_LIMIT, "end"]


def test_a_late_program_is_killed_with_all_that_it_started() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    with pytest.raises(child.ChildTimeout):
        run_lines(code, seconds=1)


def test_an_error_in_the_listener_ends_the_program() -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError(line)

    with pytest.raises(BrokenPipeError):
        run_lines("import time; print(1, flush=True); time.sleep(600)", on_line=broken)
