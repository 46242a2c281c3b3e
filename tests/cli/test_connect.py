"""``connect`` as scripts see it: what is on stdout, when it ends and how, what goes on afterwards."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime.model import Remembered
from remote_runtime.settings import Settings
from remote_runtime.store import Store
from tests.cli.conftest import COMMAND, Running, Start, add_to_ssh_config, json_lines, run
from tests.openssh import Sshd, StartSshd

URL = re.compile(r"http://localhost:(\d+)/\?token=([0-9a-f]{32,})")


def test_plain_prints_the_url_alone_and_ctrl_c_leaves_jupyter_running(connected: Running) -> None:
    url = connected.out.removesuffix("\n")
    match = URL.fullmatch(url)
    assert match, url
    with urllib.request.urlopen(url.replace("/?", "/api/status?"), timeout=20) as answer:
        assert answer.status == 200
    connected.until("To stop it  remote-runtime stop --provider ssh trainer", where="err", seconds=5)
    for hint in ("Connect to a local runtime", "other apps and services on this device", "Existing Jupyter Server"):
        assert hint in connected.err
    assert "Code in a notebook can do anything on trainer that you can" in connected.err
    assert match[2] not in connected.err
    began = time.monotonic()
    assert connected.end(signal.SIGINT) == 0
    assert time.monotonic() - began < 2
    assert "still runs" in connected.err
    assert connected.out == url + "\n"
    status = json_lines(run("status", "trainer", "--json").stdout)[0]
    assert (status["server"]["state"], status["state"], status["forward"]) == ("running", "disconnected", None)


def test_json_is_events_and_one_result_and_the_next_connect_finds_the_same(trainer: Sshd, start: Start) -> None:
    ready = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        running = start("connect", "--provider", "ssh", "trainer", "--port", "auto", "--json")
        running.until('"ready"')
        assert running.end(number) == 0
        *events, result = [line for line in json_lines(running.out) if line["event"] != "link_changed"]
        assert result.pop("event") == "ready"
        assert result.pop("pid") == running.process.pid
        assert {event["event"] for event in events} <= {"step_started", "step_progress", "step_done", "notice"}
        assert [event["step"] for event in events if event["event"] == "step_done"][-1] == "forward"
        assert running.out.count(result["token"]) == 2  # the token itself and the URL, in the one result line
        assert result["token"] not in running.err
        ready.append(result)
    assert ready[0] == ready[1]
    assert sorted(ready[0]) == ["instance", "port", "provider", "server_pid", "token", "url"]
    assert run("stop", "trainer", "--json").returncode == 0


def test_a_connected_machine_is_not_connected_twice(connected: Running) -> None:
    url = connected.out.strip()
    again = run("connect", "trainer", "--json")
    assert again.returncode == 1
    error = json_lines(again.stdout)[-1]
    assert (error["code"], error["url"], error["pid"]) == ("already_connected", url, connected.process.pid)
    assert again.stderr.count(url) == 1
    assert run("url", "trainer").stdout.strip() == url
    [listed] = json_lines(run("list", "--json").stdout)[0]["runtimes"]
    assert listed == {
        "name": "trainer",
        "provider": "ssh",
        "state": "connected",
        "url": url.partition("?")[0],
        "pid": connected.process.pid,
    }
    assert connected.process.poll() is None


def test_stop_ends_the_connection_and_the_server(connected: Running) -> None:
    status = json_lines(run("status", "trainer", "--json").stdout)[0]
    assert status["server"]["state"] == "running"
    assert status["forward"] == {
        "url": connected.out.strip().partition("?")[0],
        "pid": connected.process.pid,
        "answers": True,
    }
    stopped = run("stop", "trainer", "--json")
    assert stopped.returncode == 0, stopped.stderr
    result = json_lines(stopped.stdout)[-1]
    assert (result["event"], result["server_was_running"], result["machine_stopped"]) == ("stopped", True, False)
    assert connected.process.wait(5) == 0
    assert "Closed by SIGTERM.\n" in connected.err
    assert "Jupyter     stopped" in run("status", "trainer").stdout
    assert json_lines(run("stop", "trainer", "--json").stdout)[-1]["server_was_running"] is False


def test_the_log_is_shown_and_uninstall_removes_all(connected: Running, trainer: Sshd, settings: Settings) -> None:
    token = connected.out.partition("token=")[2].strip()
    log = run("logs", "trainer", "-n", "3")
    assert (log.returncode, len(log.stdout.splitlines())) == (0, 3)
    assert token not in log.stdout
    document = json_lines(run("logs", "trainer", "--json").stdout)[0]
    assert any("ServerApp" in line for line in document["lines"])
    assert (trainer.home / ".remote-runtime").is_dir()
    removed = run("uninstall", "trainer", "-y", "--json")
    assert removed.returncode == 0, removed.stderr
    assert json_lines(removed.stdout)[-1]["removed"]
    assert not (trainer.home / ".remote-runtime").exists()
    assert connected.process.wait(5) == 0
    assert json_lines(run("list", "--json").stdout) == [{"runtimes": []}]
    gone = run("url", "--provider", "ssh", "trainer", "--json")
    assert (gone.returncode, json_lines(gone.stdout)[0]["code"]) == (1, "instance_not_found")


def test_quiet_says_nothing_but_the_url(trainer: Sshd, start: Start) -> None:
    running = start("connect", "--provider", "ssh", "trainer", "--port", "auto", "-q")
    running.until("\n")
    assert running.end() == 0
    assert URL.fullmatch(running.out.strip())
    assert running.err == ""
    assert run("stop", "trainer", "-q").stderr == ""


def test_a_reader_that_goes_away_ends_a_connection_quietly(trainer: Sshd, settings: Settings) -> None:
    arguments = [*COMMAND, "connect", "--provider", "ssh", "trainer", "--port", "auto", "--json"]
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b'"ready"' not in process.stdout.readline():
            assert process.poll() is None
        process.stdout.close()
        trainer.kill_connections()  # so that there is something to be written
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
    assert run("stop", "trainer").returncode == 0


def test_a_link_that_fails_for_good_is_an_error(connected: Running, trainer: Sshd, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "another-computer")
    assert run("stop", "--provider", "ssh", "trainer", REMOTE_RUNTIME_HOME=elsewhere).returncode == 0
    trainer.kill_connections()
    assert connected.process.wait(30) == 1
    assert "! The connection was lost" in connected.err
    assert "error: " in connected.err
    assert "Closed" not in connected.err


@pytest.fixture
def silent(settings: Settings) -> Iterator[str]:
    """The address of a server that accepts, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"me@127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("verb", ["connect", "stop"])
