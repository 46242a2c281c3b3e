"""Text that fits a narrow terminal, whole words alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.cli import layout

WORDS = st.lists(st.text("abc-:/.", min_size=1, max_size=30), max_size=30).map(" ".join)
TEXTS = st.lists(st.tuples(st.integers(0, 8), WORDS).map(lambda line: " " * line[0] + line[1]), max_size=4)


@given(TEXTS, st.integers(1, 120), st.integers(0, 200))
def test_folded_lines_are_short_and_have_all_words(lines: list[str], width: int, hang: int) -> None:
    text = "\n".join(lines)
    folded = layout.fold(text, width, hang=hang)
    assert folded.split() == text.split()
    for line in folded.split("\n"):
        assert len(line) <= max(width, layout.LEAST) or len(line.split()) == 1
    assert layout.fold(text, None) == text


def test_what_continues_a_line_stands_further_in() -> None:
    assert layout.fold("  see whether the host is up", 20) == "  see whether the\n    host is up"
    assert layout.fold("short\n\nalso", 20) == "short\n\nalso"


ROWS = [("NAME", "STATE", "URL"), ("a", "connected", "http://localhost:8888/"), ("bb", "disconnected", "-")]


def test_a_table_becomes_records_where_it_is_too_wide() -> None:
    wide = [
        "NAME  STATE         URL",
        "a     connected     http://localhost:8888/",
        "bb    disconnected  -",
    ]
    assert layout.table(ROWS, None) == layout.table(ROWS, 42) == wide
    assert layout.table(ROWS, 41) == [
        "a",
        "  state  connected",
        "  url    http://localhost:8888/",
        "bb",
        "  state  disconnected",
        "  url    -",
    ]


@pytest.mark.parametrize("width", [24, 38, 98])
def test_terms_and_their_explanations(width: int) -> None:
    formatter = layout.Formatter(width=width)
    rows = [("-h", "Help, which is short."), ("--a-rather-long-option NAME", "What it does, in a few more words.")]
    with formatter.section("Options"):
        formatter.write_dl(rows)
    shown = formatter.getvalue()
    assert shown.split() == ["Options:", *" ".join(f"{term} {text}" for term, text in rows).split()]
    assert all(len(line) <= width or line.strip() == rows[1][0] for line in shown.splitlines())


def test_paragraphs_are_filled_and_marked_ones_keep_their_lines() -> None:
    formatter = layout.Formatter(width=30)
    formatter.write_text("One paragraph,\nwritten in two lines.\n\n\b\nExample:\n  a command\n  b")
    assert formatter.getvalue() == "One paragraph, written in two\nlines.\n\nExample:\n  a command\n  b\n"
