"""``run``: one command on the VM, its input from the request, its output as it comes."""

from __future__ import annotations

import base64
import os
import selectors
import subprocess

from .loader import GuestFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context

CHUNK = 48 << 10  # in base64 a frame stays far below what the host takes as one line
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell says it
LOOK_SECONDS = 60.0  # select takes no infinite time
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.001, 0.05


def run(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run the command without a shell; ``code`` is its exit status, negative for a signal.

    It is killed if it does not end before the deadline (GuestFailure ``command_timeout``), or if the host goes away.
    """
    ours = os.umask(context.users_umask)
    try:
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=os.path.join(context.state.home, os.path.expanduser(request["cwd"])),
            env={**os.environ, **request["env"]},
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        text = "%s: %s\n" % (error.filename or request["argv"][0], error.strerror)
        context.wire.output("stderr", base64.b64encode(text.encode("utf-8", "replace")).decode())
        return {"code": NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE}
    finally:
        os.umask(ours)
    with process:
        if not _pump(process, base64.b64decode(request["input"]), context):
            os.killpg(process.pid, 9)
            raise GuestFailure(
                "command_timeout", "The command did not end in time, and was ended", "Give it longer.", retryable=True
            )
    return {"code": process.returncode}


def _pump(process: subprocess.Popen[bytes], data: bytes, context: Context) -> bool:
    """Feed the command and pass on what it says until it has ended; False if the deadline passed, or the host went."""
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 - opened by the caller
    left = memoryview(data)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")
        selector.register(context.wire, selectors.EVENT_READ, "host")
        while len(selector.get_map()) > 1:
            for key, _ in selector.select(context.deadline.bounded(LOOK_SECONDS)):
                if key.data == "host":
                    return False
                if key.data == "stdin":
                    left = _feed(process, left)
                    finished = not left
                else:
                    chunk = os.read(key.fd, CHUNK)
                    finished = not chunk
                    if chunk:
                        context.wire.output(key.data, base64.b64encode(chunk).decode())
                if finished:
                    selector.unregister(key.fileobj)
                    if key.data == "stdin":
                        process.stdin.close()
            if context.deadline.passed:
                return False
        return _await_end(process, selector, context)


def _await_end(process: subprocess.Popen[bytes], host: selectors.BaseSelector, context: Context) -> bool:
    """Wait for the end of a command that has closed its output, which most do by ending; else as :func:`_pump`."""
    pause = FIRST_PAUSE_SECONDS
    while process.poll() is None:
        if host.select(context.deadline.bounded(pause)) or context.deadline.passed:
            return False
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return True


def _feed(process: subprocess.Popen[bytes], data: memoryview) -> memoryview:
    """Write what the command takes now; what is left, nothing if it reads no more."""
    assert process.stdin  # noqa: S101 - opened by the caller
    try:
        return data[os.write(process.stdin.fileno(), data[:65536]) :] if data else data
    except BrokenPipeError:
        return data[:0]
    except BlockingIOError:
        return data
