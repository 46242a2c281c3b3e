"""Running an installer: its lines as they come, a bound on its time, and nothing of it left afterwards."""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
import time
import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

LINE_LIMIT = 300
CHUNK = 1 << 16
END_SECONDS = 2.0


class ChildTimeout(Exception):
    """The program did not end in time and was killed."""


def run(
    argv: Sequence[str], *, environ: Mapping[str, str], deadline: float, on_line: Callable[[str], None], cwd: str = "/"
) -> int:
    """Run ``argv`` without input and give each line that it writes to ``on_line``; its exit status.

    ``deadline`` is in monotonic seconds.  Raises :class:`ChildTimeout` once it has passed, and :class:`OSError` if the
    program can't be started.  Whatever happens, the program and what it started have ended on return.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd=cwd,
        start_new_session=True,  # a group of its own, to be killed as a whole
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        with process.stdout:
            _pump(process.stdout.fileno(), deadline, on_line)
        return process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise ChildTimeout from error
    finally:
        _end_group(process)


def clean(line: str) -> str:
    """``line`` without escape sequences and other control characters, cut to a length that can be shown."""
    kept = []
    escaped = False
    for char in line[: LINE_LIMIT * 4]:
        if char == "\x1b":
            escaped = True
        elif escaped:
            escaped = not char.isalpha()
        elif char.isspace():
            kept.append(" ")
        elif unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
            kept.append(char)
    return "".join(kept).rstrip()[:LINE_LIMIT]


def _pump(descriptor: int, deadline: float, on_line: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pending = ""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise ChildTimeout
            chunk = os.read(descriptor, CHUNK)
            # A progress bar ends its lines with a carriage return.
            *lines, pending = (pending + decoder.decode(chunk, not chunk).replace("\r", "\n")).split("\n")
            for line in [*lines, pending] if not chunk else lines:
                text = clean(line)
                if text:
                    on_line(text)
            if not chunk:
                return
            pending = pending[-LINE_LIMIT * 4 :]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever of the program still runs: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except OSError:  # the group is empty
            break
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
