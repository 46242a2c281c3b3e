"""The stand-in against the real gcloud: what that takes for Google's cloud, is near enough."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.gce.cloud import Cloud

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed (cloud.google.com/sdk)")
ZONE = "us-central1-a"


def gcloud(*arguments: str) -> str:
    """What gcloud printed; the environment leads it to the stand-in, and to a home without keys."""
    argv = (
        ["gcloud", "compute", *arguments, f"--zone={ZONE}"]
        if "list" not in arguments
        else ["gcloud", "compute", *arguments]
    )
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gcloud_makes_sees_enters_and_deletes_machines(cloud: Cloud) -> None:
    """Two machines go by a batch; the login takes host keys from guest attributes and gives the project its key."""
    create = ["instances", "create", "one", "two", "--machine-type=e2-medium", "--image-family=debian-12"]
    gcloud(*create, "--image-project=debian-cloud", "--metadata=enable-guest-attributes=TRUE", "--labels=owner=ada")
    listed = json.loads(gcloud("instances", "list", "--filter=name=one", "--format=json"))
    output = gcloud("ssh", "ada@one", "--command=hostname; whoami")
    methods = cloud.methods
    gcloud("instances", "delete", "one", "two", "--quiet")

    vm = listed[0]
    assert [(vm["name"], vm["status"], vm["labels"]) for vm in listed] == [("one", "RUNNING", {"owner": "ada"})]
    assert vm["networkInterfaces"][0]["accessConfigs"][0]["natIP"].startswith("127.")
    assert output.split()[-2:] == ["one", "root"], "ssh-keygen prints too"
    assert "instances.getGuestAttributes" in methods
    assert "ada:ssh-rsa " in cloud.world.common_metadata["ssh-keys"]
    assert (cloud.vms, cloud.disks) == ([], [])
    assert [call.method for call in cloud.calls if call.status != 200] == []
