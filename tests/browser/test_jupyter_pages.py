"""Jupyter's own pages in Chromium, through the forward: JupyterLab and Notebook, as people find them today."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from remote_runtime import Runtime
from tests.browser.chromium import Chromium, shot
from tests.jupyter.environments import index_environment
from tests.jupyter.machine import Machine, machine_with_jupyter

pytestmark = pytest.mark.egress

LOADED_MS = 60_000
RAN_MS = 30_000


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose Jupyter has all of today's pages."""
    directory = tmp_path_factory.mktemp("machine")
    environment = index_environment(directory / "environment", "jupyterlab>=4", "notebook>=7")
    path = os.pathsep.join([str(environment.python.parent), "/usr/bin", "/bin"])
    with machine_with_jupyter(directory / "sshd", path) as machine:
        yield machine


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    with chromium.page() as (page, _):
        yield page


def run_first_cell(page: Page, code: str) -> None:
    """Type ``code`` into the first cell of the notebook that is open, and run it."""
    # Before it has a kernel, a notebook asks which one; before that has answered, what is run may be lost.
    expect(page.locator(".jp-Toolbar-kernelName", has_text="Python 3")).to_be_visible(timeout=LOADED_MS)
    expect(page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')).to_be_visible(timeout=LOADED_MS)
    page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
    page.keyboard.type(code)
    page.keyboard.press("Shift+Enter")


def test_jupyterlab_runs_a_cell(page: Page, runtime: Runtime, artifacts: Path) -> None:
    assert runtime.port != runtime.server.port, "the forward's port is not the server's"
    page.goto(runtime.url)
    launcher = page.locator('.jp-LauncherCard[data-category="Notebook"]')
    expect(launcher.first).to_be_visible(timeout=LOADED_MS)
    shot(page, artifacts, "jupyterlab-opened")
    launcher.first.click()
    run_first_cell(page, "print(6 * 7)")
    expect(page.locator(".jp-OutputArea-output")).to_have_text("42\n", timeout=RAN_MS)
    shot(page, artifacts, "jupyterlab-ran")


def test_notebook_runs_a_cell(page: Page, runtime: Runtime, artifacts: Path) -> None:
    page.goto(f"http://localhost:{runtime.port}/tree?token={runtime.token}")
    page.get_by_role("menuitem", name="New").click(timeout=LOADED_MS)
    shot(page, artifacts, "notebook-opened")
    with page.context.expect_page() as opened:
        page.get_by_role("menuitem", name=re.compile("Python 3")).click()
    notebook = opened.value
    run_first_cell(notebook, "print(6 * 7)")
    expect(notebook.locator(".jp-OutputArea-output")).to_have_text("42\n", timeout=RAN_MS)
    shot(notebook, artifacts, "notebook-ran")
