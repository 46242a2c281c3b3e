"""Preparing VMs that reach nothing but their metadata server."""

from __future__ import annotations

import pytest

from remote_runtime import bootstrap, startup_script
from remote_runtime._threads import Deadline
from remote_runtime.events import Event, Notice
from remote_runtime.model import ServerOptions
from tests.gce.runtime import give_jupyter
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
    give_jupyter(lonely.vm)
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
    give_jupyter(lonely.vm)
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


def test_two_at_a_time_take_turns(lonely: Prepared) -> None:
    give_jupyter(lonely.vm)
    script = startup_script.render()
    with lonely.begin(script) as one, lonely.begin(script) as other:
        ends = [process.communicate(timeout=60)[0].splitlines()[-1] for process in (one, other)]
    assert ends == ["remote-runtime: ready"] * 2
    assert lonely.state() == ("ready", "Ready")
