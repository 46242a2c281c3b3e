"""What the browser tests have in common: a connected machine, Colab's stand-in, and a Chromium.

Screenshots are left in ``.artifacts/browser`` for people to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime import Runtime, Settings, connect
from tests.browser.chromium import Chromium, chromium_browser
from tests.browser.colab import ELSEWHERE, HOST, colab_page
from tests.jupyter.machine import ALIAS, Machine, machine_with_jupyter
from tests.tools import need

ARTIFACTS = Path(__file__).resolve().parents[2] / ".artifacts" / "browser"


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots go."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    return ARTIFACTS


@pytest.fixture(scope="module")
def page_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port on which the stand-in for Colab's page is served."""
    with colab_page(tmp_path_factory.mktemp("colab")) as port:
        yield port


@pytest.fixture(scope="module")
def chromium(page_port: int) -> Iterator[Chromium]:
    """A Chromium that finds Colab's address at the stand-in, and takes that for a public one."""
    program = need("chromium", "chromium")
    with chromium_browser(program, hosts=(HOST, ELSEWHERE), port=page_port) as browser:
        yield browser


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a Jupyter, which goes on from test to test."""
    with machine_with_jupyter(tmp_path_factory.mktemp("machine") / "sshd") as machine:
        yield machine


@pytest.fixture
def runtime(machine: Machine, settings: Settings) -> Iterator[Runtime]:
    """A connection to it, as a person has it; the local port is another one than the server's."""
    machine.introduce(settings.home)
    with connect(ALIAS, provider="ssh", settings=settings, local_port="auto", timeout=120) as runtime:
        yield runtime
