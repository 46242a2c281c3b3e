"""The startup script for real, as root: the story of one VM, from its first boot to the removal of all of ours."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from remote_runtime import bootstrap, startup_script
from remote_runtime._threads import Deadline
from remote_runtime.events import Event, Notice, StepProgress
from remote_runtime.model import ServerInfo, ServerOptions
from tests.provisioning.vm import SECONDS, Prepared, until

pytestmark = [pytest.mark.egress, pytest.mark.timeout(300)]

STORY: dict[str, str] = {}
"""What one chapter leaves for the next: the inventory before, URLs."""
JUPYTERS = (".ipython", ".jupyter", ".local/share/jupyter", ".npm")
"""What Jupyter itself, and the kernels that somebody ran, may leave in a home; provisioning/README.md has the same."""


def ensured(machine: Prepared, user: str, **options: bool) -> tuple[ServerInfo, list[Event]]:
    """What a connect of that user gets, and what it is told."""
    events: list[Event] = []
    server = bootstrap.ensure_server(
        machine.executor(user),
        ServerOptions(),
        token="",
        restart=True,
        on_event=events.append,
        deadline=Deadline(120),
        **options,
    )
    return server, events


def url(machine: Prepared, user: str) -> str:
    return machine.run("remote-runtime-url", user=user).stdout.splitlines()[-1]


def of_jupyter(path: str) -> bool:
    """Whether that path in a home is Jupyter's own, or a directory on the way there."""
    inside = path.split("/", 3)[3]
    return any(f"{inside}/".startswith(f"{place}/") or place.startswith(f"{inside}/") for place in JUPYTERS)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask what nsenter started to end."""
    for child in psutil.Process(process.pid).children():
        child.terminate()


def test_killed_in_the_middle_it_has_failed(machine: Prepared) -> None:
    """And says at which step; nothing half done is taken for whole."""
    machine.add_user("ada", 64811)
    machine.add_user("eve", 64812)
    STORY["before"] = "\n".join(sorted(machine.inventory()))
    with machine.begin(startup_script.render(user="ada")) as script:
        assert script.stdout
        for line in script.stdout:
            if "Installing Jupyter" in line:
                break
        until(lambda: bool(list(machine.root.glob("opt/remote-runtime/env/tools/*"))))
        machine.run("kill", "-KILL", str(machine.report()["pid"]))
    assert script.returncode == -signal.SIGKILL
    assert machine.state() == ("running", "Installing Jupyter")  # it could say no more
    assert not (machine.root / "opt/remote-runtime/prepared.json").exists()


def test_run_again_it_makes_the_machine_ready_for_who_waits(machine: Prepared) -> None:
    began = time.monotonic()
    with machine.begin(startup_script.render(user="ada")) as script:
        until(lambda: machine.report()["state"] == "running")
        server, events = ensured(machine, "eve", expects_preparation=True)
        said = script.communicate(timeout=SECONDS)[0].splitlines()
    print(f"prepared in {time.monotonic() - began:.1f} s")
    assert script.returncode == 0, machine.log()
    assert said[0] == "remote-runtime: Beginning"
    assert "remote-runtime: Installing Jupyter" in said
    assert said[-2:] == ["remote-runtime: Starting the Jupyter server of ada", "remote-runtime: ready"]
    assert machine.state() == (machine.report()["state"], machine.report()["step"]) == ("ready", "Ready")
    assert (machine.root / "var/log/remote-runtime.log").stat().st_mode & 0o777 == 0o600
    told = [event.text for event in events if isinstance(event, StepProgress)]
    assert "Preparing the VM: Installing Jupyter" in told
    assert not [event for event in events if isinstance(event, Notice)]
    assert (server.adopted, server.installed) == (False, ())
    assert machine.listeners() == {("127.0.0.1", machine.record("ada")["port"]), ("127.0.0.1", server.port)}


def test_nobody_but_root_can_change_what_all_use(machine: Prepared) -> None:
    place = machine.root / "opt/remote-runtime"
    tools = place / "env" / "tools"
    assert tools.stat().st_mode & 0o777 == 0o700
    for found in [place, *place.rglob("*")]:
        if not found.is_symlink() and tools not in found.parents:
            assert found.stat().st_uid == 0, found
            assert not found.stat().st_mode & 0o022, found
    unreadable = ["!", "-readable", "-not", "-path", "*/env/tools"]
    done = machine.run("find", "/opt/remote-runtime", *unreadable, user="eve", check=False)
    assert [line for line in done.stdout.splitlines() if "env/tools" not in line] == []


def test_the_users_own_command_prints_the_url(machine: Prepared) -> None:
    STORY["url"] = url(machine, "ada")
    found = re.fullmatch(r"http://localhost:(\d+)/\?token=([A-Za-z0-9_-]{16,})", STORY["url"])
    assert found
    port, token = found.groups()
    answer = machine.run("curl", "-s", f"http://127.0.0.1:{port}/api/status?token={token}").stdout
    assert "started" in json.loads(answer)
    assert token not in machine.log() + machine.vm.serial + str(machine.report()) + str(machine.vm.guest_attributes)


def test_connect_adopts_and_installs_nothing(machine: Prepared) -> None:
    server, events = ensured(machine, "ada", expects_preparation=True)
    assert server.adopted
    assert server.installed == ()
    assert f"http://localhost:{server.port}/?token={server.token}" == STORY["url"]
    assert events == []
    programs = list((machine.root / "home/ada/.remote-runtime/guest").glob("*"))
    assert programs == []  # the program was not even sent


def test_another_user_has_a_server_of_his_own_from_the_same_parts(machine: Prepared) -> None:
    theirs = url(machine, "eve")
    assert theirs.partition("/?")[2] != STORY["url"].partition("/?")[2]
    assert machine.run("find", "/home/eve/.remote-runtime", "-name", "env", "-o", "-name", "ext").stdout == ""


def test_another_user_reads_neither_token_nor_files(machine: Prepared) -> None:
    (token_file,) = machine.root.glob("home/ada/.remote-runtime/machines/*/token")
    for path in (
        token_file,
        token_file.parent,
        token_file.parent / "server.log",
        machine.root / "var/log/remote-runtime.log",
    ):
        done = machine.run("cat", f"/{path.relative_to(machine.root)}", user="eve", check=False)
        assert "Permission denied" in done.stdout
    token = STORY["url"].partition("token=")[2]
    for directory in machine.root.glob("proc/[0-9]*"):
        assert token.encode() not in (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()


def test_a_second_run_changes_nothing(machine: Prepared) -> None:
    """Beside another Jupyter, which is left alone."""
    (python,) = machine.root.glob("opt/remote-runtime/env/*/bin/python")
    inside = "/" + str(python.relative_to(machine.root))
    argv = [*machine.enter("eve"), inside, "-m", "jupyter_server", "--port=8080", "--ServerApp.token=", "--no-browser"]
    before = machine.inventory()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as other:
        until(lambda: ("127.0.0.1", 8080) in machine.listeners())
        began = time.monotonic()
        said = machine.prepare(startup_script.render(user="ada"))
        print(f"again in {time.monotonic() - began:.1f} s")
        assert "Installing" not in said
        assert ("127.0.0.1", 8080) in machine.listeners()
        assert url(machine, "ada") == STORY["url"]
        end(other)
        end(other)  # it asks whether that was meant
    new = {path for path in machine.inventory() - before if "/home/eve/" not in path}
    assert new == set()


def test_what_was_not_finished_is_finished_by_the_next_run(machine: Prepared) -> None:
    """As where the run that built the environment was killed right after that."""
    (environment,) = (found.parent for found in machine.root.glob("opt/remote-runtime/env/*/.complete"))
    (environment / ".complete").unlink()
    (environment / "lib").chmod(0o700)
    said = machine.prepare(startup_script.render(user="ada"))
    assert "Compiling" in said
    assert "Installing" not in said
    assert (environment / ".complete").exists()
    assert (environment / "lib").stat().st_mode & 0o777 == 0o755


def test_a_unit_stays_while_its_server_does(machine: Prepared) -> None:
    theirs = url(machine, "eve")
    with machine.start("/opt/remote-runtime/run", "serve", user="eve") as unit:
        assert machine.word_to_systemd() == "READY=1"
        end(unit)
        assert unit.wait(30) == 0
    assert len(machine.listeners()) == 1  # it went with its unit, of course
    with machine.start("/opt/remote-runtime/run", "serve", user="eve") as unit:
        assert machine.word_to_systemd() == "READY=1"
        assert url(machine, "eve") == theirs
        machine.run("kill", "-KILL", str(machine.record("eve")["pid"]))
        assert unit.wait(30) == 1  # so systemd starts it again
    assert url(machine, "eve") == theirs


def test_a_unit_leaves_a_server_alone_that_was_stopped_on_purpose(machine: Prepared) -> None:
    theirs = url(machine, "eve")
    assert bootstrap.stop_server(machine.executor("eve"), Deadline(30))
    with machine.start("/opt/remote-runtime/run", "serve", user="eve") as unit:
        assert machine.word_to_systemd() == "READY=1"
        assert unit.wait(30) == 0
    assert len(machine.listeners()) == 1
    assert url(machine, "eve") == theirs


def test_who_comes_later_gets_a_server_at_the_first_login(machine: Prepared) -> None:
    assert "ready" in machine.prepare(startup_script.render(user="later"))
    assert "later does not exist yet" in machine.log()
    machine.add_user("later", 64813)
    STORY["before"] += "\n" + "\n".join(path for path in machine.inventory() if "/home/later" in path)
    login = ["bash", "--login", "-i", "-c", "echo in"]
    quiet = machine.run(*login, user="later", SSH_CONNECTION="a 1 b 22")
    assert "remote-runtime" not in quiet.stdout  # that was no terminal
    began = time.monotonic()
    done = machine.run("script", "-qec", shlex.join(login), "/dev/null", user="later", SSH_CONNECTION="a 1 b 22")
    assert [line for line in done.stdout.splitlines() if "bash:" not in line] == [
        "This machine has Jupyter for you: remote-runtime-url prints its URL.",
        "in",
    ]
    assert time.monotonic() - began < 10  # the server takes its time elsewhere
    until(lambda: machine.record("later").get("port", 0) in {port for _, port in machine.listeners()})
    assert f":{machine.record('later')['port']}/" in url(machine, "later")


def test_uninstalled_it_leaves_nothing(machine: Prepared) -> None:
    done = machine.run("/opt/remote-runtime/uninstall", user="ada", check=False)
    assert done.returncode == 1
    assert "needs root" in done.stdout
    said = machine.run("/opt/remote-runtime/uninstall").stdout
    assert "removed /opt/remote-runtime\n" in said
    assert "remove-metadata VM --keys=startup-script,remote-runtime-user" in said
    assert machine.listeners() == set()
    assert machine.state() == ("", "")
    left = machine.inventory() - set(STORY["before"].splitlines())
    assert {path for path in left if not (path.startswith("/home/") and of_jupyter(path))} == set()
    readme = (Path(__file__).parents[2] / "provisioning" / "README.md").read_text()
    assert [place for place in JUPYTERS if f"`~/{place}`" not in readme] == []
