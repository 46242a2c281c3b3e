"""The transports on the oldest paramiko that the project allows; all other tests run on the newest one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.jupyter.environments import uv

SUITES = ("test_lean.py", "test_forward.py", "test_foresight.py", "test_rekey.py", "test_plain_paramiko.py")
TOO_LONG = "warm_connect or 500_megabytes or browser or every_cipher"
SECONDS = 150

pytestmark = pytest.mark.egress


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with that paramiko in it, and with what it needs besides."""
    directory = tmp_path_factory.mktemp("oldest-paramiko")
    [paramiko] = [one for one in map(Requirement, requires("remote-runtime") or ()) if one.name == "paramiko"]
    options = ("--resolution", "lowest-direct", "--python", sys.executable, "--target", str(directory))
    uv("pip", "install", *options, str(paramiko))
    return directory


def test_both_transports_work_there_too(oldest: Path, tmp_path: Path) -> None:
    here = Path(__file__).parent
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tests'}"]
    environ = {**os.environ, "PYTHONPATH": str(oldest)}
    asked = [sys.executable, "-c", "import paramiko; print(paramiko.__file__)"]
    found = subprocess.run(asked, env=environ, capture_output=True, text=True, check=True).stdout
    assert Path(found).is_relative_to(oldest), "another paramiko would be tested"
    done = subprocess.run(
        [*argv, "-k", f"not ({TOO_LONG})", *(str(here / suite) for suite in SUITES)],
        cwd=here.parents[1],
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
