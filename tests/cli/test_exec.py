"""``remote-runtime exec``: a command on a machine, its output and its exit status as they are there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from remote_runtime.settings import Settings
from tests.cli.conftest import COMMAND, InTerminal, Start, run

Environ = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environ]:
    """The environment of a user who has a sandbox that runs."""
    root = tmp_path_factory.mktemp("exec")
    environment: Environ = {"HOME": str(root), "REMOTE_RUNTIME_HOME": str(root / "ours")}
    assert run("create", "--sandbox", **environment).returncode == 0
    yield environment
    assert run("delete", "--sandbox", "-y", **environment).returncode == 0


def execute(
    home: Environ, *arguments: str, options: tuple[str, ...] = (), data: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The finished call for that command in the sandbox."""
    return subprocess.run(
        [*COMMAND, "exec", "--sandbox", *options, "--", *arguments],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        env={**os.environ, **home},
        timeout=60,
        check=False,
    )


def test_output_and_exit_status_are_passed_on(home: Environ) -> None:
    done = execute(home, "sh", "-c", r"printf 'a\377\0\033[1m'; printf 'b\n' >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\xff\0\x1b[1m", b"b\n")
    done = execute(home, "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_no_shell_reads_the_arguments(home: Environ) -> None:
    done = execute(home, "printf", "%s|", "$HOME", "a b", "--json", "--", "ü\n", "*")
    assert done.stdout.decode() == "$HOME|a b|--json|--|ü\n|*|"


def test_ends_as_a_shell_tells_them(home: Environ) -> None:
    done = execute(home, "no-such-command")
    assert (done.returncode, done.stderr) == (127, b"no-such-command: No such file or directory\n")
    assert execute(home, "/").returncode == 126
    assert execute(home, "sh", "-c", "kill -9 $$").returncode == 128 + 9


def test_input_is_sent_only_if_asked_for(home: Environ) -> None:
    data = bytes(range(256)) * 1000
    assert execute(home, "cat", data=data).stdout == b""
    assert execute(home, "cat", options=("--stdin",), data=data).stdout == data


def test_json_is_one_document(home: Environ) -> None:
    done = execute(home, "sh", "-c", r"printf 'a\n\033\377'; echo b >&2; exit 7", options=("--json",))
    assert json.loads(done.stdout) == {"code": 7, "stdout": "a\n\x1b\ufffd", "stderr": "b\n"}
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (7, b"", 1)
    assert json.loads(execute(home, "no-such-command", options=("--json",)).stdout)["code"] == 127


def test_output_comes_while_the_command_runs(home: Environ, start: Start) -> None:
    running = start("exec", "--sandbox", "--", "sh", "-c", "echo out; echo err >&2; sleep 60", **home)
    running.until("out\n")
    running.until("err\n", where="err")
    assert running.process.poll() is None
    assert running.end() == 130
    assert running.err.endswith("Cancelled.\n")


def test_nobody_reads_the_output_any_more(home: Environ) -> None:
    with subprocess.Popen(
        [*COMMAND, "exec", "--sandbox", "--", "yes"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **home},
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(30) == 128 + 13
        assert process.stderr.read() == b""


def test_our_own_failures_are_ours(home: Environ, settings: Settings) -> None:
    assert run("exec", "--sandbox", "--", "true").returncode == 1, "this user has none"
    done = execute(home, "sleep", "60", options=("--timeout", "4", "--json"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] in ("command_timeout", "timeout")


def test_a_terminal_shows_what_the_command_says_and_no_more(home: Environ) -> None:
    with InTerminal(
        "exec", "--sandbox", "--", "sh", "-c", r"printf '\033[35mpurple\033[0m\n'; exit 3", **home
    ) as shown:
        assert shown.ended() == 3
    assert "\x1b[35mpurple\x1b[0m\r\n" in shown.shown
    assert "✓" not in shown.shown


def test_input_has_a_limit(home: Environ) -> None:
    done = execute(home, "cat", options=("--stdin", "--json"), data=bytes((64 << 20) + 1))
    assert done.returncode == 2
    assert json.loads(done.stdout)["code"] == "input_too_long"
