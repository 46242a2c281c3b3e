"""`remote-runtime extension`: into a Jupyter that is there, and out of it again without a trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_runtime.extension import available
from remote_runtime.guest.wheel import build_wheel, extension_files
from remote_runtime.settings import Settings
from tests.cli.conftest import json_lines, run
from tests.jupyter.environments import Environment, borrowed_environment, read_switch
from tests.jupyter.packages import make_wheel

pytestmark = pytest.mark.usefixtures("settings")

NAME = "jupyter_http_over_ws"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return borrowed_environment(tmp_path / "venv")


def call(environment: Environment, verb: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """The result of a command for that environment; its other output must be in order."""
    ran = run("extension", verb, "--python", str(environment.python), "--json", *arguments, **variables)
    assert ran.returncode == 0, ran.stderr
    lines = json_lines(ran.stdout)
    assert ran.stderr == ""
    return lines[-1]


def failure(environment: Environment, verb: str, **variables: str) -> dict[str, Any]:
    ran = run("extension", verb, "--python", str(environment.python), "--json", **variables)
    assert ran.returncode == 1
    return json_lines(ran.stdout)[-1]


def test_in_and_out_without_a_trace(environment: Environment, settings: Settings) -> None:
    before = environment.inventory()
    status = call(environment, "status")
    assert (status["installed"], status["enabled"], status["available"]) == (None, False, available())
    installed = call(environment, "install")
    assert installed == {
        "event": "installed",
        "python": str(environment.python),
        "version": available(),
        "removed": [],
    }
    status = call(environment, "status")
    assert status["installed"] == available()
    assert (status["enabled"], status["shadowed_by"], status["other_copies"]) == (True, None, [])
    assert Path(status["directory"]) == environment.packages
    assert status["jupyter_server"] and status["tornado"] and status["notebook"] is None
    assert call(environment, "disable")["event"] == "disabled"
    assert (call(environment, "status")["enabled"], read_switch(environment)) == (False, False)
    assert call(environment, "enable")["version"] == available()
    assert (call(environment, "status")["enabled"], read_switch(environment)) == (True, True)
    assert call(environment, "uninstall")["removed"] == [available()]
    left = environment.inventory()
    assert {path: left.get(path) for path in before} == before
    assert not [path for path in left if "http_over_ws" in path]
    assert not [path for path in settings.home.rglob("*") if "jupyter" in str(path.relative_to(settings.home))]


def test_jupyters_own_command_works_on_it(environment: Environment) -> None:
    call(environment, "install")
    listed = environment.jupyter_extension("list")
    assert f"{NAME} enabled" in listed
    assert f"{NAME} {available()} OK" in listed
    environment.jupyter_extension("disable", NAME)
    assert call(environment, "status")["enabled"] is False
    environment.jupyter_extension("enable", "--py", NAME)
    assert call(environment, "status")["enabled"] is True
    environment.pip("uninstall", "--yes", NAME)
    assert not [path for path in environment.inventory() if "http_over_ws" in path]


def test_a_users_own_switch_counts_and_goes_too(environment: Environment, settings: Settings) -> None:
    user_first = {"JUPYTER_PREFER_ENV_PATH": "0"}
    call(environment, "install")
    own = settings.home / f".jupyter/jupyter_server_config.d/{NAME}.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps({"ServerApp": {"jpserver_extensions": {NAME: False}}}))
    assert call(environment, "status")["enabled"] is True  # in an environment its own file counts more
    assert call(environment, "status", **user_first)["enabled"] is False
    call(environment, "install", **user_first)
    assert call(environment, "status", **user_first)["enabled"] is True
    call(environment, "uninstall")
    assert not own.exists()


def test_a_switch_that_says_more_is_kept(environment: Environment, settings: Settings) -> None:
    call(environment, "install")
    own = settings.home / f".jupyter/jupyter_server_config.d/{NAME}.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps({"ServerApp": {"jpserver_extensions": {NAME: True, "another": True}}}))
    call(environment, "uninstall")
    assert own.exists()


def test_the_original_is_replaced_and_not_removed_by_mistake(environment: Environment, tmp_path: Path) -> None:
    original = make_wheel(tmp_path, NAME, "0.0.8")
    environment.pip("install", "--no-index", str(original))
    status = call(environment, "status")
    assert status["installed"] is None
    assert status["other_copies"] == [{"version": "0.0.8", "directory": str(environment.packages)}]
    assert call(environment, "uninstall")["removed"] == []
    assert call(environment, "status")["other_copies"]
    assert call(environment, "install")["removed"] == ["0.0.8"]
    status = call(environment, "status")
    assert (status["installed"], status["other_copies"]) == (available(), [])


def test_an_older_build_is_replaced(environment: Environment, tmp_path: Path) -> None:
    name, content = build_wheel({**extension_files(), "versions.py": b""})
    (tmp_path / name).write_bytes(content)
    environment.pip("install", "--no-index", "--no-deps", str(tmp_path / name))
    ran = run("extension", "status", "--python", str(environment.python))
    assert f"remote-runtime extension install brings {available()}" in ran.stdout
    call(environment, "install")
    assert call(environment, "status")["installed"] == available()


def test_a_damaged_one_is_mended(environment: Environment) -> None:
    call(environment, "install")
    (environment.packages / NAME / "server.py").unlink()
    call(environment, "install")
    assert (environment.packages / NAME / "server.py").exists()


def test_a_copy_in_the_way_is_told(environment: Environment, tmp_path: Path) -> None:
    first = tmp_path / "first"
    make_wheel(tmp_path, NAME, "0.0.8")
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", str(tmp_path / f"{NAME}-0.0.8-py3-none-any.whl"), str(first)],
        check=True,
    )
    call(environment, "install")
    status = call(environment, "status", PYTHONPATH=str(first))
    assert status["shadowed_by"] == str(first / f"{NAME}.py")
    assert (
        "In its way  " + str(first)
        in run("extension", "status", "--python", str(environment.python), PYTHONPATH=str(first)).stdout
    )
    error = failure(environment, "install", PYTHONPATH=str(first))
    assert error["code"] == "extension_shadowed"
    assert str(first) in error["message"] and "pip uninstall" in error["hint"]


def test_without_pip_uv_does_it_or_it_is_told(tmp_path: Path) -> None:
    environment = borrowed_environment(tmp_path / "venv", pip=False)
    error = failure(environment, "install", PATH="/usr/bin:/bin")
    assert error["code"] == "extension_no_installer"
    assert "ensurepip" in error["hint"]
    uv = pytest.importorskip("uv")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "uv").symlink_to(uv.find_uv_bin())
    before = environment.inventory()
    path = f"{programs}:/usr/bin:/bin"
    assert call(environment, "install", PATH=path)["version"] == available()
    assert call(environment, "status")["enabled"] is True
    call(environment, "uninstall", PATH=path)
    assert {name for name in environment.inventory() if "http_over_ws" in name} == set()
    assert before.items() <= environment.inventory().items()


def test_the_systems_own_python_is_left_alone(environment: Environment) -> None:
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    marker = Path(f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}/EXTERNALLY-MANAGED")
    if not (system.exists() and marker.exists()):
        pytest.skip(f"{system} may be changed by anybody")
    packages = f"{environment.root}-packages"
    environment.python = system
    error = failure(environment, "install", PYTHONPATH=packages)
    assert error["code"] == "extension_externally_managed"
    assert "--python" in error["hint"]


def test_a_python_without_jupyter_is_told(tmp_path: Path) -> None:
    bare = Environment(tmp_path / "bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare.root)], check=True)
    error = failure(bare, "install")
    assert error["code"] == "extension_no_jupyter"
    assert "no Jupyter server" in error["message"] and "jupyter_server" in error["hint"]
    for verb in ("enable", "disable"):
        error = failure(bare, verb)
        assert error["code"] == "extension_not_installed"
        assert f"extension install --python {bare.python}" in error["hint"]
    assert call(bare, "uninstall")["removed"] == []


def test_an_old_jupyter_is_told(tmp_path: Path) -> None:
    old = Environment(tmp_path / "old")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(old.root)], check=True)
    wheel = make_wheel(tmp_path, "notebook", "6.5.7")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(old.packages)], check=True)
    error = failure(old, "install")
    assert error["code"] == "extension_no_jupyter"
    assert "only notebook 6.5.7" in error["message"]


@pytest.mark.parametrize("what", ["no/such/python", "/bin/false", "/etc", "-x"])
def test_what_is_no_python_is_told(what: str) -> None:
    ran = run("extension", "status", "--json", f"--python={what}")
    assert ran.returncode == 1
    assert json_lines(ran.stdout)[-1]["code"] == "extension_no_python"


def test_the_python_is_the_one_of_jupyter_on_path(environment: Environment, tmp_path: Path) -> None:
    path = f"{environment.root / 'bin'}:/usr/bin:/bin"
    ran = run("extension", "status", PATH=path)
    assert f"{environment.python}" in ran.stdout
    assert f"Using {environment.python}, the one of {environment.root / 'bin' / 'jupyter'}\n" == ran.stderr
    (environment.root / "bin" / "jupyter").unlink()
    assert "the first on PATH" in run("extension", "status", PATH=path).stderr
    ran = run("extension", "status", "--json", PATH=str(tmp_path))
    assert (ran.returncode, json_lines(ran.stdout)[-1]["code"]) == (1, "extension_no_python")


def test_a_setting_for_connect_means_nothing_here(environment: Environment, settings: Settings) -> None:
    settings.config_dir.mkdir(parents=True)
    (settings.config_dir / "config.toml").write_text('python = "/no/such/python"\n')
    path = f"{environment.root / 'bin'}:/usr/bin:/bin"
    assert str(environment.python) in run("extension", "status", PATH=path, REMOTE_RUNTIME_PYTHON="/none").stdout


def test_people_are_told_in_words(environment: Environment) -> None:
    python = ("--python", str(environment.python))
    installed = run("extension", "install", *python)
    assert installed.stdout == ""
    assert f"✓ {available()} is installed, and enabled. Restart Jupyter to load it" in installed.stderr
    shown = run("extension", "status", *python).stdout
    assert f"Extension   {available()}, enabled\n" in shown
    assert "Other copy" not in shown and "In its way" not in shown
    assert "is disabled" in run("extension", "disable", *python).stderr
    assert "is enabled" in run("extension", "enable", *python).stderr
    assert f"{available()} is removed" in run("extension", "uninstall", *python).stderr
    assert "Nothing to remove" in run("extension", "uninstall", *python).stderr
    assert "Extension   not installed\n" in run("extension", "status", *python).stdout


def test_the_wheel_is_written(tmp_path: Path, environment: Environment) -> None:
    name, content = build_wheel(extension_files())
    ran = run("extension", "wheel", str(tmp_path / "new" / "directory"))
    assert (ran.returncode, ran.stderr) == (0, "")
    path = Path(ran.stdout.rstrip("\n"))
    assert path == tmp_path / "new" / "directory" / name
    assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == [name]
    [said] = json_lines(run("extension", "wheel", str(path.parent), "--json").stdout)
    assert said == {"wheel": str(path), "version": available()}
    environment.pip("install", "--no-index", "--no-deps", str(path))
    assert call(environment, "status")["enabled"] is True
    error = json_lines(run("extension", "wheel", str(path), "--json").stdout)[-1]
    assert error["code"] == "extension_wheel_unwritable"


def test_wrong_calls_are_told() -> None:
    ran = run("extension")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Commands:" in ran.stderr
    assert run("extension", "inst").returncode == 2
    assert run("extension", "wheel", "a", "b").returncode == 2


def test_time_is_bounded(tmp_path: Path) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    ran = run("extension", "status", "--python", str(slow), "--timeout", "0.5", "--json")
    assert ran.returncode == 1
    assert json_lines(ran.stdout)[-1]["code"] == "timeout"
