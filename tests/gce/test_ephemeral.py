"""A VM of the stand-in that is made for one program alone."""

from __future__ import annotations

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from remote_runtime import GceOptions, GceSpec, Runtime, ServerOptions, Settings, connect
from remote_runtime.errors import InstanceError
from remote_runtime.machines import known_machines
from remote_runtime.store import Store
from tests.gce.cloud import Cloud
from tests.gce.runtime import SECONDS

ZONE = "us-central1-a"


def alone(settings: Settings, **options: Any) -> Runtime:
    return connect(
        "job",
        create=GceSpec("job"),
        ephemeral=True,
        local_port="auto",
        server=ServerOptions(python=sys.executable),
        timeout=SECONDS,
        settings=settings,
        **options,
    )


def test_a_vm_is_made_used_and_deleted(cloud: Cloud) -> None:
    kept, settings = cloud.vm("kept"), Settings.load()
    with alone(settings, zone=ZONE, user="ada") as runtime:
        assert runtime.execute("6 * 7").text == "42\n"
        assert sorted(vm.name for vm in cloud.vms) == ["job", "kept"]
        assert known_machines(settings) == [("gce", "job")]
    assert cloud.vms == [kept]
    assert cloud.methods.count("instances.insert") == cloud.methods.count("instances.delete") == 1
    assert known_machines(settings) == []
    remembered = Store(settings.state_dir).load("gce", "job")
    assert remembered is not None
    assert remembered.local_port == runtime.port  # the next one gets the same URL


def test_two_hosts_that_want_one_of_the_same_name_at_once(cloud: Cloud, tmp_path: Path) -> None:
    """Who comes second neither gets in nor deletes what the first one made."""
    both_looked, lost = threading.Barrier(2, timeout=SECONDS), threading.Event()

    def confirm(_question: str) -> None:
        both_looked.wait()

    def host(user: str) -> str:
        settings = dataclasses.replace(Settings.load(), state_dir=tmp_path / user)
        gce = GceOptions(user=user, zones=(ZONE,), confirm=confirm)
        try:
            with alone(settings, gce=gce) as runtime:
                assert lost.wait(SECONDS)
                return runtime.execute("6 * 7").text
        except InstanceError as error:
            lost.set()
            return error.code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(host, ("ada", "eve"))) == ["42\n", "instance_exists"]
    assert cloud.vms == []
    assert cloud.methods.count("instances.insert") == 2
    assert cloud.methods.count("instances.delete") == 1
