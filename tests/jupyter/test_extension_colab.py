"""What Colab's page asks its own runtimes is answered in the form that it knows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.jupyter.conftest import COLAB, Answer, Jupyter, OpenPage, StartJupyter

RESOURCES = "api/colab/resources"
BUILD_INFO = "api/colab/build-info"


def unwrapped(answer: Answer) -> Any:
    """The JSON after the prefix that keeps it from being a script."""
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    prefix, _, text = answer.body.decode().partition("\n")
    assert prefix == ")]}'"
    return json.loads(text)


def test_memory_and_disk(jupyter: Jupyter) -> None:
    told = unwrapped(jupyter.request("GET", RESOURCES))
    assert set(told) == {"memory", "disks", "gpus"}
    assert 0 < told["memory"]["freeBytes"] <= told["memory"]["totalBytes"]
    [disk] = told["disks"]
    assert disk["filesystem"]["label"] == "kernel"
    real = os.statvfs(jupyter.root_dir)
    assert disk["filesystem"]["totalBytes"] == real.f_blocks * real.f_frsize
    assert 0 < disk["filesystem"]["usedBytes"] <= disk["filesystem"]["totalBytes"]


def test_the_memory_of_each_kernel(jupyter: Jupyter) -> None:
    kernel = jupyter.request("POST", "api/kernels", body=b"{}").json()["id"]
    try:
        [told] = unwrapped(jupyter.request("GET", RESOURCES))["memory"]["kernels"]
        assert told["uuid"] == kernel
        assert told["usedBytes"] > 1_000_000
    finally:
        assert jupyter.request("DELETE", f"api/kernels/{kernel}").status == 204
    assert unwrapped(jupyter.request("GET", RESOURCES))["memory"]["kernels"] == []


@pytest.mark.once
def test_gpus_as_the_driver_tells(start_jupyter: StartJupyter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho '0, Tesla T4, 3, 15360, 15, 21'\necho '1, Tesla T4, 0, 15360, [N/A], 0'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")
    one, other = unwrapped(start_jupyter().request("GET", RESOURCES))["gpus"]
    assert one == {
        "name": "Tesla T4",
        "memoryUsedBytes": 3 << 20,
        "memoryTotalBytes": 15360 << 20,
        "gpuUtilization": 0.15,
        "memoryUtilization": 0.21,
        "everUsed": True,
    }
    assert (other["gpuUtilization"], other["everUsed"]) == (0, False)


def test_this_is_none_of_colabs_images(jupyter: Jupyter) -> None:
    assert unwrapped(jupyter.request("GET", BUILD_INFO)) == {"release_tag": None}


@pytest.mark.parametrize("path", [RESOURCES, BUILD_INFO])
def test_without_the_token_nothing_is_told(jupyter: Jupyter, path: str) -> None:
    for query in ("", "?token=wrong"):
        answer = jupyter.request("GET", path + query, token=False, headers={"Origin": COLAB})
        assert answer.status == 403
        assert answer.headers["Access-Control-Allow-Origin"] == COLAB
        assert b"totalBytes" not in answer.body
    by_url = jupyter.request("GET", f"{path}?token={jupyter.token}", token=False, headers={"Origin": COLAB})
    unwrapped(by_url)
    assert jupyter.request("POST", path, body=b"").status == 405


def test_both_are_carried_over_a_websocket_too(jupyter: Jupyter, open_page: OpenPage) -> None:
    status, _, body = open_page(jupyter).ask("GET", f"/{RESOURCES}")
    assert (status, body[:5]) == (200, b")]}'\n")


def test_an_authorizer_has_its_say(start_jupyter: StartJupyter) -> None:
    jupyter = start_jupyter(authorizer_class="served_probe.Nobody")
    for path in (RESOURCES, BUILD_INFO, "remote-runtime", "remote-runtime/status"):
        assert jupyter.request("GET", path).status == 403
    assert jupyter.request("POST", "remote-runtime/kernels", body=b'{"lease": 60}').status == 403


def test_asking_is_no_activity(jupyter: Jupyter) -> None:
    before = jupyter.request("GET", "api/status").json()["last_activity"]
    for path in (RESOURCES, BUILD_INFO, "remote-runtime/status"):
        assert jupyter.request("GET", path).status == 200
    assert jupyter.request("GET", "api/status").json()["last_activity"] == before
