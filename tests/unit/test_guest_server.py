"""Looking at a recorded server, and reading its log, with real processes and listeners."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remote_runtime import payload
from remote_runtime.guest import processes, server
from remote_runtime.guest.clock import Deadline
from remote_runtime.guest.loader import GuestFailure
from remote_runtime.guest.paths import State
from remote_runtime.guest.plan import Running

TOKEN = "t" * 48
SERVER = """
import encodings.idna, hashlib, hmac, http.server, os, sys  # all of it now: the other user can't read our Python
token, uid = sys.argv[1], int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        nonce = self.path.partition("nonce=")[2]
        body = hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest().encode() if nonce else b"{}"
        self.send_response(200 if token else 500)
        self.end_headers()
        self.wfile.write(body)
if uid:
    os.setuid(uid)
listener = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(listener.server_port, flush=True)
listener.serve_forever()
"""


@contextmanager
def serving(token: str, uid: int = 0) -> Iterator[dict[str, Any]]:
    """A server that knows ``token``; what we would have recorded of it."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, token, str(uid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        yield {"pid": process.pid, "started": processes.started(process.pid), "port": port, "base_url": "/"}
        process.kill()


def look(record: dict[str, Any]) -> Running:
    return server.look(record, TOKEN, Deadline(5))


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(str(tmp_path), "m")
    made.make()
    return made


def test_our_server_is_known_by_its_proof(state: State) -> None:
    with serving(TOKEN) as record:
        assert look(record) == Running(alive=True, answers=True, proves=True)
        server.await_ready(state, record, TOKEN, Deadline(5))


def test_a_server_with_another_token_is_not_ours() -> None:
    with serving("u" * 48) as record:
        assert look(record) == Running(alive=True, answers=True, proves=False)


def test_a_server_in_trouble_is_waited_for(state: State) -> None:
    with serving("") as record:
        assert look(record) == Running(alive=True, answers=False, proves=False)
        with pytest.raises(GuestFailure) as caught:
            server.await_ready(state, record, TOKEN, Deadline(0.3))
        assert caught.value.code == "server_not_answering"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_listener_of_another_user_is_not_even_asked(state: State) -> None:
    with serving(TOKEN, uid=65534) as record:
        assert look(record) == Running(alive=True, answers=False, proves=False)
        with pytest.raises(GuestFailure):
            server.await_ready(state, record, TOKEN, Deadline(0.3))


def test_a_port_where_nobody_listens() -> None:
    with serving(TOKEN) as record:
        assert look({**record, "port": processes.any_port()}).answers is False


def test_a_pid_of_another_time_is_not_alive() -> None:
    with serving(TOKEN) as record:
        assert look({**record, "started": "boot/1"}) == Running(alive=False, answers=False, proves=False)
        assert server.stop({**record, "started": "boot/1"}, Deadline(5)) is False
        assert server.stop(record, Deadline(5)) is True
    assert look(record).alive is False
    assert look({}).alive is False


def test_a_server_that_ends_while_it_is_waited_for(state: State) -> None:
    Path(state.log).write_text("first\nlast words\n")
    with serving("") as record:
        os.kill(record["pid"], 9)
        with pytest.raises(GuestFailure) as caught:
            server.await_ready(state, record, TOKEN, Deadline(20))
    assert caught.value.code == "server_died"
    assert list(caught.value.log) == ["first", "last words"]


def test_a_server_is_detached_and_its_log_is_private(state: State) -> None:
    Path(state.log).write_text("before")
    old = os.umask(0o077)
    try:
        code = "import os,sys;print(os.getsid(0)==os.getpid(), sys.stdin.read(), oct(os.umask(0)), os.getcwd())"
        child = server.spawn(state, [sys.executable, "-c", code], {"A": "b"}, 0o022)
        started = processes.started(child.pid)
        server.release(child)
        assert child.wait(20) == 0
        assert started, "its number and start time are known before it runs, and stay"
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert server.log_tail(state, 10) == [f"True  0o22 {os.path.realpath(state.machine)}"]
    assert Path(state.log).stat().st_mode & 0o777 == 0o600
    assert Path(state.log + ".1").read_text() == "before"


def test_a_server_that_nobody_wrote_down_never_runs(state: State, tmp_path: Path) -> None:
    child = server.spawn(state, ["touch", str(tmp_path / "ran")], {"PATH": os.environ["PATH"]}, 0o022)
    assert child.stdin
    child.stdin.close()  # as the kernel does when we are killed
    assert child.wait(20) != 0
    assert not (tmp_path / "ran").exists()


def test_a_server_that_is_dead_before_it_may_run_is_no_error_yet(state: State) -> None:
    child = server.spawn(state, ["true"], {"PATH": os.environ["PATH"]}, 0o022)
    child.kill()
    child.wait(20)
    server.release(child)


def test_the_last_lines_of_a_log(state: State) -> None:
    assert server.log_tail(state, 10) == []
    lines = [f"line {number:06}" for number in range(20_000)]
    Path(state.log).write_text("\n".join(lines) + "\n")
    assert server.log_tail(state, 3) == lines[-3:]
    assert server.log_tail(state, 0) == []
    whole = server.log_tail(state, 10**6)
    assert whole == lines[-len(whole) :]
    assert len(whole) > 5000


def test_a_log_that_grew_too_long_is_cut_under_its_writer(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    server.bound_log(state)
    monkeypatch.setattr(server, "LOG_LIMIT", 5000)
    monkeypatch.setattr(server, "LOG_KEPT", 1000)
    with Path(state.log).open("ab", buffering=0) as writer:
        writer.write(b"x" * 5000)
        server.bound_log(state)
        assert Path(state.log).stat().st_size == 5000
        writer.write(b"y" * 500)
        server.bound_log(state)
        writer.write(b"z")
    assert Path(state.log).read_bytes() == b"z"
    assert Path(state.log + ".1").read_bytes() == b"x" * 500 + b"y" * 500


WARM = """
import sys
sys.path.insert(0, sys.argv[1])
from remote_runtime_guest import ensure, entry
print(*sorted(set(sys.modules) & {"subprocess", "typing", "http", "zipfile", "tempfile", "shutil", "asyncio", "ssl"}))
"""


def test_a_warm_connect_imports_little(tmp_path: Path) -> None:
    (tmp_path / "guest.pyz").write_bytes(payload.program().content)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WARM, tmp_path / "guest.pyz"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
