"""Prepared VMs of the stand-in: made so, connected while they boot and when they are ready, and without our tool."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest

from remote_runtime import cloud_init, startup_script
from remote_runtime._threads import Deadline
from remote_runtime.events import Event, Notice, StepProgress, log_event
from remote_runtime.machine import Machine
from remote_runtime.providers.gce import GceOptions, GceProvider, GceSpec
from remote_runtime.settings import Settings
from tests.cli.conftest import run
from tests.gce.cloud import Cloud, Vm
from tests.gce.runtime import answers, join
from tests.gce.test_connect import until

ZONE = "us-central1-a"
SECONDS = 60.0


def make(**options: Any) -> None:
    """The VM ``trainer``, prepared, as ``create --prepare`` makes it."""
    provider = GceProvider(Settings.load(), GceOptions(user="ada", zones=(ZONE,)))
    provider.create(GceSpec("trainer", prepare=True, **options), Deadline(SECONDS), log_event)


# -- the request ----------------------------------------------------------------------------------------------------


def test_a_prepared_vm_is_asked_for_with_the_script_and_its_user(api: Cloud) -> None:
    make(metadata={"startup-script-url": "gs://lab/setup.sh"})
    [vm] = api.vms
    assert vm.metadata["startup-script"] == startup_script.render()
    assert vm.metadata["remote-runtime-user"] == "ada"
    assert vm.metadata["startup-script-url"] == "gs://lab/setup.sh"
    assert vm.enabled("enable-guest-attributes")


def test_with_os_login_nobody_is_named_before_the_first_login(api: Cloud) -> None:
    make(metadata={"enable-oslogin": "TRUE"})
    [vm] = api.vms
    assert startup_script.is_ours(vm.metadata["startup-script"])
    assert "remote-runtime-user" not in vm.metadata


def test_the_option_of_the_command_line(api: Cloud) -> None:
    said = run("create", "trainer", "--zone", ZONE, "--user", "ada", "--prepare", "--dry-run", "--json")
    assert said.returncode == 0, said.stderr
    items = {item["key"]: item["value"] for item in json.loads(said.stdout)["body"]["metadata"]["items"]}
    assert startup_script.is_ours(items["startup-script"])
    assert items["remote-runtime-user"] == "ada"
    assert api.vms == []


@pytest.mark.parametrize(
    ("script", "seconds", "expected"),
    [
        (startup_script.render(), 240.0, True),
        (startup_script.render(), 0.0, False),  # it had all the time that it needs to begin
        ("#!/bin/sh\necho mine\n", 240.0, False),
    ],
    ids=["just started", "long ago", "another script"],
)
def test_a_script_of_ours_is_waited_for_after_a_start_alone(
    api: Cloud, monkeypatch: pytest.MonkeyPatch, script: str, seconds: float, expected: bool
) -> None:
    monkeypatch.setattr("remote_runtime.providers.gce.patience.PREPARATION_SECONDS", seconds)
    api.vm("trainer", metadata={"startup-script": script})
    instance = GceProvider(Settings.load(), GceOptions(user="ada")).ensure("trainer", Deadline(SECONDS), print)
    assert not instance.expects_preparation()  # nothing is known before it was asked for
    instance.resolve(Deadline(SECONDS))
    assert instance.expects_preparation() is expected


# -- connecting -----------------------------------------------------------------------------------------------------


def test_steps_are_shown_while_a_prepared_vm_boots(cloud_with_jupyter: Cloud) -> None:
    cloud = cloud_with_jupyter
    cloud.set_boot(sshd_after=2.0)
    make()
    vm = cloud.vms[0]
    with cloud.world.lock:
        vm.guest_attributes["remote-runtime", "step"] = "Installing\x1b[31m Jupyter"
        vm.guest_attributes["remote-runtime", "state"] = "running"
    events: list[Event] = []
    with join(events) as runtime:
        assert answers(runtime)
        assert runtime.run(["id", "-un"]).stdout == b"ada\n"
    said = [event.text for event in events if isinstance(event, StepProgress)]
    assert "Preparing the VM: Installing Jupyter" in said


def test_connecting_to_a_prepared_vm_installs_nothing(cloud_with_jupyter: Cloud) -> None:
    vm = prepared(cloud_with_jupyter)
    with join() as runtime:
        assert answers(runtime)
        server = runtime.server
        assert (server.installed, server.adopted, server.port) == ((), True, 8888)
    assert vm.guest
    assert list((vm.guest.home("ada") / ".remote-runtime").glob("guest/*")) == []  # not even our program was sent
    cloud_with_jupyter.forget_calls()
    with join() as again:
        assert again.server.pid == server.pid
    assert cloud_with_jupyter.methods == []


def test_connecting_while_it_is_prepared_shows_the_steps(cloud_with_jupyter: Cloud) -> None:
    make()
    events: list[Event] = []
    with join(events) as runtime:
        assert answers(runtime)
        assert runtime.server.installed == ()
    said = [event.text for event in events if isinstance(event, StepProgress)]
    assert [text for text in said if text.startswith("Preparing the VM: ")], said
    assert [event for event in events if isinstance(event, Notice) and event.level == "warning"] == []


def test_failed_preparation_is_told_and_made_up_for(cloud_with_jupyter: Cloud) -> None:
    """It has neither a Jupyter for all users nor a way to a package index; ada has a Jupyter of her own."""
    cloud = cloud_with_jupyter
    own = {"/home/ada/venv": cloud.world.links.pop("/opt/jupyter")}
    cloud.world.links.update(own)
    make()
    vm = cloud.vms[0]
    until(lambda: vm.guest_attributes.get(("remote-runtime", "state")) == "failed")
    assert "remote-runtime: failed: " in vm.serial
    events: list[Event] = []
    with join(events) as runtime:
        assert answers(runtime)
    [notice] = [event for event in events if isinstance(event, Notice) and event.code == "preparation_failed"]
    assert "Installing Jupyter" in notice.text


def test_reboot_brings_the_same_server_back_before_anybody_connects(cloud_with_jupyter: Cloud) -> None:
    vm = prepared(cloud_with_jupyter)
    with join() as runtime:
        before = runtime.server
    with cloud_with_jupyter.world.changed:
        vm.guest_attributes.clear()
        vm.reset()
    await_end(cloud_with_jupyter)
    with join() as runtime:
        after = runtime.server
        assert answers(runtime)
    assert (after.port, after.token, after.adopted) == (before.port, before.token, True)


def test_uninstalling_says_that_the_vm_is_still_prepared(cloud_with_jupyter: Cloud) -> None:
    vm = prepared(cloud_with_jupyter)
    with join():
        pass
    assert vm.guest
    vm.guest.execute("install", "-D", "/bin/true", cloud_init.PLACE)
    unit = served(vm)
    events: list[Event] = []
    machine = Machine("trainer", user="ada", settings=Settings.load(), on_event=events.append)
    assert machine.uninstall() == ["/home/ada/.remote-runtime"]
    assert unit.wait(SECONDS) == 0
    [notice] = [event for event in events if isinstance(event, Notice) and event.code == "still_prepared"]
    vm.guest.execute(notice.text.rpartition("sudo ")[2])
    for path in ("/opt/remote-runtime", cloud_init.PLACE):
        assert not (vm.guest.root / path.lstrip("/")).exists()


def served(vm: Vm) -> subprocess.Popen[bytes]:
    """What is the main process of ada's unit where systemd is, which would start it again if it failed."""
    assert vm.guest
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(vm.guest.root / "run" / "notify"))
        (vm.guest.root / "run" / "notify").chmod(0o777)
        systemd.settimeout(SECONDS)
        environment = ["env", "HOME=/home/ada", "NOTIFY_SOCKET=/run/notify"]
        argv = ["runuser", "-u", "ada", "--", *environment, "/opt/remote-runtime/run", "serve"]
        process = vm.guest.popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert systemd.recv(100) == b"READY=1"
    return process


