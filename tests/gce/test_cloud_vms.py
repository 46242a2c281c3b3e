"""The stand-in's VMs from outside: logging in, host keys, booting, scripts, and what ends them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remote_runtime.errors import RemoteRuntimeError
from tests.gce.cloud import Cloud, firewalls
from tests.gce.person import PATIENCE, Person


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def test_a_vm_lets_in_whom_its_metadata_names(cloud: Cloud, ada: Person) -> None:
    vm = cloud.vm("trainer", metadata=ada.metadata())
    cloud.wait_for_boot(vm)

    assert ada.run(vm, 'hostname; whoami; echo "$HOME"').split() == ["trainer", "root", "/home/ada"]
    assert ada.run(vm, "echo hi", host=vm.internal_address).strip() == "hi"
    assert ada.is_refused(vm, user="root") == ada.is_refused(vm, user="eve")
    assert vm.guest_attributes["guest-agent", "sshable"].isdigit()


def test_keys_come_and_go_with_the_metadata(cloud: Cloud, ada: Person) -> None:
    vm = cloud.vm("trainer", metadata={"enable-guest-attributes": "TRUE"})
    cloud.wait_for_boot(vm)
    ada.is_refused(vm)
    assert vm.guest
    expires = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(time.time() + 30))
    kind, value = ada.public.split()[:2]
    line = f'ada:{kind} {value} google-ssh {{"userName":"ada","expireOn":"{expires}"}}'
    file = vm.guest.home("ada") / ".ssh" / "authorized_keys"
    with cloud.world.lock:
        vm.metadata["ssh-keys"] = line
        vm.guest.metadata_changed()
    assert eventually(lambda: file.exists() and value in file.read_text())
    assert ada.run(vm, "echo in").strip() == "in"
    with cloud.world.lock:
        vm.metadata["ssh-keys"] = ""
        vm.guest.metadata_changed()
    assert eventually(lambda: not file.exists())
    ada.is_refused(vm)


def test_with_os_login_metadata_keys_do_not_count(cloud: Cloud, ada: Person) -> None:
    vm = cloud.vm("trainer", metadata=ada.metadata(**{"enable-oslogin": "TRUE"}))
    cloud.wait_for_boot(vm)
    ada.is_refused(vm)
    account = {"username": "ada_example_com"}
    assert vm.guest
    with cloud.world.lock:
        cloud.world.login_profiles[cloud.user] = {
            "sshPublicKeys": {"1": {"key": ada.public}},
            "posixAccounts": [account],
        }
        vm.guest.metadata_changed()
    assert eventually(lambda: bool(vm.guest) and (vm.guest.home("ada_example_com") / ".ssh/authorized_keys").exists())

    assert ada.run(vm, 'echo "$USER"', user="ada_example_com").strip() == "ada_example_com"


def test_disks_and_host_keys_outlive_a_stop_and_addresses_do_not(cloud: Cloud, ada: Person) -> None:
    vm = cloud.vm("trainer", metadata=ada.metadata())
    cloud.wait_for_boot(vm)
    first, console = vm.address, vm.serial
    ada.run(vm, "echo kept >~/file; (setsid sleep 1000 >/dev/null 2>&1 </dev/null &)")
    with cloud.world.lock:
        vm.power_off()
        vm.power_on()
    cloud.wait_for_boot(vm)

    assert vm.address != first
    assert ada.run(vm, "cat ~/file; ps ax | grep -c '[s]leep 1000'").split() == ["kept", "0"]
    assert "BEGIN SSH HOST KEY KEYS" in console
    assert "BEGIN SSH HOST KEY KEYS" not in vm.serial
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((first, 22), 1)


def test_each_vm_is_a_machine_of_its_own(cloud: Cloud, ada: Person) -> None:
    """Its processes, its loopback and its files are nobody else's."""
    one, two = (cloud.vm(name, metadata=ada.metadata()) for name in ("one", "two"))
    for vm in (one, two):
        cloud.wait_for_boot(vm)
    listen = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 8888)); print('up', flush=True); time.sleep(60)"
    )
    for vm in (one, two):
        run = f'python3 -c "{listen}" >~/out 2>&1 </dev/null & while ! grep -qs . ~/out; do sleep 0.05; done; cat ~/out'
        assert ada.run(vm, run).strip() == "up"

    assert ada.run(one, "cat /etc/machine-id") != ada.run(two, "cat /etc/machine-id")
    assert "python3" not in ada.run(one, "ps ax | grep -v 'python3 -c' | grep init.py || true")
    ada.run(one, "echo changed >/etc/motd")
    assert "changed" not in ada.run(two, "cat /etc/motd 2>/dev/null || true")


