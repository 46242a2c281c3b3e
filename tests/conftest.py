"""What every test gets: a check that it leaves nothing behind, and real parts to test with on request."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from remote_runtime.settings import Settings

# How long one example takes says more of the machine, and of the measuring of coverage, than of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

pytest_plugins = [
    "tests.leaks",
    "tests.openssh",
    "tests.netlab",
    "tests.guest_coverage",
    "tests.faults.person",
    "tests.faults.rough",
]

_SPOILS = ("REMOTE_RUNTIME_", "SSH_", "XDG_", "JUPYTER", "IPYTHON", "CLOUDSDK_", "GOOGLE_")
"""Variables of the developer's own environment that would change what a test sees, by prefix."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a user who has nothing yet: ``HOME`` and ``REMOTE_RUNTIME_HOME`` are empty directories of this test.

    Processes that the test starts inherit both.
    """
    import os

    for name in list(os.environ):
        if name.startswith(_SPOILS):
            monkeypatch.delenv(name)
    for name, directory in (("HOME", tmp_path / "home"), ("REMOTE_RUNTIME_HOME", tmp_path / "remote-runtime")):
        directory.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(directory))
    return Settings.load()
