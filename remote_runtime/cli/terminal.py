"""The three standard streams of this process: nothing else in the package writes or reads them."""

from __future__ import annotations

import errno
import getpass
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal, TextIO

from remote_runtime.cli.layout import fold
from remote_runtime.cli.signals import Received
from remote_runtime.errors import RemoteRuntimeError, UsageError
from remote_runtime.text import printable, without_sequences

Style = Literal["plain", "good", "bad", "warning", "faint", "strong"]
_SGR: Mapping[str, str] = {"good": "32", "bad": "31", "warning": "33", "faint": "2", "strong": "1"}
_FALLBACK = {"✓": "+", "✗": "x", "→": "->", "…": "...", "·": "-", "▾": ""}
USUAL_WIDTH = 80
_READER_IS_GONE = (errno.EPIPE, errno.EINVAL)  # Windows says EINVAL


class OutputClosed(Received):
    """Nobody reads our results any more: the end by SIGPIPE, on every system."""

    def __init__(self) -> None:
        super().__init__(int(getattr(signal, "SIGPIPE", 13)))

    @property
    def name(self) -> str:
        """``SIGPIPE``, which Windows does not have."""
        return "SIGPIPE"


class Terminal:
    """Where results go (``out``, stdout) and everything else (``err``, stderr), and whom to ask (``ask``).

    ``interactive``: a person can be asked.  ``living``: stderr is a terminal where a line can be redrawn.
    ``color``: it may have colours (there is no ``NO_COLOR``).  ``unicode``: its encoding has our symbols.
    ``out_width`` and ``err_width`` are their columns, None if they are no terminals.
    """

    def __init__(
        self, stdin: TextIO | None, stdout: TextIO | None, stderr: TextIO | None, environ: Mapping[str, str]
    ) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        seen = _is_terminal(stderr)
        self.interactive = seen and _is_terminal(stdin)
        self.living = seen and environ.get("TERM", "") not in ("dumb", "unknown")
        self.color = self.living and not environ.get("NO_COLOR")
        self.unicode = stderr is not None and _can_encode(stderr, "".join(_FALLBACK))
        self.out_width, self.err_width = _width(stdout, environ), _width(stderr, environ)
        self.closed = False
        self._writing = threading.Lock()

    @classmethod
    def standard(cls) -> Terminal:
        """This process's own streams, as they are now (any of them may be closed)."""
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ)

    def out(self, text: str) -> None:
        """Write a line of the result, at once.

        Raises :class:`OutputClosed` if nobody reads it any more (also later, when nothing can be written), and
        :class:`RemoteRuntimeError` (``output_failed``) for another failure, such as a full disk.
        """
        with self._results() as stdout:
            stdout.write(_encodable(stdout, text) + "\n")
            stdout.flush()

    def pass_on(self, stream: str, data: bytes) -> None:
        """Write ``data`` to ``stdout`` or ``stderr`` as it is, at once: it is what a command of the user's said.

        Raises as :meth:`out` does, for ``stdout`` alone.
        """
        if stream == "stdout":
            with self._results() as stdout:
                _write_bytes(stdout, data)
        elif self.stderr is not None:
            with suppress(OSError, ValueError):
                _write_bytes(self.stderr, data)

    @contextmanager
    def _results(self) -> Iterator[TextIO]:
        """The stream for results, for one write of one thread; see :meth:`out` for what it raises."""
        try:
            if self.stdout is None or self.closed:
                raise BrokenPipeError(errno.EPIPE, "closed")
            with self._writing:
                yield self.stdout
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self.closed = True
            _silence(self.stdout)
            if isinstance(error, OSError) and error.errno not in _READER_IS_GONE:
                raise RemoteRuntimeError(
                    f"Can't write to the standard output: {error.strerror}",
                    hint="Check where it is redirected to.",
                    code="output_failed",
                ) from error
            raise OutputClosed from None

    def err(self, text: str, style: Style = "plain", *, hang: int = 2) -> None:
        """Write a line for people, folded (see :func:`fold`) to what the terminal has room for.

        If they are gone it is dropped: that is no reason to fail.
        """
        if self.stderr is None:
            return
        if not self.unicode:
            text = ascii_symbols(text)
        text = fold(text, self.err_width, hang=hang)
        if self.color and style != "plain":
            text = f"\x1b[{_SGR[style]}m{text}\x1b[0m"
        with suppress(OSError, ValueError):
            self.stderr.write(_encodable(self.stderr, text) + "\n")
            self.stderr.flush()

    def read_all(self, limit: int) -> bytes:
        """The standard input to its end; nothing if there is none.

        Raises :class:`UsageError` (``input_too_long``) for more than ``limit`` bytes.
        """
        try:
            data = b"" if self.stdin is None else self.stdin.buffer.read(limit + 1)
        except (OSError, ValueError) as error:
            raise UsageError(f"Can't read the standard input: {error}", hint="Check where it comes from.") from error
        if len(data) > limit:
            raise UsageError(
                f"The standard input is longer than {limit >> 20} MiB",
                hint="Copy it to the machine as a file, and let the command read that.",
                code="input_too_long",
            )
        return data

    def ask(self, prompt: str, echo: bool) -> str:
        """The person's answer to ``prompt``, which may be the words of a server; without echo it is a secret.

        Raises :class:`RemoteRuntimeError` (``no_answer``) if the input ends.
        """
        *above, last = [printable(line) for line in prompt.splitlines()] or [""]
        for line in above:
            self.err(line)
        try:
            if self.stdin is None or self.stderr is None:
                raise EOFError
            last = f"{_encodable(self.stderr, last)} "
            if not echo:
                return getpass.getpass(last, stream=self.stderr)
            self.stderr.write(last)
            self.stderr.flush()
            answer = self.stdin.readline()
            if not answer:
                raise EOFError
            return answer.rstrip("\r\n")
        except (EOFError, OSError, ValueError) as error:  # ValueError: a stream was closed
            self.err("")
            raise RemoteRuntimeError(
                "The question was not answered", hint="Answer it, or call without a terminal.", code="no_answer"
            ) from error


def visible(line: str) -> str:
    """``line`` without escape sequences and control characters, its columns kept."""
    return "".join(filter(str.isprintable, without_sequences(line).expandtabs()))


def ascii_symbols(text: str) -> str:
    """``text`` with our own symbols in ASCII."""
    for symbol, plain in _FALLBACK.items():
        text = text.replace(symbol, plain)
    return text


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it was closed
        return False


def _width(stream: TextIO | None, environ: Mapping[str, str]) -> int | None:
    if stream is None or not _is_terminal(stream):
        return None
    if environ.get("COLUMNS", "").isdecimal():
        return int(environ["COLUMNS"]) or USUAL_WIDTH
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return USUAL_WIDTH


def _can_encode(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def _encodable(stream: TextIO, text: str) -> str:
    """``text`` with ``\\u...`` in place of what the stream's encoding lacks."""
    if _can_encode(stream, text):
        return text
    encoding = getattr(stream, "encoding", None) or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _write_bytes(stream: TextIO, data: bytes) -> None:
    stream.flush()
    stream.buffer.write(data)
    stream.buffer.flush()


def _silence(stream: TextIO | None) -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, stream.fileno())
            finally:
                os.close(nowhere)
