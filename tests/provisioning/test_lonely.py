"""Preparing VMs that reach nothing but their metadata server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from remote_runtime import bootstrap, startup_script
from remote_runtime._threads import Deadline
from remote_runtime.events import Event, Notice
from remote_runtime.guest import remove
from remote_runtime.model import ServerOptions
from tests.jupyter import kernels
from tests.provisioning.vm import Prepared, until

ADA = "ada:ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDdyZ3YUyTAnfmOFOq1hGLeNyiRJ8aGBh4dTgCyrqLHu ada"


def boot_with(machine: Prepared, **metadata: str) -> None:
    """Boot it again, with more metadata."""
    with machine.cloud.world.changed:
        machine.vm.metadata.update({name.replace("_", "-"): value for name, value in metadata.items()})
        machine.vm.reset()
    machine.cloud.wait_for_boot(machine.vm)


def await_end(machine: Prepared) -> None:
    until(lambda: "Finished running startup scripts" in machine.vm.serial)


def test_without_a_package_index_it_fails_readably(lonely: Prepared) -> None:
    boot_with(lonely, startup_script=startup_script.render())
    await_end(lonely)
    assert "remote-runtime: failed: Installing Jupyter: Jupyter could not be installed" in lonely.vm.serial
    assert "exit status 1" in lonely.vm.serial
    assert lonely.state() == ("failed", "Installing Jupyter")
    assert lonely.report()["log"][-1].startswith("Jupyter could not be installed")

    # Who connects is told, and goes on without it; the failure has passed meanwhile.
    lonely.give_jupyter()
    events: list[Event] = []
    server = bootstrap.ensure_server(
        lonely.executor("root", HOME="/root"),
        ServerOptions(),
        token="",
        restart=True,
        expects_preparation=True,
        on_event=events.append,
        deadline=Deadline(90),
    )
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.code == "preparation_failed"
    assert "Installing Jupyter" in notice.text
    assert "could not be installed" in notice.text
    assert not server.adopted

    # And the next boot brings it all about.
    boot_with(lonely)
    await_end(lonely)
    assert lonely.state() == ("ready", "Ready")


def test_a_reboot_brings_the_same_server_back(lonely: Prepared) -> None:
    """For the user whom the metadata names; where there is a Jupyter it is used, and nothing else installed."""
    lonely.give_jupyter()
    script = startup_script.render()
    boot_with(lonely, startup_script=script, remote_runtime_user="ada", ssh_keys=ADA)
    until(lambda: lonely.state()[0] == "ready")
    if "opt/jupyter" not in "".join(map(str, lonely.root.glob("opt/*"))):
        pytest.skip("the disk of such a VM does not outlive a boot here")
    assert not (lonely.root / "opt/remote-runtime/env").exists()
    url = lonely.run("remote-runtime-url", HOME="/home/ada").stdout
    assert url.startswith("http://localhost:8888/?token=")
    pid = lonely.record("ada")["started"]
    boot_with(lonely)
    until(lambda: "remote-runtime: ready" in lonely.vm.serial)
    assert lonely.record("ada")["started"] != pid
    assert lonely.run("remote-runtime-url", HOME="/home/ada").stdout == url
    assert url.strip().partition("token=")[2] not in lonely.vm.serial + str(lonely.vm.guest_attributes)


def test_damaged_on_its_way_it_does_nothing(lonely: Prepared) -> None:
    lines = startup_script.render().splitlines(keepends=True)
    middle = lines.index("END\n") - 100
    lines[middle] = lines[middle].swapcase()
    said = lonely.prepare("".join(lines), status=1)
    assert "remote-runtime: failed: Unpacking the program: what this script brings is damaged" in said
    assert lonely.state() == ("failed", "Unpacking the program: what this script brings is damaged")
    assert not list(lonely.root.glob("opt/remote-runtime/guest/*.pyz"))


WAITING = "remote-runtime: waiting for another run of this script to end"


def test_two_at_a_time_take_turns(lonely: Prepared) -> None:
    lonely.give_jupyter()
    script = startup_script.render()
    with lonely.begin(script) as one, lonely.begin(script) as other:
        said = [process.communicate(timeout=60)[0].splitlines() for process in (one, other)]
    assert [lines[-1] for lines in said] == ["remote-runtime: ready"] * 2
    assert sorted(lines[0] for lines in said) == ["remote-runtime: Beginning", WAITING]
    assert lonely.state() == ("ready", "Ready")
    assert (lonely.root / "run/remote-runtime/lock").stat().st_mode & 0o777 == 0o600


@contextmanager
def locked(machine: Prepared) -> Iterator[IO[str]]:
    """Hold the lock of preparations until what is yielded is closed."""
    machine.run("mkdir", "-p", "/run/remote-runtime")
    argv = [*machine.enter(), "flock", "/run/remote-runtime/lock", "sh", "-c", "echo held; read -r _"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield holder.stdin


def test_who_waits_for_another_run_says_nothing_for_it(lonely: Prepared) -> None:
    lonely.give_jupyter()
    lonely.run("mkdir", "-p", "/run/remote-runtime")
    of_the_other = lonely.root / "run/remote-runtime/preparation.json"
    of_the_other.write_text("{}")
    script = startup_script.render().replace("lock_seconds=900 ", "lock_seconds=1 ")
    with locked(lonely) as end:
        said = lonely.prepare(script, status=1)
        end.close()
    assert said.splitlines() == [WAITING, "remote-runtime: failed: another run of this script is still at work"]
    assert of_the_other.read_text() == "{}"
    assert lonely.state() == ("", "")
    assert not (lonely.root / "var/log/remote-runtime.log").exists()


def test_an_uninstallation_waits_and_can_be_run_again(lonely: Prepared) -> None:
    """Where some user's part resists, what it takes for that stays."""
    lonely.give_jupyter()
    lonely.add_user("ada", 64811)
    lonely.add_user("eve", 64812)
    lonely.prepare(startup_script.render())
    for user in ("ada", "eve"):
        lonely.run("remote-runtime-url", user=user)
    lonely.run("mkdir", "-p", "/home/eve/.remote-runtime/of-root/within")
    uninstall = [*lonely.enter(), "/opt/remote-runtime/uninstall"]
    with locked(lonely) as end:
        with subprocess.Popen(uninstall, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "waiting for the startup script to end\n"
            assert len(lonely.listeners()) == 2
            end.close()
            said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "removed the server of ada" in said
    assert "could not remove what eve has" in said
    assert said.endswith("run it again: sudo /opt/remote-runtime/uninstall\n")
    assert not (lonely.root / "home/ada/.remote-runtime").exists()
    assert not (lonely.root / "opt/remote-runtime/prepared.json").exists()
    assert not (lonely.root / "etc/profile.d/remote-runtime.sh").exists()
    lonely.run("rm", "-r", "/home/eve/.remote-runtime/of-root")
    said = lonely.run("/opt/remote-runtime/uninstall").stdout
    assert "removed the server of eve" in said
    places = ("opt", "run", "etc", "etc/profile.d", "usr/local/bin", "var/log", "home/ada", "home/eve")
    assert [path for place in places for path in (lonely.root / place).glob("*remote-runtime*")] == []


IN_A_KERNEL = """
import json, sys, urllib.request, websocket
place, _, token = sys.argv[1].replace("localhost", "127.0.0.1").partition("/?")
with urllib.request.urlopen(urllib.request.Request(f"{place}/api/kernels?{token}", b"{}")) as answer:
    kernel = json.load(answer)["id"]
connection = websocket.create_connection(f"{place.replace('http', 'ws')}/api/kernels/{kernel}/channels?{token}")
print(run_cell(connection, sys.argv[2]))
connection.close()
"""
"""Goes behind the text of tests/jupyter/kernels.py, as the project may lie where that machine does not see it."""


def test_inside_a_server_that_it_would_end_an_uninstallation_refuses(lonely: Prepared) -> None:
    """As in a terminal of Jupyter's; here the cell of a notebook, of root for want of sudo."""
    lonely.give_jupyter()
    lonely.prepare(startup_script.render())
    url = lonely.run("remote-runtime-url", HOME="/root").stdout.splitlines()[-1]
    cell = """
import json, subprocess
done = subprocess.run(["/opt/remote-runtime/uninstall"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
print(json.dumps([done.returncode, done.stdout]))
"""
    client = Path(kernels.__file__).read_text() + IN_A_KERNEL
    status, said = json.loads(lonely.run(sys.executable, "-c", client, url, cell).stdout)
    assert status == 1
    assert said.splitlines() == [remove.INSIDE]
    assert lonely.run("remote-runtime-url", HOME="/root").stdout.strip() == url
    assert lonely.state() == ("ready", "Ready")
    lonely.run("/opt/remote-runtime/uninstall")
    assert not (lonely.root / "root/.remote-runtime").exists()
