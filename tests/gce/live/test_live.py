"""The story on Google's own cloud: ``make live``.

``LIVE_PROJECT`` names a project whose bill somebody pays, ``LIVE_ZONE`` one of its zones.  The credentials are found as
the product finds them.  What is made is deleted again, and limited to an hour in any case.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from remote_runtime.settings import Settings
from tests.gce import story

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """State of our own, and everything else as the person has it: the credentials are among that."""
    monkeypatch.setenv("REMOTE_RUNTIME_HOME", str(tmp_path / "remote-runtime"))
    return Settings.load()


def test_the_life_of_a_vm(settings: Settings) -> None:
    project, zone = os.environ.get("LIVE_PROJECT"), os.environ.get("LIVE_ZONE", "us-central1-a")
    if not project:
        pytest.skip("LIVE_PROJECT names no project to make a VM in, which costs a few cents")
    name = f"remote-runtime-live-{secrets.token_hex(3)}"
    story.tell(name, project=project, zone=zone, settings=settings)
