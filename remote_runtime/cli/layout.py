"""Text for a terminal of any width: lines end between words, never in the middle of one.  Pure."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

import click

NARROW = 60
"""Columns below which a list of terms has no room for long terms and their explanations side by side."""

LEAST = 20


def fold(text: str, width: int | None, *, hang: int = 2) -> str:
    """``text`` with lines of at most ``width`` columns (None: as they are), as far as no word is longer.

    What continues a line stands ``hang`` columns further in than it began.
    """
    if width is None:
        return text
    return "\n".join(_fold(line, max(width, LEAST), hang) for line in text.split("\n"))


def _fold(line: str, width: int, hang: int) -> str:
    if len(line) <= width:
        return line
    indent = len(line) - len(line.lstrip(" ")) + hang
    return _fill(line, width, after=" " * min(indent, width // 2))


def _fill(text: str, width: int, *, before: str = "", after: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=before,
        subsequent_indent=after,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines with the cells of ``rows`` below each other; the first row is their headings.

    Where that is wider than ``width`` each of the others becomes a few lines of its own.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    if width is None or max(map(len, lines)) <= width:
        return lines
    header, *records = rows
    name = max(map(len, header[1:])) + 2
    return [line for record in records for line in _card(header, record, name)]


def _card(header: Sequence[str], record: Sequence[str], name: int) -> list[str]:
    rest = zip(header[1:], record[1:], strict=True)
    return [record[0], *(f"  {heading.lower():<{name}}{cell}" for heading, cell in rest)]


class Formatter(click.HelpFormatter):
    """Click's, but for terminals narrower than it likes, and with whole words."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        super().__init__(indent_increment, width, max_width)
        if width is None:
            self.width = max(min(shutil.get_terminal_size().columns, max_width or 80) - 2, LEAST)

    def write_text(self, text: str) -> None:
        """See click; a paragraph that starts with a backspace keeps its lines, unless they are too long."""
        indent = " " * self.current_indent
        blocks = []
        for block in text.split("\n\n"):
            if block.startswith("\b"):
                blocks.append("\n".join(fold(indent + line, self.width) for line in block.splitlines()[1:]))
            else:
                blocks.append(_fill(" ".join(block.split()), self.width, before=indent, after=indent))
        self.write("\n\n".join(blocks) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """See click; where there is little room, the explanation of a longer term stands below it."""
        rows = list(rows)
        most = self.width // 4 if self.width < NARROW else col_max
        column = self.current_indent + min(max(len(term) for term, _ in rows), most) + col_spacing
        for term, text in rows:
            head = " " * self.current_indent + term
            if len(head) > column - col_spacing:
                self.write(head + "\n")
                head = ""
            self.write(_fill(text, self.width, before=head.ljust(column), after=" " * column) + "\n")


class Context(click.Context):
    """Click's, with our formatter."""

    formatter_class = Formatter
