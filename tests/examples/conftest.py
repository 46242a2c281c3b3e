"""A user who runs the examples: the command is on PATH, and the machines find the tests' own Jupyter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.providers.sandbox import SandboxProvider
from remote_runtime.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 120.0


@pytest.fixture(autouse=True)
def sandboxes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxProvider]:
    """The user's sandboxes, which are deleted in the end."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("REMOTE_RUNTIME_PYTHON", sys.executable)
    provider = SandboxProvider(settings)
    yield provider
    for left in provider.list():
        provider.delete(left.name, Deadline(30))


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """The finished example."""
    return subprocess.run(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
