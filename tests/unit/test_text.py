"""Text from elsewhere is shown without what could act on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remote_runtime.text import printable, without_sequences


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Two \x1b[31mfactors\x1b[0m", "Two factors"),
        ("\x1b[1;38;5;200mbright\x1b[?25l", "bright"),
        ("\x9b31mred", "red"),
        ("a\x1b]0;a title\x07b", "ab"),
        ("see \x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\.", "see here."),
        ("a\x9d0;a title\x9cb", "ab"),
        ("a\x1bP1;2qpicture\x1b\\b", "ab"),
        ("\x1b(Bplain\x1b=\x1b7", "plain"),
        ("\x1b]0;a title without an end", "0;a title without an end"),
        ("one\r\n\ttwo\u2028three", "one two three"),
        ("a\u202eb\x00c\x1b", "abc"),
        ("Käse 猫", "Käse 猫"),
    ],
)
def test_what_is_left(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_it_is_cut_where_it_is_too_long() -> None:
    assert printable("x" * 20, 10) == "x" * 9 + "…"


NASTY = st.text(st.sampled_from("\x1b\x07\x9b\x9c\x9d[]\\;0mP \n\u202ea")) | st.text()


@given(NASTY, st.integers(1, 400))
@example("\x1b\x1b[31m[31m", 300)
def test_no_text_has_anything_that_acts(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(char).startswith("C") for char in shown)
    assert "\n" not in shown


@given(NASTY)
def test_text_without_sequences_is_left_alone(text: str) -> None:
    harmless = "".join(char for char in text if char.isprintable())
    assert without_sequences(harmless) == harmless
