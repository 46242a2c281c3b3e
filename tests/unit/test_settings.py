"""Options, environment and profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_runtime.errors import UsageError
from remote_runtime.settings import Settings


def profile(root: Path, text: str) -> Path:
    path = root / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(root: Path, **environ: str) -> Settings:
    return Settings.load({"HOME": str(root), "REMOTE_RUNTIME_HOME": str(root), **environ})


def test_one_variable_moves_all_directories(tmp_path: Path) -> None:
    settings = load(tmp_path)
    directories = {settings.state_dir, settings.config_dir, settings.cache_dir}
    assert len(directories) == 3
    assert all(directory.parent == tmp_path for directory in directories)
    assert not any(directory.exists() for directory in directories), "reading the settings writes nothing"


def test_a_relative_directory_does_not_follow_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load({"REMOTE_RUNTIME_HOME": "here"}).state_dir == tmp_path / "here" / "state"


def test_without_that_variable_the_platform_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_RUNTIME_HOME", raising=False)
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings.load()
    assert "remote-runtime" in str(settings.state_dir)
    for directory in (settings.state_dir, settings.config_dir, settings.cache_dir):
        assert tmp_path in directory.parents


def test_home_is_the_variable_and_only_without_it_the_account(tmp_path: Path) -> None:
    assert load(tmp_path).home == tmp_path
    assert Settings.load({"REMOTE_RUNTIME_HOME": str(tmp_path)}).home == Path.home()


def test_environment_before_profile_before_default(tmp_path: Path) -> None:
    profile(tmp_path, 'sandbox_server = "sshd"\nkernel_lease = 9999\n')
    settings = load(tmp_path, REMOTE_RUNTIME_SANDBOX_SERVER="paramiko", REMOTE_RUNTIME_IAP_ENDPOINT="")
    assert settings.option("sandbox_server", "auto") == "paramiko"
    assert settings.option("kernel_lease") == 9999
    assert settings.option("iap_endpoint", "usual") == "usual", "an empty variable says nothing"
    assert load(tmp_path / "elsewhere").option("kernel_lease") is None


def test_no_profile_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path).profile == {}


@pytest.mark.parametrize("text", ["provider = ", "[[", "\x00"])
def test_a_broken_profile_is_named(tmp_path: Path, text: str) -> None:
    path = profile(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(tmp_path)
    assert caught.value.code == "profile_unreadable"
    assert str(path) in caught.value.message
    assert caught.value.exit_status == 2


def test_a_profile_that_is_no_text_is_named(tmp_path: Path) -> None:
    profile(tmp_path, "").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="Can't read the profile"):
        load(tmp_path)


def test_a_profile_that_is_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "config" / "config.toml").mkdir(parents=True)
    with pytest.raises(UsageError, match="Can't read the profile"):
        load(tmp_path)


def test_the_environment_is_a_copy_and_not_shown(tmp_path: Path) -> None:
    environ = {"REMOTE_RUNTIME_HOME": str(tmp_path), "REMOTE_RUNTIME_KERNEL_LEASE": "5", "SECRET": "s3cr3t"}
    settings = Settings.load(environ)
    environ.clear()
    assert settings.option("kernel_lease") == "5"
    assert "s3cr3t" not in repr(settings)
