"""The living line, drawn by rich: imported only where there is a terminal to draw on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from remote_runtime.cli.render import LivingLine
from remote_runtime.cli.terminal import Style, Terminal, ascii_symbols

_STYLES = {"plain": "", "good": "green", "bad": "red", "warning": "yellow", "faint": "dim", "strong": "bold"}


class LiveScreen:
    """A terminal with a line at its bottom that is redrawn ten times a second; see :class:`render.Screen`."""

    lives = True

    def __init__(self, terminal: Terminal) -> None:
        self._unicode = terminal.unicode
        self._console = Console(
            file=cast(TextIO, _Forgiving(terminal)),
            force_terminal=True,
            no_color=not terminal.color,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._text: LivingLine = str
        self._spinner = Spinner("dots" if terminal.unicode else "line")

    def line(self, text: str, style: Style) -> None:
        """See :class:`render.Screen`."""
        self._console.print(Text(self._plain(text), style=_STYLES[style]))

    def living(self, text: LivingLine | None) -> None:
        """See :class:`render.Screen`."""
        if text is None:
            if self._live is not None:
                self._live.stop()  # draws it once more before it takes it away
                self._live = None
            return
        self._text = text
        if self._live is None:
            self._live = Live(
                get_renderable=self._draw,
                console=self._console,
                transient=True,
                refresh_per_second=10,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """See :class:`render.Screen`."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in rows:
            grid.add_row(Text(self._plain(name), style="bold"), Text(self._plain(text)))
        self._console.print(Padding(grid, (0, 0, 0, 2)))

    def _draw(self) -> Text:
        frame = cast(Text, self._spinner.render(self._console.get_time()))
        line = Text(no_wrap=True, overflow="ellipsis" if self._unicode else "crop")
        return line.append_text(frame).append(f" {self._plain(self._text())}")

    def _plain(self, text: str) -> str:
        return text if self._unicode else ascii_symbols(text)


class _Forgiving:
    """The terminal's stderr, which drops what it can't write: after a hang-up nobody reads it."""

    def __init__(self, terminal: Terminal) -> None:
        self._stream = terminal.stderr

    def write(self, text: str) -> int:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
