"""Parts of a preparation, as root on this machine: whom it believes, and what it finishes."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime.guest import attributes, parts, plan, preparation, prepare, prepared, probe, system
from remote_runtime.guest.clock import Deadline
from remote_runtime.guest.console import Console
from remote_runtime.guest.context import Context
from remote_runtime.guest.paths import State

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root prepares a machine")

ANSWER = {"executable": "/bin/true", "python_version": "3.11.2", "server": "2.14", "lab": "4.2", "ipykernel": "6"}
KEY = "key"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that all users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        monkeypatch.setattr(probe, "WELL_KNOWN", [str(directory / "*")])
        yield directory


@pytest.fixture
def context(place: Path) -> Context:
    return Context(
        state=State(prepare.NOWHERE, "machine"),
        wire=Console(lambda _: None),
        deadline=Deadline(60),
        program="",
        environ={"PATH": str(place / "path")},
        users_umask=0o022,
    )


def write_python(environment: Path, *lines: str) -> None:
    """Give that environment a Python which is this shell script."""
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    python.chmod(0o755)


def plant(environment: Path) -> Path:
    """An environment whose Python says that it has Jupyter, and leaves word of who ran it; where that is."""
    word = environment.with_suffix(".word")
    word.touch()
    word.chmod(0o666)
    write_python(
        environment,
        f"{{ id -u; id -G; grep -E 'NoNewPrivs|CapEff' /proc/self/status; env; }} >>{word}",
        f"echo {shlex.quote(json.dumps(ANSWER))}",
    )
    package = environment / "lib" / "python3.11" / "site-packages" / "jupyter_server"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    return word


def test_what_lies_about_is_run_by_nobody(place: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_ROOT", "x")
    word = plant(place / "env")
    assert prepare._common_jupyter(context)  # the executable that it names ends well, whoever runs it
    said = word.read_text().splitlines()
    assert said[:4] == ["65534", "65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert "SECRET_OF_ROOT=x" not in said


def test_what_a_script_on_the_path_names_is_run_by_nobody(place: Path, context: Context) -> None:
    word = plant(place / "env")
    (place / "env" / "lib").rename(place / "elsewhere")  # so that it is not looked at for its own sake
    script = place / "path" / "jupyter-server"
    script.parent.mkdir()
    script.write_text(f"#!{place}/env/bin/python\n")
    script.chmod(0o755)
    assert prepare._common_jupyter(context)
    assert word.read_text().startswith("65534\n")


def test_an_environment_that_not_all_can_read_is_not_everybodys(place: Path, context: Context) -> None:
    word = plant(place / "env")
    os.chown(place / "env", 64811, 64811)
    (place / "env").chmod(0o700)
    assert not prepare._common_jupyter(context)
    assert word.read_text() == ""


# -- an environment for all -------------------------------------------------------------------------------------------


@pytest.fixture
def environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that was built, and not finished."""
    made = place / "env" / KEY
    (made / "lib").mkdir(parents=True)
    (made / "lib" / "module.py").write_text("x = 1\n")
    (made / "lib" / "module.py").chmod(0o600)
    has = plan.Found("", *ANSWER.values())
    assert parts.serves(has, prepare.UI)
    write_python(
        made,
        f'[ "$2" != -c ] || {{ echo {shlex.quote(json.dumps(ANSWER))}; exit; }}',
        f'exec {sys.executable} "$@"',
    )
    monkeypatch.setattr(prepared, "ENVIRONMENTS", str(place / "env"))
    monkeypatch.setattr(parts, "environment_key", lambda ui, context: KEY)
    monkeypatch.setattr(preparation, "STATE_FILE", str(place / "preparation.json"))
    monkeypatch.setattr(attributes, "PAUSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setattr(attributes, "HOST", f"127.0.0.1:{closed.getsockname()[1]}")
    return made


def place_environment(context: Context) -> list[str]:
    """What it did."""
    wire = Console(lambda _: None)
    assert prepare._place_environment(context, prepare._Progress(wire, attributes.Metadata())) == KEY
    return wire.lines


def test_an_environment_that_was_not_finished_is_finished(environment: Path, context: Context) -> None:
    for _ in range(2):
        assert place_environment(context) == ["== Compiling Jupyter"]
        assert list((environment / "lib" / "__pycache__").glob("module.*.pyc"))
        assert (environment / "lib" / "module.py").stat().st_mode & 0o777 == 0o644
        assert place_environment(context) == []
        # As if it had been killed in the middle of that.
        (environment / prepare.COMPLETE).unlink()
        (environment / "lib" / "module.py").chmod(0o600)
        shutil.rmtree(environment / "lib" / "__pycache__")


def test_the_server_of_a_user_without_a_home_waits_for_the_first_login(environment: Path, context: Context) -> None:
    """As of one whom a directory service knows, or whom the cloud's agent is just making."""
    account = pwd.getpwnam("nobody")
    assert not Path(account.pw_dir).exists()
    progress = prepare._Progress(Console(lambda _: None), attributes.Metadata())
    for name, lacks in ((account.pw_name, "has no home yet"), ("nobody-at-all", "does not exist yet")):
        prepare._start_server_of(name, context, progress)
        assert isinstance(context.wire, Console)
        assert context.wire.lines[-1] == f"The user {name} {lacks}: the first login starts the server"


# -- a unit that does not start ---------------------------------------------------------------------------------------

SYSTEMCTL = """#!/bin/sh
[ "$1" != start ] || { echo "Job for $2 failed."; exit 1; }
"""
JOURNALCTL = """#!/bin/sh
for last; do :; done
case $*$last in
--sync*) touch "$0.synced" ;;
*--boot*--output=cat*--lines=20*_SYSTEMD_UNIT=remote-runtime@nobody.service)
    [ -e "$0.synced" ] || exit 1
    for number in $(seq 30); do echo "line $number"; done
    printf '\033[31mNo answer from https://ada:sesame@index.example/\033[0m\n'
    ;;
*) echo 'Failed to add match'; exit 1 ;;
esac
"""


@pytest.mark.parametrize("journal", [True, False])
def test_why_a_unit_did_not_start_is_told(
    environment: Path, context: Context, monkeypatch: pytest.MonkeyPatch, journal: bool
) -> None:
    commands = environment.parent.parent / "commands"
    commands.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL if journal else "#!/bin/sh\nexit 1\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(os, "umask", lambda mode: mode)  # that of the tests stays as it is
    monkeypatch.setattr(system, "has_systemd", lambda: True)
    monkeypatch.setattr(system, "RUN_DIRECTORY", str(environment))
    account = pwd.getpwnam("nobody")
    monkeypatch.setattr(prepare, "_do", lambda context, *_: system.start_server(account, context.deadline))
    shown: list[str] = []
    assert prepare.prepare(context, Console(shown.append), []) == 1
    told = preparation.report()
    assert told.state == "failed"
    said = [f"line {number}" for number in range(12, 31)] + ["[31mNo answer from https://index.example/[0m"]
    expected = ["Job for remote-runtime@nobody.service failed.", *(said if journal else [])]
    assert [line for line in told.log if not line.startswith("systemctl ended")] == expected
    assert shown[-len(expected) :] == expected


def test_the_reason_of_a_failure_is_told_without_credentials(
    environment: Path, context: Context, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "RUN_DIRECTORY", str(environment))
    with prepare._Progress(Console(lambda _: None), attributes.Metadata()) as progress:
        progress.end("failed", "no answer from https://ada:sesame@index.example/simple")
    told = capfd.readouterr().out + Path(preparation.STATE_FILE).read_text()
    assert told.count("https://index.example/simple") == 2
    assert "sesame" not in told
