"""VMs without an external address, through the relay: as people reach them, and as the real gcloud does."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, NetworkError, RemoteRuntimeError
from remote_runtime.events import Event, LinkChanged
from remote_runtime.providers.gce import iap
from tests.gce.cloud import Cloud, Vm
from tests.gce.cloud.relay import NOT_AUTHORIZED, Relay, to_vms
from tests.gce.runtime import SECONDS, answers, give_jupyter, join

ZONE = "us-central1-a"


@pytest.fixture
def relay(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    with Relay(tmp_path, to_vms(cloud)) as relay:
        for name, value in relay.environment().items():
            monkeypatch.setenv(name, value)
        yield relay
        assert relay.problems == []


def running(cloud: Cloud, **fields: Any) -> Vm:
    """A VM without an external address, with the tests' own Jupyter where one may have been installed."""
    vm = cloud.vm("trainer", **{"external": False, "metadata": {"enable-guest-attributes": "TRUE"}, **fields})
    cloud.wait_for_boot(vm)
    give_jupyter(vm)
    return vm


def test_url_answers_and_outlives_cuts_of_the_websocket(cloud: Cloud, relay: Relay) -> None:
    running(cloud)
    events: list[Event] = []
    with join(events) as runtime:
        assert answers(runtime)
        before = relay.requests["connect"]
        for kind in ("reset", "going_away", "reauthenticate"):
            relay.cut_now(kind)
            assert answers(runtime)
        assert runtime.state == "connected"
    assert relay.requests == {"connect": before, "reconnect": 3}
    assert [event.state for event in events if isinstance(event, LinkChanged)].count("reconnecting") == 0


def test_external_address_is_left_aside_when_iap_is_asked_for(cloud: Cloud, relay: Relay) -> None:
    running(cloud, external=True)
    with join(reach="iap") as runtime:
        assert answers(runtime)
    assert relay.requests["connect"] == 1


def test_vm_that_was_stopped_is_told_apart(cloud: Cloud, relay: Relay) -> None:
    vm = running(cloud)
    with join() as runtime:
        cloud.preempt(vm)
        with pytest.raises(InstanceError) as caught:
            runtime.wait(SECONDS)
    assert caught.value.code == "instance_preempted"


def test_vm_that_is_preempted_comes_back(cloud: Cloud, relay: Relay) -> None:
    vm = running(cloud)
    events: list[Event] = []
    with join(events, restart=True) as runtime:
        cloud.preempt(vm)
        cloud.wait_until(lambda: LinkChanged in {type(e) for e in events if getattr(e, "state", "") == "reconnecting"})
        deadline = Deadline(SECONDS)
        while runtime.state != "connected":
            deadline.check("waiting for the VM")
            time.sleep(0.02)
        assert answers(runtime)


def error_of_connect(monkeypatch: pytest.MonkeyPatch) -> RemoteRuntimeError:
    """Of a VM that has been up for long, so that nobody waits for it."""
    monkeypatch.setattr("remote_runtime.providers.gce.patience.BOOT_SECONDS", 0.0)
    monkeypatch.setattr("remote_runtime.providers.gce.patience.BREATH_SECONDS", 0.0)
    with pytest.raises(RemoteRuntimeError) as caught:
        join()
    return caught.value


def test_closed_firewall_is_named_with_its_rule(cloud: Cloud, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    running(cloud)
    cloud.set_firewall()
    error = error_of_connect(monkeypatch)
    assert (type(error), error.code) == (NetworkError, "firewall_closed")
    assert "--source-ranges=35.235.240.0/20" in error.hint


def test_missing_role_is_named(cloud: Cloud, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    running(cloud)
    relay.refuse(NOT_AUTHORIZED, times=3)
    error = error_of_connect(monkeypatch)
    assert (type(error), error.code) == (InstanceError, "permission_denied")
    assert "roles/iap.tunnelResourceAccessor" in error.hint


# -- the relay against the real gcloud ---------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed (cloud.google.com/sdk)")
def test_gcloud_and_we_see_the_same_ssh_server(cloud: Cloud, relay: Relay) -> None:
    """What that takes for Google's relay is near enough; it also resumes after a cut."""
    vm = running(cloud)
    argv = ["gcloud", "compute", "start-iap-tunnel", vm.name, "22", "--listen-on-stdin", f"--zone={ZONE}"]
    argv += [f"--iap-tunnel-url-override={relay.url}", "--iap-tunnel-insecure-disable-websocket-cert-check"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ.copy()) as gcloud:
        assert gcloud.stdin and gcloud.stdout
        greeting = gcloud.stdout.readline()
        relay.cut_now("fin")
        gcloud.stdin.write(b"SSH-2.0-Test\r\n")
        gcloud.stdin.flush()
        after_cut = gcloud.stdout.read(6)
        gcloud.terminate()
    requests, relay.requests["connect"], relay.requests["reconnect"] = dict(relay.requests), 0, 0

    token = Path(os.environ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text
    deadline = Deadline(20)
    where: dict[str, Any] = {"project": cloud.project, "zone": ZONE, "instance": vm.name, "endpoint": relay.url}
    with iap.dial(**where, port=22, token=token, deadline=deadline) as sock:
        ours = sock.makefile("rb")
        our_greeting = ours.readline()
        relay.cut_now("fin")
        sock.sendall(b"SSH-2.0-Test\r\n")
        our_after_cut = ours.read(6)
        ours.close()

    assert greeting == our_greeting
    assert greeting.startswith(b"SSH-2.0-OpenSSH")
    assert (after_cut[5], our_after_cut[5]) == (20, 20), "the server's offer of algorithms, SSH_MSG_KEXINIT"
    assert requests == relay.requests == {"connect": 1, "reconnect": 1}
    assert len(set(relay.tokens)) == 1
