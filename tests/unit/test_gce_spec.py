"""From the VM that is wanted to the request that makes it."""

from __future__ import annotations

from typing import Any

import pytest

from remote_runtime.errors import UsageError
from remote_runtime.providers.gce import images
from remote_runtime.providers.gce.gpus import Gpu
from remote_runtime.providers.gce.spec import GceSpec, check, label_value, machine_type, request_body, summary

ZONE = "us-central1-a"


def body(spec: GceSpec, **metadata: str) -> dict[str, Any]:
    return request_body(
        spec,
        project="p",
        zone=ZONE,
        source_image="projects/i/global/images/x",
        owner="ada@example.com",
        metadata=metadata,
    )


def items(request: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in request["metadata"]["items"]}


def test_usual_vm_lives_for_a_day_and_says_whose_it_is() -> None:
    request = body(GceSpec("trainer"))
    assert request["machineType"] == f"zones/{ZONE}/machineTypes/e2-standard-4"
    assert request["labels"] == {"created-by": "remote-runtime", "owner": "ada_example_com"}
    assert request["scheduling"] == {
        "provisioningModel": "STANDARD",
        "automaticRestart": True,
        "maxRunDuration": {"seconds": "86400"},
        "instanceTerminationAction": "STOP",
    }
    assert request["networkInterfaces"] == [
        {"network": "global/networks/default", "accessConfigs": [{"name": "external-nat", "type": "ONE_TO_ONE_NAT"}]}
    ]
    assert "serviceAccounts" not in request
    assert items(request)["enable-guest-attributes"] == "TRUE"


def test_spot_vm_can_be_deleted_at_its_end() -> None:
    scheduling = body(GceSpec("x", spot=True, at_end="delete", max_run_seconds=None))["scheduling"]
    assert scheduling == {
        "provisioningModel": "SPOT",
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
        "instanceTerminationAction": "DELETE",
    }


def test_unlimited_standard_vm_has_no_end() -> None:
    scheduling = body(GceSpec("x", max_run_seconds=None))["scheduling"]
    assert scheduling == {"provisioningModel": "STANDARD", "automaticRestart": True}


def test_attached_gpu_is_named_and_stops_migration() -> None:
    request = body(GceSpec("x", gpu=Gpu.parse("t4:2")))
    kind = f"projects/p/zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4"
    assert request["guestAccelerators"] == [{"acceleratorType": kind, "acceleratorCount": 2}]
    assert request["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert request["machineType"].endswith("/n1-standard-8")


@pytest.mark.parametrize(
    ("gpu", "kind"),
    [
        ("l4", "g2-standard-4"),
        ("a100:2", "a2-highgpu-2g"),
        ("nvidia-h100-80gb:8", "a3-highgpu-8g"),
        ("h200:8", "a3-ultragpu-8g"),
    ],
)
def test_built_in_gpu_comes_with_the_machine_type(gpu: str, kind: str) -> None:
    request = body(GceSpec("x", gpu=Gpu.parse(gpu)))
    assert request["machineType"].endswith(f"/{kind}")
    assert "guestAccelerators" not in request
    assert request["scheduling"]["onHostMaintenance"] == "TERMINATE"


@pytest.mark.parametrize(
    ("gpu", "kind"),
    [
        ("l4", "g2-standard-16"),
        ("l4:8", "g2-standard-96"),
        ("l4", "g2-custom-8-32768"),
        ("rtx-pro-6000", "g4-standard-48"),
        ("nvidia-of-tomorrow:4", "a5-tomorrow-4g"),
    ],
)
def test_gpu_may_be_named_with_a_machine_type_that_brings_it(gpu: str, kind: str) -> None:
    request = body(GceSpec("x", gpu=Gpu.parse(gpu), machine_type=kind))
    assert request["machineType"].endswith(f"/{kind}")
    assert "guestAccelerators" not in request
    assert request["scheduling"]["onHostMaintenance"] == "TERMINATE"


def test_machine_type_that_brings_its_gpu_needs_no_option() -> None:
    assert body(GceSpec("x", machine_type="g2-standard-8"))["scheduling"]["onHostMaintenance"] == "TERMINATE"


def test_network_choices() -> None:
    private = body(GceSpec("x", subnet="inner", external_ip=False))
    assert private["networkInterfaces"] == [{"subnetwork": "regions/us-central1/subnetworks/inner"}]
    named = body(GceSpec("x", network="mine"))["networkInterfaces"][0]
    assert named["network"] == "global/networks/mine"


def test_service_account_has_full_scopes_by_name() -> None:
    request = body(GceSpec("x", service_account="sa@p.iam.gserviceaccount.com", scopes=("storage-ro",)))
    assert request["serviceAccounts"] == [
        {"email": "sa@p.iam.gserviceaccount.com", "scopes": ["https://www.googleapis.com/auth/storage-ro"]}
    ]


def test_metadata_of_the_user_and_ours_are_merged() -> None:
    spec = GceSpec("x", metadata={"ssh-keys": "bob:k", "a": "b"}, startup_script="#!/bin/sh\n")
    assert items(body(spec, **{"ssh-keys": "ada:k"})) == {
        "enable-guest-attributes": "TRUE",
        "startup-script": "#!/bin/sh\n",
        "ssh-keys": "bob:k\nada:k",
        "a": "b",
    }


@pytest.mark.parametrize(
    "spec",
    [
        GceSpec("Trainer"),
        GceSpec("x" * 64),
        GceSpec("x-"),
        GceSpec("x", image="i", image_family="f"),
        GceSpec("x", image_project="p"),
        GceSpec("x", max_run_seconds=29),
        GceSpec("x", max_run_seconds=121 * 86400),
        GceSpec("x", startup_script="a", metadata={"startup-script": "b"}),
        GceSpec("x", labels={"Team": "a"}),
        GceSpec("x", labels={"team": "a b"}),
        GceSpec("x", gpu=Gpu("nvidia-l4", 3)),
        GceSpec("x", gpu=Gpu("nvidia-l4"), machine_type="n1-standard-4"),
        GceSpec("x", gpu=Gpu("nvidia-tesla-t4"), machine_type="e2-standard-4"),
        GceSpec("x", gpu=Gpu("nvidia-l4"), machine_type="g2-standard-96"),
        GceSpec("x", gpu=Gpu("nvidia-l4", 8), machine_type="g2-standard-4"),
        GceSpec("x", gpu=Gpu("nvidia-tesla-a100"), machine_type="a2-ultragpu-1g"),
        GceSpec("x", gpu=Gpu("nvidia-h200-141gb")),
        GceSpec("x", gpu=Gpu("nvidia-of-tomorrow")),
        GceSpec("x", gpu=Gpu("nvidia-of-tomorrow"), machine_type="g2-standard-4"),
    ],
)
def test_impossible_vms_are_refused_before_anything_is_asked(spec: GceSpec) -> None:
    with pytest.raises(UsageError) as caught:
        check(spec)
    assert caught.value.code == "bad_spec"
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "T4", "t4:", "t4:0", "t4:x", "t4:2:3", ":2"])
def test_gpu_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a GPU"):
        Gpu.parse(text)


