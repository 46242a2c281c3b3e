"""What a person sees, in a real terminal of 80 and of 40 columns."""

from __future__ import annotations

import re
from typing import Any

import pytest

from remote_runtime.settings import Settings
from tests.cli.conftest import InTerminal, run
from tests.openssh import Sshd

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


def lines(shown: str) -> list[str]:
    """The lines as written, without what moves the cursor or colours them."""
    return [
        line.rpartition("\r")[2] for line in ESCAPE.sub("", shown).replace("\r\n", "\n").replace("^C", "").split("\n")
    ]


@pytest.mark.parametrize("columns", [80, 40])
def test_a_connect_in_a_terminal(columns: int, trainer: Sshd) -> None:
    with InTerminal("connect", "--provider", "ssh", "trainer", "--port", "auto", columns=columns) as terminal:
        terminal.until("stop --provider" if columns == 80 else "To stop it")
        assert "Preparing Jupyter on trainer  " in terminal.shown  # with its time, while it runs
        terminal.type("\x03")
        assert terminal.ended() == 0
        shown = terminal.shown
    done = [line for line in lines(shown) if line.startswith("✓")]
    assert [re.sub(r"  [0-9.]+ s.*", "", line) for line in done][:3] == [
        "✓ Finding trainer",
        "✓ Logging in to trainer",
        "✓ Preparing Jupyter on trainer",
    ]
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is there again
    assert COLOUR.search(shown)
    frames = re.findall(r"\x1b\[2K(. Preparing[^\r\x1b]*)", shown)
    assert frames
    assert all(frame[0] in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" and len(frame) <= columns for frame in frames)
    own = [line for line in lines(shown) if not line.startswith("http")]
    assert all(len(line) <= columns for line in own), own
    assert "still runs" in shown
    assert run("stop", "trainer").returncode == 0


def test_a_terminal_gets_only_what_it_can_show(settings: Settings) -> None:
    cases: list[tuple[dict[str, Any], bool, bool]] = [
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"PYTHONIOENCODING": "ascii"}, False, True),
        ({"PYTHONIOENCODING": "ascii", "TERM": "dumb"}, True, True),
    ]
    for environment, clean, ascii_only in cases:
        with InTerminal("create", "--sandbox", **environment) as terminal:
            assert terminal.ended() == 0
            shown = terminal.shown
        assert ("+ " if ascii_only else "✓ ") + "Creating sandbox" in shown
        assert ("\x1b" not in shown) == clean
        assert shown.isascii() == ascii_only
        if "NO_COLOR" in environment:
            assert not COLOUR.search(shown)
        assert run("delete", "--sandbox", "-y").returncode == 0


def test_delete_asks_and_takes_no_for_an_answer(settings: Settings) -> None:
    assert run("create", "--sandbox").returncode == 0
    for key, status in (("n\r", 1), ("\r", 1), ("\x04", 1), ("\x03", 130), ("y\r", 0)):
        with InTerminal("delete", "--sandbox") as terminal:
            terminal.until("Delete sandbox (sandbox, ")
            terminal.type(key)
            assert terminal.ended() == status
            assert ("is deleted" in terminal.shown) == (status == 0)
    assert "sandbox" not in run("list").stdout