def test_a_signal_before_the_end_is_the_exit_status(name: str, verb: str, silent: str, start: Start) -> None:
    running = start(verb, silent, "--json")
    running.until('"ssh"')
    number = int(signal.Signals[name])
    began = time.monotonic()
    assert running.end(number) == 128 + number
    assert time.monotonic() - began < 2
    error = json_lines(running.out)[-1]
    assert (error["event"], error["code"]) == ("error", "interrupted")
    assert "Traceback" not in running.err
    assert "error:" not in running.err
    assert ("Cancelled.\n" if name == "SIGINT" else f"Ended by {name}.\n") in running.err


@pytest.mark.parametrize("verb", ["connect", "status", "logs", "stop", "uninstall"])
def test_the_timeout_bounds_every_verb(verb: str, silent: str) -> None:
    began = time.monotonic()
    answer = run(verb, silent, "--timeout", "1", "--json", "-y")
    assert time.monotonic() - began < 8
    assert answer.returncode == 1
    error = json_lines(answer.stdout)[-1]
    assert error["event"] == "error"
    assert error["code"] == "timeout", error
    assert error["retryable"]


def test_stop_all_names_who_could_not_be_stopped(
    connected: Running, settings: Settings, start_sshd: StartSshd, start: Start, trainer: Sshd
) -> None:
    from remote_runtime.model import Remembered
    from remote_runtime.store import Store

    lost = start_sshd()
    add_to_ssh_config(settings, "lost", lost)
    lost.stop()
    Store(settings.state_dir).save(Remembered("lost", "ssh"))
    assert run("create", "--sandbox", "--json").returncode == 0
    answer = run("stop", "--all", "--json")
    assert answer.returncode == 1
    *events, error = json_lines(answer.stdout)
    assert (error["code"], "1 of 3" in error["message"], "lost" in error["message"]) == ("stop_failed", True, True)
    assert [event["text"].partition(":")[0] for event in events if event["event"] == "notice"] == ["lost"]
    assert connected.process.wait(5) == 0
    assert '"state": "stopped"' in run("status", "--sandbox", "--json").stdout
    Store(settings.state_dir).forget("ssh", "lost")
    good = run("stop", "--all")
    assert (good.returncode, good.stdout) == (0, "")
    assert "Stopped: sandbox, trainer" in good.stderr
    assert run("delete", "--sandbox", "-y").returncode == 0