@pytest.mark.slow
def test_script_that_never_says_anything_is_given_up(cloud_with_jupyter: Cloud) -> None:
    script = f"#!/bin/sh\n{startup_script.MARKER}0\nsleep 300\n"
    metadata = {"startup-script": script, "enable-guest-attributes": "TRUE"}
    cloud_with_jupyter.wait_for_boot(cloud_with_jupyter.vm("trainer", metadata=metadata))
    events: list[Event] = []
    with join(events) as runtime:
        assert answers(runtime)
    assert "preparation_silent" in [event.code for event in events if isinstance(event, Notice)]


def prepared(cloud: Cloud) -> Vm:
    """The VM ``trainer``, when its startup script is done."""
    make()
    return await_end(cloud)


def await_end(cloud: Cloud) -> Vm:
    """That VM, when its startup script has said that all is well."""
    [vm] = cloud.vms
    until(lambda: vm.guest_attributes.get(("remote-runtime", "state")) in ("ready", "failed"))
    assert vm.guest_attributes["remote-runtime", "state"] == "ready", vm.serial
    return vm


# -- without our tool -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed (cloud.google.com/sdk)")
def test_gcloud_alone_will_do(cloud_with_jupyter: Cloud) -> None:
    """As the README has it, but for the local port, which has to be free here, and the user's name."""
    prepared(cloud_with_jupyter)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ["gcloud", "compute", "ssh", "--zone", ZONE, "ada@trainer", "--", "-L", f"{port}:localhost:8888"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as gcloud:
        assert gcloud.stdin
        assert gcloud.stdout
        gcloud.stdin.write("remote-runtime-url\n")
        gcloud.stdin.flush()
        printed = next(line for line in gcloud.stdout if line.startswith("http://"))
        url = urlsplit(printed.strip())
        assert (url.hostname, url.port) == ("localhost", 8888)
        with urllib.request.urlopen(f"http://localhost:{port}/api/status?{url.query}", timeout=30) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://localhost:{port}/api/status", timeout=30)
        caught.value.close()
        assert caught.value.code == 403
        gcloud.stdin.close()
        assert gcloud.wait(30) == 0
