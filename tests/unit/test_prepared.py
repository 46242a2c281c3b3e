"""Prepared machines, the host's decisions: the request for one, and what such a machine says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from remote_runtime import frames
from remote_runtime.errors import UsageError
from remote_runtime.events import Notice
from remote_runtime.providers.gce import hostkeys
from remote_runtime.providers.gce.spec import GceSpec, check


@pytest.mark.parametrize(
    "spec",
    [
        GceSpec("trainer", prepare=True, startup_script="#!/bin/sh\n"),
        GceSpec("trainer", prepare=True, metadata={"startup-script": "#!/bin/sh\n"}),
    ],
)
def test_second_startup_script_is_refused_with_the_way_to_have_both(spec: GceSpec) -> None:
    with pytest.raises(UsageError) as caught:
        check(spec)
    assert caught.value.code == "bad_spec"
    assert "startup-script-url" in caught.value.hint


def test_startup_script_by_address_goes_beside_ours() -> None:
    check(GceSpec("trainer", prepare=True, metadata={"startup-script-url": "gs://lab/setup.sh"}))


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ({"remote-runtime/step": "Installing Jupyter", "remote-runtime/state": "running"}, "Installing Jupyter"),
        ({"remote-runtime/step": "Ready", "remote-runtime/state": "ready"}, ""),  # of the boot before, perhaps
        ({"remote-runtime/step": "Installing Jupyter", "remote-runtime/state": "failed"}, ""),
        ({"remote-runtime/step": "Beginning"}, ""),
        ({"remote-runtime/state": "running"}, ""),
        ({"other/step": "x", "remote-runtime/state": "running"}, ""),
        ({}, ""),
    ],
)
def test_step_of_the_preparation(said: dict[str, str], step: str) -> None:
    items = [dict(zip(("namespace", "key"), path.split("/"), strict=True), value=said[path]) for path in said]
    assert hostkeys.preparation_step({"queryValue": {"items": items}}) == step
    assert hostkeys.preparation_step({}) == ""


@pytest.mark.parametrize(
    ("frame", "notice"),
    [
        ({"code": "preparation_failed", "text": "step 2"}, Notice("preparation_failed", "step 2", "warning")),
        ({"code": "Not A Code", "text": "a\x1b[2Jb"}, Notice("guest_notice", "ab", "warning")),
        ({"code": ["x"], "text": 5}, Notice("guest_notice", "", "warning")),
    ],
)
def test_notice_of_the_guest_is_data(frame: dict[str, Any], notice: Notice) -> None:
    assert frames.parse_notice(frame) == notice
