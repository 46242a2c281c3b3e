"""The other Pythons of this machine, where pyenv keeps them: the guest program has to run in all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def python(version: str) -> Path:
    """The interpreter of that release (``"3.8"``); the test is skipped if there is none."""
    for path in sorted(VERSIONS.glob(version + ".*/bin/python")):
        return path
    pytest.skip(f"there is no Python {version} below {VERSIONS}")
