"""The second connect to a VM asks Google nothing, and does not even import what it would take to ask."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_runtime.providers.gce import client
from tests.gce.cloud import Cloud
from tests.gce.runtime import join
from tests.gce.test_connect import running

COMMAND = ["connect", "--zone", "us-central1-a", "--instance", "trainer", "--user", "ada", "--json"]


def test_warm_connect_asks_no_api_and_imports_no_client_of_one(cloud: Cloud, tmp_path: Path) -> None:
    running(cloud)
    with join() as runtime:
        server = runtime.server.pid
    cloud.forget_calls()

    event: dict[str, Any] = {}
    argv = [sys.executable, "-X", "importtime", "-m", "remote_runtime", *COMMAND]
    with (tmp_path / "imports").open("w+") as said:
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=said, text=True) as process:
            assert process.stdout
            while event.get("event") not in ("ready", "error"):
                event = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
        said.seek(0)
        imported = {line.rpartition("|")[2].strip() for line in said}

    assert (event["event"], event["server_pid"]) == ("ready", server)
    assert cloud.methods == []
    assert {"remote_runtime.providers.gce", "paramiko"} <= imported
    assert not {name.partition(".")[0] for name in imported} & {"google", "grpc", "requests", "urllib3", "websockets"}


@pytest.mark.parametrize("collects", [True, False])
def test_collector_is_after_the_import_as_it_was(collects: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert client._library().InstancesClient
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()