def test_label_value_is_always_fit() -> None:
    assert label_value("Ada.Lovelace@example.com") == "ada_lovelace_example_com"
    assert len(label_value("x" * 100)) == 63


def test_summary_says_what_it_costs() -> None:
    text = summary(GceSpec("x", gpu=Gpu("nvidia-tesla-t4"), spot=True), ["a", "b", "c"])
    assert text.startswith("the VM x: spot n1-standard-8 with 1 x nvidia-tesla-t4, 50 GB pd-balanced, ")
    assert text.endswith("in a (or 2 other zones), stopped after 24 h")
    assert summary(GceSpec("x", max_run_seconds=None), ["a"]).endswith("in a, running until it is stopped")
    assert "deleted after 90 min" in summary(GceSpec("x", max_run_seconds=5400, at_end="delete"), ["a"])


def test_own_machine_type_stays() -> None:
    assert machine_type(GceSpec("x", machine_type="n2-standard-4")) == "n2-standard-4"


# -- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (GceSpec("x"), images.Wanted("debian-cloud", "debian-12")),
        (GceSpec("x", gpu=Gpu("nvidia-l4")), images.Wanted("deeplearning-platform-release")),
        (GceSpec("x", image_family="ubuntu-2404-lts-amd64"), images.Wanted("ubuntu-os-cloud", "ubuntu-2404-lts-amd64")),
        (GceSpec("x", image_family="common-cpu"), images.Wanted("deeplearning-platform-release", "common-cpu")),
        (GceSpec("x", image_family="ours"), images.Wanted("mine", "ours")),
        (GceSpec("x", image_family="ours", image_project="q"), images.Wanted("q", "ours")),
        (GceSpec("x", image="i"), images.Wanted("mine", image="i")),
        (
            GceSpec("x", image="https://compute/v1/projects/q/global/images/i"),
            images.Wanted("", image="projects/q/global/images/i"),
        ),
    ],
)
def test_image_that_is_looked_for(spec: GceSpec, wanted: images.Wanted) -> None:
    assert images.wanted(spec, "mine") == wanted


def test_newest_image_for_gpus_has_the_newest_cuda() -> None:
    def image(family: str, name: str, **more: Any) -> dict[str, Any]:
        return {"family": family, "name": name, "creationTimestamp": "2026-01-01", **more}

    found = images.newest_for_gpus(
        [
            image("common-cu110", "old"),
            image("common-cu128-ubuntu-2204-nvidia-570", "b"),
            image("common-cu129-ubuntu-2204-nvidia-580", "dead", deprecated={"state": "DEPRECATED"}),
            image("common-cu128-ubuntu-2404-nvidia-570", "c"),
            image("common-cu13-ubuntu-2404-nvidia-590", "d"),
            image("pytorch-2-7-cu128-ubuntu-2404-nvidia-570", "e"),
        ]
    )
    assert found is not None
    assert found["name"] == "d"
    assert images.path(found, "dl") == "projects/dl/global/images/d"
    assert images.newest_for_gpus([image("common-cpu", "x")]) is None
