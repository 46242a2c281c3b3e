"""A terminal of 40 columns: help, lists, states and errors keep within it, and no word is broken."""

from __future__ import annotations

import pytest

from remote_runtime.cli.app import COMMANDS
from remote_runtime.model import Remembered
from remote_runtime.settings import Settings
from remote_runtime.store import Store
from tests.cli.conftest import InTerminal, run
from tests.cli.test_terminal import lines

COLUMNS = 40


def shown(*arguments: str) -> str:
    with InTerminal(*arguments, columns=COLUMNS) as terminal:
        terminal.ended()
        return "\n".join(lines(terminal.shown))


def fits(text: str) -> bool:
    return all(len(line) <= COLUMNS or len(line.split()) == 1 for line in text.splitlines())


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    call = [*([command] if command else []), "--help"]
    narrow = shown(*call)
    assert fits(narrow), narrow
    assert narrow.split() == run(*call, COLUMNS="200").stdout.split()


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    "call",
    [
        ["connect"],
        ["conect"],
        ["connect", "a", "--provider", "ssh", "--allow-origin", "*"],
        ["status", "--sandbox"],
        ["url", "trainer"],
        ["list"],
    ],
)
def test_errors_and_remarks(call: list[str]) -> None:
    narrow = shown(*call)
    assert fits(narrow), narrow
    wide = run(*call)
    assert narrow.split() == f"{wide.stdout}{wide.stderr}".split()


def test_list_and_status(settings: Settings) -> None:
    assert run("create", "--sandbox").returncode == 0
    Store(settings.state_dir).save(Remembered("ada@gpu.example.com", "ssh", local_port=8888, token="t" * 32))
    narrow = shown("list")
    assert fits(narrow), narrow
    assert "ada@gpu.example.com\n  provider  ssh\n" in narrow
    assert "http://localhost:8888/" in narrow
    assert run("list").stdout.splitlines()[0].split() == ["NAME", "PROVIDER", "STATE", "URL", "PID"]
    narrow = shown("status", "--sandbox")
    assert fits(narrow), narrow
    assert "Machine     sandbox (sandbox): running" in narrow
    assert run("delete", "--sandbox", "-y").returncode == 0
