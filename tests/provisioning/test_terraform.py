"""The Terraform module, as far as it goes without Google's provider: its form, its variables, and what it computes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from remote_runtime import startup_script
from remote_runtime.providers.gce.spec import TOOL, TOOL_LABEL

MODULE = Path(__file__).parents[2] / "provisioning" / "terraform"
COMPUTED = """
output "metadata" { value = local.metadata }
output "has_gpu" { value = local.has_gpu }
output "tags" { value = local.tags }
output "labels" { value = var.labels }
"""
RESOURCE = "google_compute_instance.this"
AS_MADE = """
locals {
  made = {
    instance_id       = "42"
    project           = "lab"
    network_interface = [{ network_ip = "10.0.0.2", access_config = [] }]
  }
}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed (developer.hashicorp.com/terraform/install)"
)


@pytest.fixture
def without_resources(tmp_path: Path) -> Path:
    """A module with the same variables, computations and outputs, and with plain values in place of the VM."""
    for name in ("variables.tf", "locals.tf"):
        shutil.copy(MODULE / name, tmp_path)
    (tmp_path / "computed.tf").write_text(COMPUTED)
    outputs = (MODULE / "outputs.tf").read_text()
    assert f"{RESOURCE}.project" in outputs
    (tmp_path / "outputs.tf").write_text(AS_MADE + outputs.replace(RESOURCE, "local.made"))
    terraform(tmp_path, "init", "-backend=false")
    return tmp_path


def terraform(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "CHECKPOINT_DISABLE": "1",  # it asks for updates otherwise
        "TF_CLI_CONFIG_FILE": os.devnull,
        "TF_IN_AUTOMATION": "1",
    }
    return subprocess.run(
        ["terraform", f"-chdir={directory}", *arguments, "-no-color"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def computed(module: Path, **variables: Any) -> tuple[dict[str, Any], str]:
    """The outputs, or the errors, of the module with these variables."""
    script = startup_script.render()
    given = {"name": "trainer", "zone": "us-central1-a", "startup_script": script, **variables}
    (module / "terraform.tfvars.json").write_text(json.dumps(given))
    applied = terraform(module, "apply", "-auto-approve", "-input=false")
    if applied.returncode:
        return {}, applied.stderr
    outputs = json.loads(terraform(module, "output", "-json").stdout)
    return {name: output["value"] for name, output in outputs.items()}, ""


def test_form_is_terraforms_own() -> None:
    done = terraform(MODULE, "fmt", "-check", "-diff")
    assert done.returncode == 0, done.stdout + done.stderr


def test_metadata_has_the_rendered_script(without_resources: Path) -> None:
    found, error = computed(without_resources, user="ada", metadata={"enable-oslogin": "TRUE"})
    assert error == ""
    assert found["metadata"] == {
        "enable-guest-attributes": "TRUE",
        "enable-oslogin": "TRUE",
        "remote-runtime-user": "ada",
        "startup-script": startup_script.render(),
    }
    assert startup_script.is_ours(found["metadata"]["startup-script"])


def test_the_commands_that_are_told_name_the_project_and_the_user(without_resources: Path) -> None:
    found, error = computed(without_resources, user="ada")
    assert error == ""
    assert found["connect"] == (
        "remote-runtime connect --project lab --zone us-central1-a --user ada --instance trainer"
    )
    assert found["forward"] == (
        "gcloud compute ssh --project lab --zone us-central1-a ada@trainer -- -L 8888:127.0.0.1:8888"
    )
    assert found["labels"] == {TOOL_LABEL: TOOL}
    found, _ = computed(without_resources)
    assert found["connect"] == "remote-runtime connect --project lab --zone us-central1-a --instance trainer"
    assert " us-central1-a trainer -- " in found["forward"]


def test_machine_types_with_gpus_are_known(without_resources: Path) -> None:
    found, _ = computed(without_resources)
    assert (found["has_gpu"], found["tags"]) == (False, [])
    found, _ = computed(without_resources, machine_type="g2-standard-4", iap_firewall_rule=True, tags=["a"])
    assert (found["has_gpu"], found["tags"]) == (True, ["a", "trainer"])
    found, _ = computed(without_resources, machine_type="a4x-highgpu-4g")
    assert found["has_gpu"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"startup_script": "#!/bin/sh\necho mine\n"}, "remote-runtime startup-script >"),
        ({"metadata": {"startup-script": "x"}}, "startup-script-url"),
    ],
)
def test_another_script_is_refused(without_resources: Path, variables: dict[str, Any], said: str) -> None:
    found, error = computed(without_resources, **variables)
    assert found == {}
    assert said in " ".join(error.split())
