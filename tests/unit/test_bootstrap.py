"""The exec line, the loader and the verbs that need no Jupyter, in every login shell and with old Pythons."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from remote_runtime import bootstrap, payload
from remote_runtime._threads import Deadline
from remote_runtime.errors import GuestError, NetworkError, TimedOut
from remote_runtime.events import Event
from remote_runtime.model import ServerOptions
from tests.jupyter.local import LocalShell
from tests.pythons import python
from tests.tools import need

SHELLS = {"sh": "dash", "bash": "bash", "zsh": "zsh", "csh": "tcsh", "tcsh": "tcsh", "fish": "fish"}
NOISE = {
    "bash": (".bashrc", "echo 'Welcome, 00112233!'; printf 'no newline'\n"),
    "zsh": (".zshenv", "echo 'Welcome!'; printf 'no newline'\n"),
    "csh": (".cshrc", "echo 'Welcome!'; echo -n 'no newline'\n"),
    "tcsh": (".tcshrc", "echo 'Welcome!'; echo -n 'no newline'\n"),
    "fish": (".config/fish/config.fish", "echo 'Welcome!'; printf 'no newline'\n"),
}


def bin_with(directory: Path, **programs: str) -> str:
    """A PATH with these programs and the few that everything needs."""
    directory.mkdir()
    for name, target in {"sh": "/bin/sh", "sleep": "/bin/sleep", **programs}.items():
        (directory / name).symlink_to(target)
    return str(directory)


# -- what is sent ---------------------------------------------------------------------------------------------------


def test_the_exec_line_is_read_alike_by_every_shell() -> None:
    quoted = re.fullmatch(r"python3 -I -S -c '([^'\"\\!\n`$]*)'", payload.EXEC_LINE)
    assert quoted
    compile(quoted.group(1), "line", "exec")


def test_the_program_is_the_same_bytes_every_time() -> None:
    first = payload.program()
    payload.program.cache_clear()
    assert payload.program() == first
    assert first.sha256 == hashlib.sha256(first.content).hexdigest()


def test_the_program_holds_the_guest_and_nothing_compiled() -> None:
    names = zipfile.ZipFile(io.BytesIO(payload.program().content)).namelist()
    assert "remote_runtime_guest/entry.py" in names
    assert "remote_runtime_guest/jupyter_http_over_ws/__init__.py" in names
    assert all(name.startswith("remote_runtime_guest/") and "__pycache__" not in name for name in names)
    assert names == sorted(names)


def test_the_guest_is_written_for_the_oldest_python(tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(payload.program().content)).extractall(tmp_path)
    done = subprocess.run(
        [python("3.8"), "-m", "compileall", "-q", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


# -- the loader, in real shells ---------------------------------------------------------------------------------------


def echo(machine: LocalShell) -> bytes:
    return bootstrap.run(machine, ["cat"], input=b"round\0trip\xff", deadline=Deadline(30)).stdout


@pytest.mark.parametrize("name", SHELLS)
def test_every_login_shell_runs_it_twice(home: Path, name: str) -> None:
    machine = LocalShell(home, shell=need(name, SHELLS[name]))
    assert echo(machine) == b"round\0trip\xff"
    assert echo(machine) == b"round\0trip\xff"
    assert len(list((home / ".remote-runtime" / "guest").iterdir())) == 1


@pytest.mark.parametrize("name", NOISE)
def test_what_a_shell_says_by_itself_does_no_harm(home: Path, name: str) -> None:
    file, content = NOISE[name]
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text(content)
    environ = {"BASH_ENV": str(home / file)} if name == "bash" else {}
    machine = LocalShell(home, shell=need(name, SHELLS[name]), **environ)
    said = subprocess.run(
        [machine.shell, "-c", "true"], env=dict(machine.environ), capture_output=True, text=True, check=True
    )
    assert "Welcome" in said.stdout
    assert echo(machine) == b"round\0trip\xff"


def test_a_flood_of_noise_is_not_kept(home: Path) -> None:
    (home / "rc").write_text('i=0; while [ $i -lt 3000 ]; do echo "$i \033[31m noise"; i=$((i+1)); done; exit 3\n')
    machine = LocalShell(home, shell=need("bash", "bash"), BASH_ENV=str(home / "rc"))
    with pytest.raises(GuestError) as caught:
        echo(machine)
    assert caught.value.code == "guest_failed"
    assert "status 3" in caught.value.message
    assert len(caught.value.log) == bootstrap.NOISE_LINES
    assert caught.value.log[-1] == "2999 noise"


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_an_old_python_is_named(home: Path, tmp_path: Path, version: str) -> None:
    old = python(version)
    if version.startswith("2"):  # it has no -I: what is tested is that it understands the code
        (tmp_path / "wrapper").write_text(f'#!/bin/sh\nshift 2\nexec {old} "$@"\n')
        (tmp_path / "wrapper").chmod(0o755)
        old = tmp_path / "wrapper"
    machine = LocalShell(home, path=bin_with(tmp_path / "bin", python3=str(old)))
    with pytest.raises(GuestError) as caught:
        echo(machine)
    assert caught.value.code == "guest_python_too_old"
    assert f": {version}." in caught.value.message
    assert not (home / ".remote-runtime").exists()


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13"])
def test_every_newer_python_will_do(home: Path, tmp_path: Path, version: str) -> None:
    machine = LocalShell(home, path=bin_with(tmp_path / "bin", python3=str(python(version)), cat="/bin/cat"))
    assert echo(machine) == b"round\0trip\xff"
    assert bootstrap.server_status(machine, Deadline(30)) is None
    assert bootstrap.stop_server(machine, Deadline(30)) is False
    assert bootstrap.uninstall(machine, Deadline(30)) == [str(home / ".remote-runtime")]


@pytest.mark.parametrize("name", SHELLS)
def test_a_vm_without_python(home: Path, tmp_path: Path, name: str) -> None:
    machine = LocalShell(home, path=bin_with(tmp_path / "bin"), shell=need(name, SHELLS[name]))
    with pytest.raises(GuestError) as caught:
        echo(machine)
    assert caught.value.code == "guest_python_missing"
    assert caught.value.hint


def test_a_login_that_runs_nothing(home: Path) -> None:
    with pytest.raises(GuestError) as caught:
        echo(LocalShell(home, shell="/usr/sbin/nologin"))
    assert caught.value.code == "guest_failed"
    assert "not available" in caught.value.log[-1]


def test_a_connection_that_ends_is_a_network_error() -> None:
    error = bootstrap.explain_end(-1, ())
    assert isinstance(error, NetworkError)
    assert error.retryable


def test_state_that_is_a_link_is_not_followed(home: Path, tmp_path: Path, machine: LocalShell) -> None:
    (tmp_path / "elsewhere").mkdir()
    (home / ".remote-runtime").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GuestError) as caught:
        echo(machine)
    assert caught.value.code == "guest_state_unsafe"
    assert ".remote-runtime" in caught.value.message
    assert not list((tmp_path / "elsewhere").iterdir())


def test_everything_of_ours_is_private(home: Path, machine: LocalShell) -> None:
    old = os.umask(0)
    try:
        bootstrap.stop_server(machine, Deadline(30))
    finally:
        os.umask(old)
    paths = [home / ".remote-runtime", *(home / ".remote-runtime").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}


def test_a_home_that_can_not_be_written(home: Path) -> None:
    with pytest.raises(GuestError) as caught:
        echo(LocalShell(home, HOME="/proc"))  # nobody makes a directory there, not even root
    assert caught.value.code == "guest_state_unusable"
    assert caught.value.hint


def test_a_login_without_a_home(home: Path) -> None:
    with pytest.raises(GuestError) as caught:
        echo(LocalShell(home, HOME="/nonexistent"))
    assert caught.value.code == "guest_no_home"


# -- run --------------------------------------------------------------------------------------------------------------


def test_a_command_without_a_shell(machine: LocalShell, home: Path) -> None:
    words = ["$HOME", "a b", "'\"\\!", "é", ""]
    code = "import sys,os,json;print(json.dumps([sys.argv[1:],os.getcwd()]));sys.stderr.write('err');sys.exit(7)"
    done = bootstrap.run(machine, [sys.executable, "-c", code, *words], deadline=Deadline(30))
    assert json.loads(done.stdout) == [words, str(home)]
    assert (done.stderr, done.returncode) == (b"err", 7)


def test_much_in_and_much_out(machine: LocalShell) -> None:
    data = os.urandom(3 << 20)
    done = bootstrap.run(machine, ["cat"], input=data, deadline=Deadline(60))
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_input_that_nobody_reads(machine: LocalShell) -> None:
    assert bootstrap.run(machine, ["true"], input=b"x" * (1 << 20), deadline=Deadline(30)).returncode == 0


def test_a_command_that_is_not_there(machine: LocalShell, home: Path) -> None:
    done = bootstrap.run(machine, ["no-such-command"], deadline=Deadline(30))
    assert (done.returncode, done.stderr) == (127, b"no-such-command: No such file or directory\n")
    (home / "file").touch(mode=0o600)
    assert bootstrap.run(machine, [str(home / "file")], deadline=Deadline(30)).returncode == 126


def test_a_command_that_a_signal_ended(machine: LocalShell) -> None:
    assert bootstrap.run(machine, ["sh", "-c", "kill -9 $$"], deadline=Deadline(30)).returncode == -9


def test_a_command_that_does_not_end(machine: LocalShell) -> None:
    with pytest.raises((GuestError, TimedOut)) as caught:
        bootstrap.run(machine, ["sh", "-c", "sleep 61 & sleep 60"], deadline=Deadline(1.5))
    assert caught.value.code in ("command_timeout", "timeout")


def test_without_a_deadline_a_command_may_take_for_ever(machine: LocalShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "NO_DEADLINE_SECONDS", 0.5)  # what others get then
    assert bootstrap.run(machine, ["sh", "-c", "sleep 1; echo done"], deadline=Deadline(None)).stdout == b"done\n"


def test_a_command_that_has_closed_its_output_ends_with_its_connection(machine: LocalShell, home: Path) -> None:
    said: list[bytes] = []

    def leave(_: str, data: bytes) -> None:
        said.append(data)
        end = Deadline(30)
        while not (home / "closed").exists():
            end.check("waiting for the command")
        raise KeyboardInterrupt

    script = "echo $$; exec >&- 2>&-; touch closed; exec sleep 600"
    with pytest.raises(KeyboardInterrupt):
        bootstrap.run(machine, ["sh", "-c", script], on_output=leave, deadline=Deadline(None))
    end = Deadline(30)
    while psutil.pid_exists(int(said[0])):
        end.check("waiting for the command's end")


def test_more_output_than_a_host_can_hold(machine: LocalShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "OUTPUT_LIMIT", 1 << 16)
    with pytest.raises(GuestError) as caught:
        bootstrap.run(machine, ["head", "-c", "1000000", "/dev/zero"], deadline=Deadline(30))
    assert caught.value.code == "output_too_long"


def test_the_files_of_a_command_have_the_users_mode(machine: LocalShell, home: Path) -> None:
    old = os.umask(0o022)
    try:
        bootstrap.run(machine, ["touch", "made"], deadline=Deadline(30))
    finally:
        os.umask(old)
    assert (home / "made").stat().st_mode & 0o777 == 0o644


# -- a guest that misbehaves ------------------------------------------------------------------------------------------


class Scripted:
    """A machine whose guest says what the test wants, after it heard the nonce."""

    def __init__(self, *said: str) -> None:
        self.said = said
        self.written: list[bytes] = []

    def execute(self, line: str, deadline: Deadline) -> Scripted:
        return self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def lines(self) -> Iterator[bytes]:
        nonce = re.search(rb'"nonce": "(\w+)"', self.written[0])
        assert nonce
        for text in self.said:
            yield text.replace("NONCE", nonce.group(1).decode()).encode()

    def wait(self) -> int:
        return 0

    def close(self) -> None:
        self.written.append(b"closed")


def ensure(machine: Scripted, events: list[Event]) -> object:
    options = ServerOptions(notebook_dir="~/x")
    return bootstrap.ensure_server(
        machine, options, token="", restart=True, on_event=events.append, deadline=Deadline(5)
    )


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('NONCE {"type": "result", "value": {}}', "guest_protocol"),
        ('NONCE {"type": "result", "value": []}', "guest_protocol"),
        ('NONCE {"type": "output", "stream": "stdout", "data": ""}', "guest_protocol"),
        ('NONCE {"type": "need", "what": "wheels", "target": 7}', "guest_protocol"),
        ('NONCE {"type": "need", "what": "everything"}', "guest_failed"),
        ('NONCE {"type": "error", "code": "python_not_found", "message": "m"}', "python_not_found"),
        ('other {"type": "result", "value": {}}', "guest_failed"),
    ],
)
def test_a_guest_that_makes_no_sense(said: str, code: str) -> None:
    machine = Scripted(said)
    with pytest.raises(GuestError) as caught:
        ensure(machine, [])
    assert caught.value.code == code
    assert machine.written[-1] == b"closed"


def test_progress_and_differences_become_events() -> None:
    server = {"pid": 9, "port": 1, "token": "t" * 48, "base_url": "/", "differs": ["notebook_dir"]}
    events: list[Event] = []
    machine = Scripted(
        'NONCE {"type": "progress", "text": "work\\u001b[2Jing"}',
        "NONCE " + json.dumps({"type": "result", "value": server}),
    )
    ensure(machine, events)
    progress, notice = events
    assert progress == bootstrap.StepProgress("server", "working")
    assert isinstance(notice, bootstrap.Notice)
    assert (notice.code, notice.level) == ("server_options_differ", "warning")
    assert "--notebook-dir" in notice.text


def test_only_what_the_user_chose_is_asked_for() -> None:
    assert bootstrap._asked(ServerOptions()) == {}
    asked = bootstrap._asked(ServerOptions(ui="none", jupyter_args=("--a",), upgrade=True))
    assert asked == {"ui": "none", "jupyter_args": ("--a",)}


def test_the_exec_line_shows_nothing(home: Path) -> None:
    seen: list[str] = []

    class Watching(LocalShell):
        def execute(self, line: str, deadline: Deadline):  # type: ignore[no-untyped-def]
            seen.append(line)
            return super().execute(line, deadline)

    bootstrap.run(Watching(home), ["true"], input=b"secret", deadline=Deadline(30))
    assert seen == [payload.EXEC_LINE]


def test_python_is_found_by_the_shell(home: Path) -> None:
    assert shutil.which("python3", path=LocalShell(home).environ["PATH"])
