"""Finding Pythons and asking what they have, among real files, scripts and shells."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest import plan, probe
from remote_runtime.guest.clock import Deadline
from remote_runtime.guest.plan import Found
from tests.pythons import python
from tests.tools import need


@pytest.mark.parametrize(
    ("head", "interpreter"),
    [
        (b"#!/opt/x/bin/python3.11\n# -*- coding: utf-8 -*-\n", "/opt/x/bin/python3.11"),
        (b"#!/opt/x/bin/python\r\nimport re", "/opt/x/bin/python"),
        (b"#!/bin/sh\n'''exec' \"/with space/bin/python\" \"$0\" \"$@\"\n' '''\n", "/with space/bin/python"),
        (b"#!/bin/sh\n'''exec' /very/long/bin/python3 \"$0\" \"$@\"\n' '''\n", "/very/long/bin/python3"),
        (b"#!/usr/bin/env bash\nset -e\n", ""),
        (b"#!/usr/bin/env python3\n", ""),
        (b"#!/bin/sh\nexec something\n", ""),
        (b"#!/bin/sh", ""),
        (b"\x7fELF\x02\x01", ""),
        (b"", ""),
        (b"#!python\n", ""),
    ],
)
def test_the_python_of_a_script(head: bytes, interpreter: str) -> None:
    assert probe.script_interpreter(head) == interpreter


@given(st.binary())
def test_no_script_breaks_the_reader(head: bytes) -> None:
    assert isinstance(probe.script_interpreter(b"#!" + head), str)


ANSWER = {"executable": "/x", "python_version": "3.11.2", "server": "2.14", "lab": "", "ipykernel": "6"}


def test_an_answer_after_noise() -> None:
    output = b"warning!\n" + json.dumps(ANSWER).encode() + b"\n"
    assert probe.parse_answer("p", output) == Found("p", "/x", "3.11.2", "2.14", "", "6")


@given(
    st.binary()
    | st.dictionaries(st.sampled_from([*ANSWER, "x"]), st.none() | st.integers()).map(lambda v: json.dumps(v).encode())
)
def test_no_answer_breaks_the_reader(output: bytes) -> None:
    assert probe.parse_answer("p", output) is None


def test_this_python_has_jupyter() -> None:
    found = probe.ask(sys.executable, Deadline(20))
    assert found
    assert found.executable == sys.executable
    assert found.python_version == ".".join(map(str, sys.version_info[:3]))
    assert found.server.startswith("2.")
    assert found.ipykernel


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.13"])
def test_every_python_3_can_be_asked(version: str) -> None:
    found = probe.ask(str(python(version)), Deadline(20))
    assert found
    assert found.python_version.startswith(version + ".")


@pytest.mark.parametrize("path", ["/nonexistent/python", "/bin/true", "/bin/false", "x\0y"])
def test_what_is_no_python_has_nothing(path: str) -> None:
    assert probe.ask(path, Deadline(20)) is None


def fake_python(path: Path, name: str, server: str = "2.14.0") -> Path:
    """A program that answers as a Python that has Jupyter would."""
    said = json.dumps({**ANSWER, "executable": name, "server": server})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return path


def fake_environment(path: Path, name: str) -> None:
    fake_python(path / "bin" / "python", name)
    (path / "lib" / "python3.11" / "site-packages" / "jupyter_server").mkdir(parents=True)
    (path / "lib" / "python3.11" / "site-packages" / "jupyter_server" / "__init__.py").touch()


def script(path: Path, interpreter: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{interpreter}\n")
    path.chmod(0o755)


class Vm:
    """A home and a PATH with nothing of this machine's but the shell's own commands."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.bin = root / "bin"
        for path in (self.home, self.bin):
            path.mkdir()
        for name in ("sh", "printenv"):
            (self.bin / name).symlink_to(shutil.which(name) or "")
        self.environ = {"HOME": str(self.home), "PATH": str(self.bin), "SHELL": "/bin/sh"}

    def find(self) -> str:
        found = next(filter(plan.usable, probe.find(self.environ, str(self.home), Deadline(20))), None)
        return found.executable if found else ""


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vm:
    monkeypatch.setattr(probe, "WELL_KNOWN", [place for place in probe.WELL_KNOWN if place.startswith("~/")])
    return Vm(tmp_path)