def test_a_process_that_hangs_is_ended_by_stop_all_the_same(connected: Running) -> None:
    connected.process.send_signal(signal.SIGSTOP)
    assert run("stop", "trainer").returncode == 0
    assert connected.process.wait(5) == -signal.SIGKILL


def test_a_foreign_process_with_a_remembered_number_is_left_alone(connected: Running, settings: Settings) -> None:
    import dataclasses

    from remote_runtime.store import Store

    store = Store(settings.state_dir)
    known = store.load("ssh", "trainer")
    assert known is not None
    with subprocess.Popen(["sleep", "60"]) as innocent:
        # Long ago: its own connect may have begun within the same seconds as that process.
        store.save(dataclasses.replace(known, host_pid=innocent.pid, host_started=known.host_started - 3600))
        answer = run("stop", "trainer", "--json")
        assert (answer.returncode, json_lines(answer.stdout)[-1]["code"]) == (1, "already_connected")
        assert innocent.poll() is None
        innocent.kill()
    store.save(known)
    assert connected.process.poll() is None


def test_sandboxes_live_and_die(settings: Settings) -> None:
    def state() -> str:
        document: str = json_lines(run("status", "--sandbox", "--instance", "box", "--json").stdout)[0]["instance"][
            "state"
        ]
        return document

    def listed() -> list[str]:
        return [machine["name"] for machine in json_lines(run("list", "--json").stdout)[0]["runtimes"]]

    assert listed() == []
    created = run("create", "--sandbox", "--instance", "box", "--json")
    assert json_lines(created.stdout)[-1] == {
        "event": "created",
        "instance": "box",
        "provider": "sandbox",
        "state": "running",
    }
    assert (state(), listed()) == ("running", ["box"])
    assert run("stop", "box").returncode == 0
    assert state() == "stopped"
    assert json_lines(run("logs", "box", "--json").stdout)[0]["code"] == "instance_stopped"
    assert run("start", "box").returncode == 0
    assert state() == "running"
    assert run("stop", "box", "--machine").returncode == 0
    refused = run("delete", "box", "--json")
    assert (refused.returncode, json_lines(refused.stdout)[0]["code"]) == (2, "confirmation_needed")
    assert run("delete", "box", "--yes").returncode == 0
    assert listed() == []
    missing = run("status", "--sandbox", "--instance", "box", "--json")
    assert (missing.returncode, json_lines(missing.stdout)[0]["code"]) == (1, "instance_not_found")


def test_streams_that_are_closed_do_no_harm(settings: Settings) -> None:
    def shell(script: str) -> subprocess.CompletedProcess[str]:
        argv = ["sh", "-c", script, "sh", *COMMAND]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    answer = shell('"$@" list >&-; echo "$?"; "$@" list --json >&- 2>&-; echo "$?"; "$@" url --sandbox 2>&-; echo "$?"')
    assert answer.stdout.split() == ["0", "141", "1"]
    assert "Traceback" not in answer.stderr
    assert "Exception" not in answer.stderr
    answer = shell('{ "$@" list --json; echo "$?" >&2; } | true')
    assert answer.stderr.split()[-1] in ("0", "141")  # 0 if it was quicker than `true`
    assert "Exception" not in answer.stderr


def test_a_damaged_state_file_is_named_and_the_other_machines_are_listed(settings: Settings) -> None:
    store = Store(settings.state_dir)
    for name in ("one", "two"):
        store.save(Remembered(name, "ssh", local_port=8890, token="abc"))
    path = store.directory("ssh", "one") / "machine.json"
    path.write_bytes(b"{")
    answer = run("list")
    assert answer.returncode == 0, answer.stderr
    assert "two" in answer.stdout
    assert str(path) in answer.stderr.replace("\n", "")
    [document] = json_lines(run("list", "--json").stdout)
    assert [machine["name"] for machine in document["runtimes"]] == ["two"]
    [told] = document["damaged"]
    assert str(path) in told
