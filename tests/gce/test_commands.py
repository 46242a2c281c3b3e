"""The command line with VMs of the stand-in."""

from __future__ import annotations

import json
from pathlib import Path

from remote_runtime.settings import Settings
from tests.cli.conftest import Running, json_lines, run
from tests.gce.cloud import Cloud, api_disabled
from tests.gce.test_connect import running

ZONE = ("--zone", "us-central1-a")
USER = ("--user", "ada")


def test_dry_run_makes_nothing(api: Cloud) -> None:
    answer = run("create", "trainer", *ZONE, *USER, "--gpu", "t4", "--spot", "--dry-run", "--json")
    assert answer.returncode == 0, answer.stderr
    body = json.loads(answer.stdout)["body"]
    assert body["name"] == "trainer"
    assert body["scheduling"]["provisioningModel"] == "SPOT"
    assert "instances.insert" not in api.methods


def test_every_option_is_in_the_request(api: Cloud, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\ntrue\n")
    options = [
        *("--machine-type", "n1-standard-4", "--gpu", "t4:2", "--image-family", "debian-12"),
        *("--image-project", "debian-cloud", "--disk-size", "99", "--disk-type", "pd-ssd"),
        *("--spot", "--max-run-duration", "90m", "--at-end", "delete", "--network", "lab", "--subnet", "west"),
        *("--no-external-ip", "--service-account", "bot@p.iam.gserviceaccount.com", "--scope", "devstorage.read_only"),
        *("--label", "team=vision", "--label", "cost=low", "--tag", "ssh", "--metadata", "a=b=c"),
        *("--startup-script", str(script), "--secure-boot"),
    ]
    answer = run("create", "trainer", *ZONE, *USER, *options, "--dry-run", "--json")
    assert answer.returncode == 0, answer.stderr
    request = json.loads(answer.stdout)
    body = request["body"]
    assert (request["project"], request["zones"]) == ("test-project", [ZONE[1]])
    assert body["machineType"].endswith("/n1-standard-4")
    [gpu] = body["guestAccelerators"]
    assert gpu["acceleratorType"].endswith("/nvidia-tesla-t4")
    assert gpu["acceleratorCount"] == 2
    assert body["scheduling"] == {
        "provisioningModel": "SPOT",
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "maxRunDuration": {"seconds": "5400"},
        "instanceTerminationAction": "DELETE",
    }
    [disk] = body["disks"]
    initial = disk["initializeParams"]
    assert initial["diskSizeGb"] == "99"
    assert initial["diskType"].endswith("/pd-ssd")
    assert "debian-12" in initial["sourceImage"]
    assert initial["labels"] == body["labels"]
    assert body["labels"] == {
        "created-by": "remote-runtime",
        "owner": "ada_example_com",
        "team": "vision",
        "cost": "low",
    }
    [nic] = body["networkInterfaces"]
    assert nic["network"] == "global/networks/lab"
    assert nic["subnetwork"].endswith("/west")
    assert "accessConfigs" not in nic
    [account] = body["serviceAccounts"]
    assert account["scopes"] == ["https://www.googleapis.com/auth/devstorage.read_only"]
    assert body["tags"] == {"items": ["ssh"]}
    assert body["shieldedInstanceConfig"]["enableSecureBoot"] is True
    items = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert (items["a"], items["startup-script"]) == ("b=c", script.read_text())
    assert "instances.insert" not in api.methods


def test_zones_that_could_not_be_asked_are_in_the_list(api: Cloud) -> None:
    api.vm("trainer")
    api.world.unreachable_zones.add("us-west1-b")
    answer = run("list", "--vms", "--json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert [vm["name"] for vm in document["vms"]] == ["trainer"]
    assert document["unreachable_zones"] == ["us-west1-b"]


def test_nothing_is_spent_without_a_yes(api: Cloud) -> None:
    answer = run("create", "trainer", *ZONE, *USER, "--json")
    assert answer.returncode == 2
    error = json_lines(answer.stdout)[-1]
    assert error["code"] == "confirmation_needed"
    assert "e2-standard-4" in error["message"]
    assert run("connect", "--create", "trainer", *ZONE, *USER).returncode == 2
    assert api.vms == []


def test_the_life_of_a_vm_in_commands(api: Cloud) -> None:
    made = run(
        "create", "trainer", *ZONE, *USER, "-y", "--json", "--label", "team=vision", "--max-run-duration", "none"
    )
    assert made.returncode == 0, made.stderr
    assert json_lines(made.stdout)[-1]["event"] == "created"
    vm = api.find("trainer")
    assert vm is not None
    assert vm.labels["team"] == "vision"
    assert "maxRunDuration" not in vm.scheduling
    listed = run("list", "--vms", "--json")
    [one] = json.loads(listed.stdout)["vms"]
    assert (one["name"], one["zone"], one["status"], one["owner"]) == ("trainer", ZONE[1], "RUNNING", "ada_example_com")
    for verb, event, status in (("suspend", "suspended", "SUSPENDED"), ("resume", "resumed", "RUNNING")):
        answer = run(verb, "trainer", "--json")
        assert answer.returncode == 0, answer.stderr
        assert json_lines(answer.stdout)[-1]["event"] == event
        assert vm.status == status
    deleted = run("delete", "trainer", "-y", "--keep-disks")
    assert deleted.returncode == 0, deleted.stderr
    assert (len(api.vms), len(api.disks)) == (0, 1)


def test_failures_end_with_their_cure(api: Cloud) -> None:
    api.refuse("instances.aggregatedList", api_disabled("compute.googleapis.com", "42"), times=9)
    answer = run("list", "--vms", "--json")
    assert answer.returncode == 1
    error = json_lines(answer.stdout)[-1]
    assert error["code"] == "api_disabled"
    assert "gcloud services enable compute.googleapis.com --project=test-project" in error["hint"]


def test_connect_until_ctrl_c(cloud: Cloud, tmp_path: Path) -> None:
    vm = running(cloud)
    with Running(tmp_path / "run", "connect", "trainer", *USER, "--port", "auto", "--json") as command:
        command.until('"ready"')
        ready = json_lines(command.out)[-1]
        assert (ready["provider"], ready["instance"]) == ("gce", "trainer")
        assert ready["token"] not in command.err
        assert command.end() == 0
    removed = run("uninstall", "trainer", "-y")
    assert removed.returncode == 0, removed.stderr
    assert "ssh-keys" not in vm.metadata


def test_a_sandbox_can_not_be_suspended(settings: Settings) -> None:
    answer = run("suspend", "--sandbox", "--json")
    assert answer.returncode == 1
    assert json_lines(answer.stdout)[-1]["code"] == "not_supported"


def test_a_machine_one_has_can_not_be_reset(settings: Settings) -> None:
    answer = run("reset", "ada@host.invalid", "--json")
    assert answer.returncode == 1
    assert json_lines(answer.stdout)[-1]["code"] == "not_supported"
