"""A VM of the stand-in that is made for one program alone."""

from __future__ import annotations

import sys

from remote_runtime import GceSpec, ServerOptions, Settings, connect
from tests.gce.cloud import Cloud
from tests.gce.runtime import SECONDS


def test_a_vm_is_made_used_and_deleted(cloud: Cloud) -> None:
    kept = cloud.vm("kept")
    with connect(
        "job",
        zone="us-central1-a",
        create=GceSpec("job"),
        ephemeral=True,
        user="ada",
        server=ServerOptions(python=sys.executable),
        local_port="auto",
        timeout=SECONDS,
        settings=Settings.load(),
    ) as runtime:
        assert runtime.execute("6 * 7").text == "42\n"
        assert sorted(vm.name for vm in cloud.vms) == ["job", "kept"]
    assert cloud.vms == [kept]
    assert cloud.methods.count("instances.insert") == cloud.methods.count("instances.delete") == 1
