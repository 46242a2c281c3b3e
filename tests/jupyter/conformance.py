"""What the conformance suite, `test_conformance_*.py`, is made of.

Every test of it says how upstream's own `jupyter_http_over_ws` 0.0.8 behaves: the *same*, or it *deviates*.  So the
suite can be run against that one as well (``REMOTE_RUNTIME_TEST_EXTENSION=upstream``), and each test of a deviation has
to fail then: this shows that our wire is upstream's where it says so, and that the tests can tell right from wrong.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import websocket

ONE_SERVER = os.environ.get("REMOTE_RUNTIME_TEST_ONE_SERVER") == "1"
UPSTREAM = os.environ.get("REMOTE_RUNTIME_TEST_EXTENSION") == "upstream"
MARKER = "upstream(verdict, why): how upstream's package does in this test: 'same', 'deviates' or 'unasked'"

PATIENCE_WITH_UPSTREAM = 1.0
"""Seconds to wait for upstream where it is known to go wrong, which it often does by saying nothing."""

ONCE = "once: takes long, and hardly depends on the server's release; `make test` does not repeat it on other Pythons"
"""The marker of the tests that only `make conformance` repeats."""

WIRE = tuple(
    f"conformance_{name}"
    for name in ("handshake", "frames", "requests", "replies", "auth", "diagnose", "proxied", "limits")
)
"""What there is to run with any server."""

OURS = tuple(f"extension_{name}" for name in ("cors", "colab", "page", "proof", "leases"))
"""What there is to run with ours besides."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def same(test: Any) -> Any:
    """Upstream passes this test, too."""
    return pytest.mark.upstream("same", "")(test)


def deviates(why: str) -> Any:
    """Upstream fails this test; ``why`` says what it does."""
    return pytest.mark.upstream("deviates", why)


def unasked(why: str) -> Any:
    """Upstream is not asked; ``why`` it would tell nothing."""
    return pytest.mark.upstream("unasked", why)


def param(*values: Any, why: str = "", id: str | None = None) -> Any:
    """One set of parameters; upstream does the same in this case, or deviates if there is a ``why``."""
    return pytest.param(*values, marks=pytest.mark.upstream("deviates" if why else "same", why), id=id)


def check(items: Sequence[pytest.Item]) -> None:
    """See to it that each test of the suite says what upstream does; skip what upstream is not asked for."""
    for item in items:
        if not item.path.name.startswith("test_conformance_"):
            continue
        marker = item.get_closest_marker("upstream")
        if marker is None:
            raise pytest.UsageError(f"{item.nodeid} does not say what upstream does")
        if UPSTREAM and marker.args[0] == "unasked":
            item.add_marker(pytest.mark.skip(reason=marker.args[1]))


def why_upstream_fails(item: pytest.Item) -> str:
    """Why this very run of a test has to fail; "" if it has to pass."""
    marker = item.get_closest_marker("upstream") if UPSTREAM else None
    return str(marker.args[1]) if marker and marker.args[0] == "deviates" else ""


def run_suite(
    python: Path, scratch: Path, *, upstream: bool = False, modules: Sequence[str] = (), quick: bool = False
) -> dict[str, int]:
    """Run the suite with the Jupyter of another ``python``; how many tests passed, xfailed and so on.

    A run that fails fails the test that calls this.  ``modules`` make it a part, and so does ``quick``, which leaves
    out what is marked ``once``.
    """
    modules = modules or (WIRE if upstream else WIRE + OURS)
    files = [str(Path(__file__).with_name(f"test_{module}.py")) for module in modules]
    chosen = ["-m", "not once and not slow and not live"] if quick else []
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", f"--basetemp={scratch}/runs"]
    environment = {
        **os.environ,
        "REMOTE_RUNTIME_TEST_JUPYTER_PYTHON": str(python),
        "REMOTE_RUNTIME_TEST_ONE_SERVER": "1",
    }
    environment["REMOTE_RUNTIME_TEST_EXTENSION"] = "upstream" if upstream else ""
    ran = subprocess.run(
        [*argv, *chosen, *files], env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    if ran.returncode != 0:
        pytest.fail(f"with {python}:\n{ran.stdout[-8000:]}{ran.stderr}", pytrace=False)
    return {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", ran.stdout.splitlines()[-1])}


def read_frame(connection: websocket.WebSocket) -> tuple[int, bytes]:
    """Opcode and payload of the next frame, as it is on the wire, be it legal or not; to be closed means no frame."""
    first, length = struct.unpack("!BB", _exactly(connection, 2))
    if length == 126:
        (length,) = struct.unpack("!H", _exactly(connection, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", _exactly(connection, 8))
    return first & 0x0F, _exactly(connection, length)


def closing(connection: websocket.WebSocket) -> tuple[int, str]:
    """Wait for the close frame: its code and reason.  Raises :class:`EOFError` if the connection ends without one."""
    while (frame := read_frame(connection))[0] != CLOSE:
        pass
    return int.from_bytes(frame[1][:2], "big"), frame[1][2:].decode()


def is_legal(code: int) -> bool:
    """Whether a server may send this close code: one of RFC 6455 and its registry, or a private one."""
    return code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014) or 3000 <= code <= 4999


def ask_raw(connection: websocket.WebSocket, message: str | bytes) -> dict[str, Any]:
    """Send a message as it is, and give back the next frame."""
    if isinstance(message, bytes):
        connection.send_binary(message)
    else:
        connection.send(message)
    return dict(json.loads(connection.recv()))


def refused(open_socket: Callable[[], websocket.WebSocket]) -> int:
    """The status with which a handshake is refused; it is an error if it is not."""
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        open_socket()
    return int(refusal.value.status_code)


def _exactly(connection: websocket.WebSocket, size: int) -> bytes:
    data = b""
    assert connection.sock is not None
    while len(data) < size:
        more = connection.sock.recv(min(size - len(data), 1 << 20))
        if not more:
            raise EOFError("the connection ended without a close frame")
        data += more
    return data
