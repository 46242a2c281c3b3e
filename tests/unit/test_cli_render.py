"""The story of a connect as a person sees it, told to a screen that only keeps it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from remote_runtime.cli.render import LivingLine, Narrator, duration
from remote_runtime.cli.terminal import Style
from remote_runtime.events import LinkChanged, LinkState, Notice, StepDone, StepFailed, StepProgress, StepStarted


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Paper:
    """A screen of which one can read what was drawn."""

    def __init__(self, *, lives: bool) -> None:
        self.lives = lives
        self.lines: list[str] = []
        self._living: LivingLine | None = None

    def line(self, text: str, style: Style) -> None:
        self.lines.append(text)

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        self.lines += [f"{name}: {text}" for name, text in rows]

    def living(self, text: LivingLine | None) -> None:
        self._living = text

    def bottom(self) -> str | None:
        return self._living() if self._living else None


def test_a_living_step_counts_and_becomes_one_line() -> None:
    paper, clock = Paper(lives=True), Clock()
    narrator = Narrator(paper, clock=clock)
    narrator(StepStarted("ssh", "Logging in to trainer"))
    clock.now += 3.14
    assert (paper.bottom(), paper.lines) == ("Logging in to trainer  3.1 s", [])
    narrator(StepProgress("ssh", "trying a key"))
    assert paper.bottom() == "Logging in to trainer  3.1 s  trying a key"
    narrator(StepDone("ssh", 4.2))
    assert (paper.bottom(), paper.lines) == (None, ["✓ Logging in to trainer  4.2 s"])


def test_a_plain_screen_gets_lines_only() -> None:
    paper = Paper(lives=False)
    narrator = Narrator(paper)
    narrator(StepStarted("server", "Preparing Jupyter"))
    narrator(StepProgress("server", "Installing"))
    narrator(StepFailed("server", 12.3, "guest_failed"))
    assert paper.lines == ["· Preparing Jupyter", "    Installing", "✗ Preparing Jupyter  12 s"]


def test_steps_within_steps_show_the_innermost() -> None:
    paper = Paper(lives=True)
    narrator = Narrator(paper, clock=Clock())
    narrator(StepStarted("instance", "Finding it"))
    narrator(StepStarted("machine", "Making it"))
    assert paper.bottom() == "Making it  0.0 s"
    narrator(StepDone("machine", 1))
    assert paper.bottom() == "Finding it  0.0 s"


def test_brief_tells_no_steps_but_notices() -> None:
    for lives in (True, False):
        paper = Paper(lives=lives)
        narrator = Narrator(paper, brief=True, clock=Clock())
        narrator(StepStarted("ssh", "Logging in"))
        assert not lives or paper.bottom() == "Logging in  0.0 s"
        narrator(StepProgress("ssh", "x"))
        narrator(Notice("n", "By the way", "warning"))
        narrator(StepDone("ssh", 1))
        assert paper.lines == ["! By the way"]


def test_an_outage_is_told_once_and_counted() -> None:
    paper, clock = Paper(lives=True), Clock()
    narrator = Narrator(paper, clock=clock)
    narrator(LinkChanged("connected"))
    assert paper.lines == []
    narrator(LinkChanged("reconnecting", "no sign of life for 9 s", 0.0))
    clock.now += 4
    narrator(LinkChanged("reconnecting", "refused", 3.0))
    clock.now += 1
    assert paper.bottom() == "Reconnecting  5.0 s, next attempt in 2 s (refused)"
    clock.now += 60
    narrator(LinkChanged("connected"))
    assert paper.bottom() is None
    assert paper.lines == [
        "! The connection was lost (no sign of life for 9 s); trying again",
        "✓ Connected again after 1 min 05 s",
    ]


def test_a_link_that_failed_or_closed_leaves_no_living_line() -> None:
    states: tuple[LinkState, ...] = ("failed", "closed")
    for state in states:
        paper = Paper(lives=True)
        narrator = Narrator(paper, clock=Clock())
        narrator(LinkChanged("reconnecting", "x", None))
        assert paper.bottom() == "Reconnecting  0.0 s (x)"
        narrator(LinkChanged(state))
        assert paper.bottom() is None


def test_much_progress_is_few_lines_unless_every_detail_is_wanted() -> None:
    for wordy, expected in ((False, 10), (True, 200)):
        paper, clock = Paper(lives=False), Clock()
        narrator = Narrator(paper, wordy=wordy, clock=clock)
        narrator(StepStarted("server", "Preparing Jupyter"))
        for number in range(200):
            narrator(StepProgress("server", f"Downloaded {number}"))
            clock.now += 0.1
        narrator(StepDone("server", 20.0))
        assert paper.lines[1] == "    Downloaded 0"
        assert len(paper.lines) == expected + 2


def test_words_from_elsewhere_are_harmless() -> None:
    paper = Paper(lives=False)
    narrator = Narrator(paper)
    narrator(StepStarted("a", "evil\x1b[2J\x07 title\nsecond"))
    narrator(StepProgress("a", "x" * 10_000_000))
    narrator(Notice("n", "\u202ereversed"))
    narrator(LinkChanged("reconnecting", "\x9bhidden"))
    assert all(line.isprintable() and len(line) < 400 for line in paper.lines)


def test_paused_and_closed_take_the_living_line_away() -> None:
    paper = Paper(lives=True)
    narrator = Narrator(paper, clock=Clock())
    narrator(StepStarted("ssh", "Logging in"))
    with narrator.paused():
        assert paper.bottom() is None
    assert paper.bottom() == "Logging in  0.0 s"
    narrator.close()
    assert paper.bottom() is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
