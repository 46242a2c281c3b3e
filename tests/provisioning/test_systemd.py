"""The startup script where systemd, Google's guest agent and its script runner are the real ones.

By hand, as `make vm`: a Debian is made for it, which takes minutes.
"""

from __future__ import annotations

import fcntl
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from remote_runtime import startup_script
from remote_runtime.guest import remove
from tests.gce.cloud import Cloud, Vm
from tests.provisioning.systemd import CGROUPS, Booted, booted, in_root, make_debian
from tests.provisioning.vm import until

pytestmark = [pytest.mark.egress, pytest.mark.slow, pytest.mark.timeout(900)]

LOCK_SECONDS = 30
USER = "ada"
STORY: dict[str, str] = {}


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("debian") / "root"
    make_debian(directory)
    directory.parent.chmod(0o755)
    return directory


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with Cloud(tmp_path, boots=False) as cloud:
        yield cloud


def vm_of(cloud: Cloud, **metadata: str) -> Vm:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDdyZ3YUyTAnfmOFOq1hGLeNyiRJ8aGBh4dTgCyrqLHu ada"
    script = startup_script.render(user=USER)
    items = {"enable-guest-attributes": "TRUE", "startup-script": script, "ssh-keys": f"{USER}:{key}", **metadata}
    return cloud.vm("vm", metadata=items)


def ready(cloud: Cloud, vm: Vm, machine: Booted) -> None:
    def state() -> str:
        with cloud.world.lock:
            return vm.guest_attributes.get(("remote-runtime", "state"), "")

    until(lambda: state() in ("ready", "failed") and finished(machine), 300)
    assert state() == "ready", machine.run("cat", "/var/log/remote-runtime.log")


def finished(machine: Booted) -> bool:
    return "active (running)" not in machine.run("systemctl", "status", "google-startup-scripts", check=False)


def url(machine: Booted) -> str:
    return machine.run("runuser", "-l", USER, "-c", "remote-runtime-url").splitlines()[-1]


def fails_and_says_why(machine: Booted) -> None:
    """Prepare it while the server can't start; then all is as it was."""
    unit, state = f"remote-runtime@{USER}", f"/home/{USER}/.remote-runtime"
    machine.run("systemctl", "stop", unit)
    machine.run("mv", state, f"{state}.aside")
    machine.run("touch", state)
    said = machine.run("/opt/remote-runtime/run", "prepare", "--user", USER, check=False)
    assert f"remote-runtime: failed: Starting the Jupyter server of {USER}: systemctl ended with status 1" in said
    report = json.loads(machine.run("cat", "/run/remote-runtime/preparation.json"))
    assert f"{state} on the VM is not a directory of this user" in " ".join(report["log"][-3:])
    machine.run("rm", state)
    machine.run("mv", f"{state}.aside", state)
    machine.run("systemctl", "reset-failed", unit)
    machine.run("systemctl", "start", unit)


def uninstalled_in_its_unit(machine: Booted) -> str:
    """What an uninstallation says in the control group that has the server's terminals."""
    unit = machine.run("systemctl", "show", "--property=ControlGroup", "--value", f"remote-runtime@{USER}").strip()
    hierarchy = "/sys/fs/cgroup/systemd" if CGROUPS.is_dir() else "/sys/fs/cgroup"
    enter = 'echo 0 >"$1/cgroup.procs" && exec /opt/remote-runtime/uninstall'
    return machine.run("sh", "-c", enter, "sh", hierarchy + unit, check=False)


def test_apt_locked_for_a_while_is_waited_for(debian: Path) -> None:
    """On a machine without Python, which is the only thing that apt is needed for; nothing runs it but us."""
    (debian / "startup").write_text(startup_script.render())
    with ExitStack() as locks:
        for name in ("apt/lists/lock", "dpkg/lock-frontend", "dpkg/lock"):
            fcntl.lockf(locks.enter_context((debian / "var/lib" / name).open("a")), fcntl.LOCK_EX)
        timer = threading.Timer(LOCK_SECONDS, locks.close)
        timer.start()
        began = time.monotonic()
        said = in_root(debian, "sh", "/startup").splitlines()
        timer.join()
    assert time.monotonic() - began > LOCK_SECONDS
    assert "remote-runtime: Installing python3" in said
    assert said[-1] == "remote-runtime: ready"
    assert "Could not get lock" in (debian / "var/log/remote-runtime.log").read_text()
    (debian / "startup").unlink()


def test_the_server_runs_from_the_boot_on(debian: Path, cloud: Cloud) -> None:
    """The agent makes the user when the script may be done already: then the next boot, or a login, starts it."""
    vm = vm_of(cloud)
    with booted(debian, cloud, vm) as machine:
        ready(cloud, vm, machine)
        until(lambda: "ada" in machine.run("getent", "passwd", USER, check=False))
        machine.power_off()
    vm.guest_attributes.clear()
    with booted(debian, cloud, vm) as machine:
        ready(cloud, vm, machine)
        unit = machine.run("systemctl", "status", f"remote-runtime@{USER}", check=False)
        assert "active (running)" in unit
        assert "enabled" in unit
        STORY["url"] = url(machine)
        assert re.fullmatch(r"http://localhost:8888/\?token=[0-9a-f]{48}", STORY["url"])
        journal = machine.run("journalctl", "--no-pager")
        assert "remote-runtime: ready" in journal
        assert STORY["url"].partition("token=")[2] not in journal
        machine.power_off()


def test_a_reboot_brings_the_same_server_back(debian: Path, cloud: Cloud) -> None:
    vm = vm_of(cloud)
    with booted(debian, cloud, vm) as machine:
        ready(cloud, vm, machine)
        assert url(machine) == STORY["url"]
        record = next(debian.glob(f"home/{USER}/.remote-runtime/machines/*/server.json"))
        pid = json.loads(record.read_text())["pid"]
        machine.run("kill", "-KILL", str(pid))  # as the kernel does when memory is out
        until(lambda: json.loads(record.read_text())["pid"] != pid)
        assert url(machine) == STORY["url"]
        fails_and_says_why(machine)
        assert url(machine) == STORY["url"]
        assert uninstalled_in_its_unit(machine) == remove.INSIDE + "\n"
        assert url(machine) == STORY["url"]
        machine.run("/opt/remote-runtime/uninstall")
        units = machine.run("systemctl", "list-units", "--all", "--no-pager", "remote-runtime*")
        assert "0 loaded units" in units
        assert "8888" not in machine.run("ss", "-tln")
        places = ("/etc", "/opt", "/usr/local", "/home", "/run")
        assert machine.run("find", *places, "-name", "*remote-runtime*", check=False) == ""
        with cloud.world.lock:
            assert not [key for key in vm.guest_attributes if key[0] == "remote-runtime"]
        machine.power_off()
