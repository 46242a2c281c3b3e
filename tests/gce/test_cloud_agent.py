"""Google's own guest agent, as Debian builds it, in a VM of the stand-in: the stand-in's own does the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud, unavailable
from tests.gce.person import Person

pytestmark = [pytest.mark.egress, pytest.mark.slow]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files; it is not installed, for this machine is no VM of Google's."""
    if not shutil.which("apt-get"):
        pytest.skip("the guest agent comes from Debian's archive, by apt-get")
    directory = tmp_path_factory.mktemp("agent")
    argv = ["apt-get", "download", "google-guest-agent"]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"google-guest-agent can't be downloaded: {done.stderr.strip()}")
    (archive,) = directory.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, directory / "files"], check=True, timeout=60)
    return directory / "files"


@pytest.fixture
def bare_cloud(settings: Settings, tmp_path: Path) -> Iterator[Cloud]:
    """A cloud whose VMs have no agent."""
    if reason := unavailable():
        pytest.skip(reason)
    directory = tmp_path / "cloud"
    directory.mkdir()
    with Cloud(directory, has_agent=False) as cloud:
        yield cloud
        assert cloud.problems == []


def test_the_real_agent_does_what_ours_does(bare_cloud: Cloud, ada: Person, package: Path) -> None:
    """It makes the account, writes the keys as ours does, tells the host keys, and notices a change of metadata."""
    cloud = bare_cloud
    vm = cloud.vm("trainer", metadata=ada.metadata())
    cloud.wait_for_boot(vm)
    assert vm.guest
    shutil.copytree(package, vm.guest.root, dirs_exist_ok=True)
    vm.guest.popen("/usr/bin/google_guest_agent", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = vm.guest.root / "home" / "ada" / ".ssh" / "authorized_keys"
    cloud.wait_until(lambda: ("hostkeys", "ssh-ed25519") in vm.guest_attributes and keys.exists())

    assert keys.read_text() == f"# Added by Google\n{ada.public}\n"
    assert ada.run(vm, "id -un").strip() == "ada"
    with cloud.world.changed:
        vm.metadata["ssh-keys"] = f"eve:{ada.public}"
        cloud.world.changed.notify_all()
    cloud.wait_until(lambda: (vm.guest is not None) and (vm.guest.root / "home/eve/.ssh/authorized_keys").exists())
    assert ada.run(vm, "id -un", user="eve").strip() == "eve"
    cloud.wait_until(lambda: not keys.exists())
    ada.is_refused(vm)


def test_the_real_runner_runs_startup_scripts(bare_cloud: Cloud, package: Path) -> None:
    """As root, in its root directory, without a home; and it says how the script ended."""
    cloud = bare_cloud
    script = "#!/bin/sh\necho \"in $PWD as $(id -un), home '$HOME'\"\nexit 3\n"
    vm = cloud.vm("trainer", metadata={"startup-script": script})
    cloud.wait_for_boot(vm)
    assert vm.guest
    shutil.copytree(package, vm.guest.root, dirs_exist_ok=True)
    runner = vm.guest.popen(
        "/usr/bin/google_metadata_script_runner", "startup", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = runner.communicate(timeout=20)[0].decode()

    assert "startup-script: in / as root, home ''" in output
    assert "exit status 3" in output, "the words around it are not the same in all versions"
    assert "Finished running startup scripts" in output