def test_the_races_of_a_boot(cloud: Cloud, ada: Person) -> None:
    """Nothing listens; then sshd answers, but knows nobody; then it restarts; then all is well."""
    cloud.set_boot(sshd_after=0.5, keys_after=1.5, refused_for=0.5)
    vm = cloud.vm("trainer", metadata=ada.metadata())
    seen = []

    def look() -> bool:
        try:
            ada.run(vm, "true")
            answer = "in"
        except RemoteRuntimeError as error:
            answer = error.code
        if not seen or seen[-1] != answer:
            seen.append(answer)
        return answer == "in"

    assert eventually(look)
    refused, denied = seen[0], seen[1]
    assert seen == [refused, denied, refused, "in"]
    assert refused != denied


@pytest.mark.parametrize("source", ["203.0.113.0/24", "35.235.240.0/20"])
def test_a_firewall_decides_who_gets_an_answer(cloud: Cloud, source: str) -> None:
    vm = cloud.vm("trainer")
    cloud.wait_for_boot(vm)
    cloud.set_firewall({"name": "ssh", "sourceRanges": [source], "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]})
    assert vm.guest
    relayed = vm.guest.dial(firewalls.IAP)
    try:
        with socket.create_connection((vm.address, 22), 0.5) as connection:
            assert connection.recv(4) == b"SSH-"
            reached = True
    except TimeoutError:
        reached = False
    assert reached is source.startswith("203")
    assert (relayed is not None) is source.startswith("35")
    if relayed:
        with relayed:
            assert relayed.recv(4) == b"SSH-"


def test_a_startup_script_runs_as_on_the_real_thing(cloud: Cloud) -> None:
    put = "curl -sX PUT -H Metadata-Flavor:Google http://metadata.google.internal/computeMetadata/v1/instance"
    get = "curl -s -H Metadata-Flavor:Google http://metadata.google.internal/computeMetadata/v1/instance"
    script = f"""#!/bin/sh
echo "in $PWD as $(id -un), home '$HOME', on $({get}/name)"
{put}/guest-attributes/our/state -d ready
echo made >/etc/made-by-script
exit 3
"""
    vm = cloud.vm("trainer", metadata={"startup-script": script, "enable-guest-attributes": "TRUE"})
    cloud.wait_until(lambda: "Finished running startup scripts" in vm.serial)

    assert "startup-script: in / as root, home '', on trainer" in vm.serial
    assert "failed with error: exit status 3" in vm.serial
    assert vm.guest_attributes["our", "state"] == "ready"
    assert not Path("/etc/made-by-script").exists()
    assert vm.guest
    assert vm.guest.execute("cat", "/etc/made-by-script") == "made\n"


def test_a_frozen_vm_takes_connections_and_says_nothing(cloud: Cloud, ada: Person) -> None:
    vm = cloud.vm("trainer", metadata=ada.metadata())
    cloud.wait_for_boot(vm)
    assert vm.guest
    vm.guest.freeze()
    with socket.create_connection((vm.address, 22), 2) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        vm.guest.thaw()
        connection.settimeout(PATIENCE)
        assert connection.recv(4) == b"SSH-"


def test_a_stop_ends_connections_in_order(cloud: Cloud, ada: Person) -> None:
    vm = cloud.vm("trainer", metadata=ada.metadata())
    cloud.wait_for_boot(vm)
    argv = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(ada.key),
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]
    client = subprocess.Popen(
        [*argv, f"ada@{vm.address}", "echo in; sleep 100"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with client:
        assert client.stdout
        assert client.stdout.readline() == b"in\n"
        assert vm.guest
        vm.guest.shut_down()
        assert client.wait(PATIENCE) == 255
