"""The standard streams: encodings, colours, streams that nobody reads."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from remote_runtime.cli.terminal import OutputClosed, Terminal, visible
from remote_runtime.errors import RemoteRuntimeError, UsageError


def stream(encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")


def content(file: io.TextIOWrapper) -> bytes:
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "✓ Käse → 猫\n".encode()),
        ("ascii", b"+ K\\xe4se -> \\u732b\n"),
        ("latin-1", b"+ K\xe4se -> \\u732b\n"),
        ("cp1252", b"+ K\xe4se -> \\u732b\n"),
    ],
)
def test_any_encoding_will_do(encoding: str, expected: bytes) -> None:
    err, out = stream(encoding), stream(encoding)
    terminal = Terminal(None, out, err, {})
    terminal.err("✓ Käse → 猫", "good")
    assert content(err) == expected
    terminal.out("猫")
    assert content(out) == ("猫\n".encode() if encoding == "utf-8" else b"\\u732b\n")


def test_streams_that_are_closed_or_missing_are_no_terminals() -> None:
    closed = stream()
    closed.close()
    for absent in (None, closed):
        terminal = Terminal(absent, absent, absent, {"TERM": "xterm"})
        assert (terminal.interactive, terminal.living, terminal.color) == (False, False, False)
        terminal.err("nobody reads this")
        with pytest.raises(OutputClosed):
            terminal.out("nor this")
        assert terminal.closed
        with pytest.raises(RemoteRuntimeError) as caught:
            terminal.ask("Well?", True)
        assert caught.value.code == "no_answer"


@pytest.mark.parametrize(
    ("environ", "living", "color"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "unknown"}, False, False),
    ],
)
def test_what_a_terminal_can_do(environ: dict[str, str], living: bool, color: bool) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as raw, io.TextIOWrapper(raw, "utf-8", write_through=True) as tty:
        terminal = Terminal(tty, stream(), tty, environ)
        assert (terminal.interactive, terminal.living, terminal.color) == (True, living, color)
        assert not Terminal(stream(), stream(), tty, environ).interactive
        assert not Terminal(tty, tty, stream(), environ).living
        terminal.err("text", "bad")
        assert (b"\x1b[31m" in os.read(ours, 100)) == color
    os.close(ours)


def test_questions_show_the_servers_words_without_their_control_characters() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as raw, io.TextIOWrapper(raw, "utf-8", write_through=True) as tty:
        os.write(ours, b"yes\n")
        assert Terminal(tty, None, tty, {}).ask("\x1b[2JBeware\r\nSure?", True) == "yes"
        shown = b""
        # A terminal gives what it has, perhaps a part; the echo of the answer comes when it comes.
        while b"? " not in shown:
            shown += os.read(ours, 1000)
        assert b"\x1b" not in shown
        assert b"Beware\r\nSure? " in shown.replace(b"yes\r\n", b"")
        os.write(ours, b"\x04")  # end of file
        with pytest.raises(RemoteRuntimeError) as caught:
            Terminal(tty, None, tty, {}).ask("Sure?", True)
        assert caught.value.code == "no_answer"
    os.close(ours)


WRITES = """
import sys
from remote_runtime.cli.terminal import OutputClosed, Terminal
terminal = Terminal.standard()
try:
    for _ in range(100_000):
        terminal.out("line")
except OutputClosed as end:
    sys.exit(end.number)
"""


def test_a_reader_that_goes_away_ends_us_quietly() -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITES], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline() == b"line\n"
        writer.stdout.close()
        assert writer.stderr.read() == b""
        assert writer.wait(20) == 13


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        terminal = Terminal(None, full, None, {})
        with pytest.raises(RemoteRuntimeError) as caught:
            terminal.out("text")
    assert caught.value.code == "output_failed"
    assert "No space" in caught.value.message


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\tb", "a       b"),
        ("  kept   columns", "  kept   columns"),
        ("bell\x07 \x9b2J\u202e\ud800", "bell "),
        ("\x1b", ""),
    ],
)
def test_visible(raw: str, shown: str) -> None:
    assert visible(raw) == shown


def test_what_a_command_says_is_passed_on_as_it_is() -> None:
    out, err = stream("ascii"), stream("ascii")
    terminal = Terminal(None, out, err, {})
    terminal.out("first")
    terminal.pass_on("stdout", b"\xff\x1b[1m")
    terminal.pass_on("stderr", b"\x00")
    assert (content(out), content(err)) == (b"first\n\xff\x1b[1m", b"\x00")


def test_what_a_command_says_to_nobody() -> None:
    closed = stream()
    closed.close()
    for absent in (None, closed):
        terminal = Terminal(None, absent, absent, {})
        terminal.pass_on("stderr", b"x")
        with pytest.raises(OutputClosed):
            terminal.pass_on("stdout", b"x")
        assert terminal.closed


def test_the_standard_input_is_read_whole_or_not_at_all() -> None:
    given = io.TextIOWrapper(io.BytesIO(b"a\xff\r\n"))
    assert Terminal(given, None, None, {}).read_all(4) == b"a\xff\r\n"
    assert Terminal(None, None, None, {}).read_all(4) == b""
    given = io.TextIOWrapper(io.BytesIO(b"12345"))
    with pytest.raises(UsageError) as caught:
        Terminal(given, None, None, {}).read_all(4)
    assert caught.value.code == "input_too_long"
    given.close()
    with pytest.raises(UsageError, match="Can't read the standard input"):
        Terminal(given, None, None, {}).read_all(4)
