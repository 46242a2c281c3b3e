"""The other Pythons of this machine, where pyenv keeps them or on the PATH: the guest program has to run in all."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def python(version: str) -> Path:
    """The interpreter of that release (``"3.8"``); the test is skipped if there is none."""
    for path in sorted(VERSIONS.glob(version + ".*/bin/python")):
        return path
    found = shutil.which(f"python{version}")
    if found and _runs(found):
        return Path(found)
    pytest.skip(f"there is no Python {version} below {VERSIONS}, nor on the PATH")


def _runs(program: str) -> bool:
    """Whether it is a Python; a shim of pyenv's is there for releases that are not, and fails."""
    return subprocess.run([program, "-V"], capture_output=True, check=False, timeout=30).returncode == 0
