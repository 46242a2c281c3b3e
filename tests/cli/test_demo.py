"""What ``make demo`` runs, from nothing to a cell's output through the URL, and its end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime.settings import Settings

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture
def demo(tmp_path: Path, settings: Settings) -> Iterator[list[str]]:
    """The command that runs the demo from a copy of it, so that its state is this test's own."""
    copy = tmp_path / "clone" / "examples" / "demo.py"
    copy.parent.mkdir(parents=True)
    shutil.copyfile(DEMO, copy)
    argv = [sys.executable, "-u", str(copy)]
    yield argv
    subprocess.run([*argv, "--stop"], capture_output=True, timeout=60, check=False)


def run(argv: list[str], **options: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=options.get("timeout", 60), check=False)


def the_url(output: str) -> str:
    (url,) = re.findall(r"^http://localhost:\d+/\?token=\w+$", output, re.MULTILINE)
    return str(url)


@pytest.mark.egress
@pytest.mark.timeout(300)
def test_from_nothing_to_a_cell_and_back(demo: list[str]) -> None:
    seen: list[tuple[float, str]] = []
    with subprocess.Popen(demo, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        seen.extend((time.monotonic(), line) for line in process.stdout)
    output = "".join(line for _, line in seen)
    assert process.returncode == 0, output
    when = {line.strip(): moment for moment, line in seen}
    assert when["5 squared is 25"] - when["1 squared is 1"] > 1, "the output came all at once, not while the cell ran"
    url = the_url(output)
    with urllib.request.urlopen(url.replace("/?", "/api/status?"), timeout=20) as answer:
        assert answer.status == 200, "it keeps running"

    again = run(demo)
    assert again.returncode == 0, again.stderr
    assert "running already" in again.stdout
    assert "5 squared is 25" in again.stdout
    assert the_url(again.stdout) == url

    stopped = run([*demo, "--stop"])
    assert (stopped.returncode, stopped.stdout) == (0, "The demo is stopped.\n"), stopped.stderr
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=20)


def test_stopping_what_does_not_run(demo: list[str]) -> None:
    stopped = run([*demo, "--stop"])
    assert (stopped.returncode, stopped.stdout) == (0, "There is no demo.\n"), stopped.stderr


def test_a_failure_says_why_and_leaves_nothing(demo: list[str], tmp_path: Path) -> None:
    home = tmp_path / "clone" / ".demo" / "home" / "state"
    home.parent.mkdir(parents=True)
    home.write_text("a file where a directory must be")
    failed = run(demo)
    assert failed.returncode == 1
    assert str(home) in failed.stderr
    assert "Traceback" not in failed.stderr
