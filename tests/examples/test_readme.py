"""The Python in README.md runs, against a machine that goes by the name that it has there."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_runtime.settings import Settings
from tests.jupyter.machine import ALIAS, machine_with_jupyter
from tests.openssh import USER

README = Path(__file__).parents[2] / "README.md"
NAME = "gpu.example.com"
TRAINING = "open('work/model.bin', 'wb').write(b'trained'); print('trained')"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def ada(
    settings: Settings, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A person in a directory with a program, whose ssh_config knows the machine."""
    with machine_with_jupyter(tmp_path_factory.mktemp("machine") / "sshd") as machine:
        machine.introduce(settings.home)
        config = settings.home / ".ssh" / "config"
        config.write_text(config.read_text().replace(f"Host {ALIAS}", f"Host {NAME}"))
        (tmp_path / "train.py").write_text(TRAINING)
        monkeypatch.chdir(tmp_path)
        yield tmp_path


def as_here(text: str) -> str:
    """The text, with the account of this machine in place of ada's."""
    return text.replace(f"ada@{NAME}", f"{USER}@{NAME}")


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What the blocks share, as in one session."""
    names: dict[str, Any] = {}
    yield names
    if "runtime" in names:
        names["runtime"].close()


def test_the_python_of_the_readme_runs(ada: Path, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    programs = blocks("python")
    assert programs
    for program in programs:
        exec(compile(as_here(program), "README.md", "exec"), names)
    assert "0 trained" in capsys.readouterr().out
    assert (ada / "model.bin").read_bytes() == b"trained"
    sessions = blocks("pycon")
    assert sessions
    for session in sessions:
        test = doctest.DocTestParser().get_doctest(as_here(session), names, "README.md", "README.md", 0)
        said: list[str] = []
        outcome = doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
        assert outcome.failed == 0, "".join(said)
