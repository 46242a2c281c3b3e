"""Finding the programs that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest


def need(name: str, package: str) -> str:
    """The path of the program ``name``, which Debian has in ``package``.

    A developer who lacks it gets a skipped test with the reason; CI must have installed everything, so there it fails.
    """
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if path:
        return path
    missing = f"{name} is not installed: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
