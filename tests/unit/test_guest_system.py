"""What a preparation does to the system besides: files that appear whole, the metadata server, lines for people."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from remote_runtime.guest import attributes, local, processes, remove, serve, system
from remote_runtime.guest.clock import Deadline
from remote_runtime.guest.console import Console
from remote_runtime.guest.loader import GuestFailure
from remote_runtime.guest.prepare import open_to_all


def test_a_file_appears_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    assert system.write(str(path), b"one", 0o644)
    assert not system.write(str(path), b"one", 0o644)
    assert system.write(str(path), b"one", 0o755)
    (tmp_path / "made" / "file.new").write_text("of one that was killed")
    assert system.write(str(path), b"two", 0o755)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o755
    assert list(path.parent.iterdir()) == [path]


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        system.write(str(tmp_path / "file"), b"one", 0o644)
    assert not (tmp_path / "elsewhere").exists()


def test_a_command_that_fails_says_why() -> None:
    system.command(["true"], Deadline(10))
    system.command(["false"], Deadline(10), must=False)
    with pytest.raises(GuestFailure, match="sh ended with status 3") as caught:
        system.command(["sh", "-c", "echo why; exit 3"], Deadline(10))
    assert caught.value.log == ["why"]
    with pytest.raises(GuestFailure, match="could not be started"):
        system.command(["/nonexistent"], Deadline(10))
    with pytest.raises(GuestFailure, match="did not end in time"):
        system.command(["sleep", "60"], Deadline(0.1))


def test_a_command_has_no_terminal_of_ours() -> None:
    code = "import os, sys; sys.exit(os.getsid(0) != os.getpid())"
    system.command([sys.executable, "-c", code], Deadline(10))


def test_all_may_read_and_nobody_write(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    for name, mode in (("text", 0o600), ("program", 0o770)):
        (tmp_path / "d" / name).touch()
        (tmp_path / "d" / name).chmod(mode)
    (tmp_path / "d" / "link").symlink_to("/nonexistent")
    open_to_all(str(tmp_path / "d"))
    modes = [path.lstat().st_mode & 0o777 for path in (tmp_path / "d", tmp_path / "d/text", tmp_path / "d/program")]
    assert modes == [0o755, 0o644, 0o755]


def test_a_program_is_found_by_where_it_runs_from() -> None:
    called = Path(os.fsdecode(Path("/proc/self/cmdline").read_bytes().split(b"\0")[0]))
    if called.is_absolute():
        assert processes.running_from(str(called.parent))
    assert not processes.running_from("/nonexistent")


# -- lines ------------------------------------------------------------------------------------------------------------


def test_lines_are_shown_without_secrets() -> None:
    shown: list[str] = []
    wire = Console(shown.append)
    wire.keep_secret("tiptop")
    wire.say("It is tiptop from https://user:pass@index/simple")
    wire.notice("code", "a notice")
    wire.error(GuestFailure("code", "It failed", "Do that.", log=["last line"]))
    assert shown == ["It is ... from https://index/simple", "a notice", "It failed", "last line", "Do that."]
    assert wire.lines == shown
    assert wire.need("wheels", "/", {}) is None


def test_an_unknown_verb_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert local.main([], "") == local.main(["ensure"], "") == 2
    assert "usage: prepare|" in capfd.readouterr().err


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve.notify("READY=1")  # nobody is there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        serve.notify("READY=1")
        assert channel.recv(100) == b"READY=1"


# -- the metadata server ----------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """A metadata server; ``asked`` is what it was asked."""

    asked: ClassVar[list[tuple[str, str, str]]]
    flavor = "Google"
    refused: ClassVar[list[str]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        assert self.headers["Metadata-Flavor"] == "Google"
        self.asked.append((self.command, self.path, body))
        if self.refused:
            kind = self.refused.pop()
            if kind == "503":
                self.send_response(503)
                self.send_header("Metadata-Flavor", self.flavor)
                self.end_headers()
            return  # without any answer
        self.send_response(200 if "instance/attributes" not in self.path else 404)
        self.send_header("Metadata-Flavor", self.flavor)
        self.end_headers()
        self.wfile.write(b"ada\n")

    do_GET = do_PUT = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    class Own(Answers):
        asked: ClassVar[list[tuple[str, str, str]]] = []
        refused: ClassVar[list[str]] = []

    monkeypatch.setattr(attributes, "PAUSE_SECONDS", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(attributes, "HOST", f"127.0.0.1:{server.server_port}")
        yield Own
        server.shutdown()
        thread.join()


def test_guest_attributes_come_and_go(metadata: type[Answers]) -> None:
    server = attributes.Metadata()
    server.publish("state", "ready")
    server.withdraw("state")
    assert server.named_user() == "ada"
    place = "/computeMetadata/v1/instance/guest-attributes/remote-runtime/state"
    assert metadata.asked[:2] == [("PUT", place, "ready"), ("DELETE", place, "")]
    assert [path.rsplit("/", 3)[1:] for _, path, _ in metadata.asked[2:]] == [
        ["instance", "attributes", "remote-runtime-user"],
        ["project", "attributes", "remote-runtime-user"],
    ]


def test_another_server_of_that_name_is_not_believed(metadata: type[Answers]) -> None:
    metadata.flavor = "Other"
    assert attributes.Metadata().named_user() == ""


@pytest.mark.parametrize("kind", ["closed", "503"])
def test_one_failure_silences_nothing(metadata: type[Answers], kind: str) -> None:
    server = attributes.Metadata()
    metadata.refused.append(kind)
    server.publish("step", "one")
    server.publish("step", "two")
    assert [body for _, _, body in metadata.asked] == ["one", "two"]
    metadata.refused.extend([kind] * 2)
    assert server.named_user() == "ada"
    assert len(metadata.asked) == 2 + 3 + 1  # the instance, at the third try, and the project
    metadata.refused.extend([kind] * 2)
    server.publish("state", "ready", lasting=True)
    assert metadata.asked[6:] == metadata.asked[-1:] * 3
    metadata.refused.extend([kind] * 3)
    server.publish("state", "ready", lasting=True)
    server.publish("state", "failed")
    assert metadata.asked[-1][2] == "failed"  # what has answered once is there


def test_where_there_is_none_it_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "PAUSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(attributes, "HOST", f"127.0.0.1:{port}")
    server = attributes.Metadata()
    server.publish("state", "ready", lasting=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as late:
        monkeypatch.setattr(attributes, "HOST", f"127.0.0.1:{late.server_port}")
        assert server.named_user() == ""
        late.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.socket.accept()


UNIT = "system.slice/system-remote\\x2druntime.slice/remote-runtime@ada.service"


@pytest.mark.parametrize(
    ("groups", "inside"),
    [
        (f"0::/{UNIT}\n", True),
        (f"9:name=systemd:/{UNIT}\n0::/\n", True),
        (f"0::/{UNIT}/kernels\n", True),
        ("0::/user.slice/user-1001.slice/session-4.scope\n", False),
        ("0::/system.slice/google-startup-scripts.service\n", False),
        ("", False),
    ],
)
def test_who_is_in_a_unit_of_ours_is_known(groups: str, inside: bool) -> None:
    assert remove.in_unit(groups.encode()) is inside


@pytest.mark.parametrize(
    ("entries", "ours"),
    [
        (["HOME=/home/ada", "JUPYTER_CONFIG_PATH=/home/ada/.remote-runtime/machines/0a1b/config:/etc/jupyter"], True),
        (["JUPYTER_CONFIG_PATH=/etc/jupyter"], False),
        (["OLDPWD=/home/ada/.remote-runtime/machines/0a1b/config"], False),
        ([], False),
    ],
)
def test_a_server_of_ours_is_known(entries: list[str], ours: bool) -> None:
    assert remove.is_server(b"".join(entry.encode() + b"\0" for entry in entries)) is ours