def test_nothing_is_found_where_nothing_is(vm: Vm) -> None:
    assert vm.find() == ""


def test_the_path_goes_first_and_its_jupyter_before_its_python(vm: Vm) -> None:
    fake_python(vm.bin / "python3", "of-path")
    fake_environment(vm.home / ".venv", "well-known")
    assert vm.find() == "of-path"
    script(vm.bin / "jupyter-server", fake_python(vm.home / "x" / "python", "of-script"))
    assert vm.find() == "of-script"


def test_a_python_without_jupyter_is_passed_over(vm: Vm) -> None:
    fake_python(vm.bin / "python3", "none", server="")
    fake_python(vm.bin / "python", "old", server="1.24.0")
    fake_environment(vm.home / "miniconda3", "well-known")
    assert vm.find() == "well-known"


def test_an_environment_without_jupyter_is_not_even_asked(vm: Vm) -> None:
    fake_python(vm.home / ".venv" / "bin" / "python", "asked")
    assert vm.find() == ""


def test_environments_below_a_directory_are_found(vm: Vm) -> None:
    fake_environment(vm.home / ".virtualenvs" / "work", "work")
    assert vm.find() == "work"


def test_a_login_shell_is_the_last_to_be_asked(vm: Vm) -> None:
    fake_python(vm.home / "tools" / "python3", "of-login")
    (vm.home / ".profile").write_text('echo Welcome!\nPATH="$HOME/tools:$PATH"\n')
    assert vm.find() == "of-login"
    fake_environment(vm.home / "venv", "well-known")
    assert vm.find() == "well-known"


@pytest.mark.parametrize(
    ("shell", "package", "profile", "content"),
    [
        ("sh", "dash", ".profile", "echo noise\nexport PATH=/from/profile:$PATH\n"),
        ("bash", "bash", ".bash_profile", "echo noise\nexport PATH=/from/profile:$PATH\n"),
        ("zsh", "zsh", ".zprofile", "echo noise\nexport PATH=/from/profile:$PATH\n"),
        ("tcsh", "tcsh", ".login", "echo noise\nsetenv PATH /from/profile:${PATH}\n"),
        ("csh", "tcsh", ".login", "echo noise\nsetenv PATH /from/profile:${PATH}\n"),
        (
            "fish",
            "fish",
            ".config/fish/config.fish",
            "echo noise\nstatus is-login; and set -gx PATH /from/profile $PATH\n",
        ),
    ],
)
def test_every_login_shell_tells_its_path(tmp_path: Path, shell: str, package: str, profile: str, content: str) -> None:
    path = tmp_path / profile
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": need(shell, package)}
    assert probe.login_path(environ, str(tmp_path), Deadline(20)).split(":")[0] == "/from/profile"


@pytest.mark.parametrize("shell", ["/bin/false", "/nonexistent", "/usr/sbin/nologin"])
def test_a_shell_that_tells_nothing(tmp_path: Path, shell: str) -> None:
    assert probe.login_path({"SHELL": shell}, str(tmp_path), Deadline(20)) == ""


def test_a_shell_that_hangs_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\nexec sleep 60\n")
    shell.chmod(0o755)
    assert probe.login_path({"SHELL": str(shell)}, str(tmp_path), Deadline(0.3)) == ""


def test_the_path_is_what_follows_the_last_mark() -> None:
    assert probe.parse_login_path(f"x\n{probe.MARK}\n/a:/b\n") == "/a:/b"
    assert probe.parse_login_path(f"{probe.MARK}\n/old\n{probe.MARK}\n/new\nlogout\n") == "/new"
    assert probe.parse_login_path("nothing") == ""


def test_where_a_wished_python_is(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin" / "python3.99", "x")
    environ = {"PATH": str(tmp_path / "bin")}
    assert probe.locate("~/e/bin/python", environ, "/h") == "/h/e/bin/python"
    assert probe.locate("e/bin/python", environ, "/h") == "/h/e/bin/python"
    assert probe.locate("/e/python", environ, "/h") == "/e/python"
    assert probe.locate("python3.99", environ, "/h") == str(tmp_path / "bin" / "python3.99")
    assert probe.locate("python3.98", environ, "/h") == "python3.98"
