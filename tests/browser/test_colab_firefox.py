"""Colab's two paths in Firefox ESR, which asks before a page may `fetch` from this computer, but not for WebSockets.

The server's own page too: it walks the same paths where nothing is asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_runtime import Runtime
from tests.browser.colab import HOST, ORIGIN, PATHS
from tests.browser.firefox import Firefox, firefox
from tests.tools import need

PATIENCE_SECONDS = 20
QUESTION = f"{HOST} wants to access other apps and services on this device."
SILENCE_IS_NO_MS = 1500

# The question's panel is there before it is shown, and its buttons do nothing until then.
SHOWN = "document.querySelector('#notification-popup[panelopen] #loopback-network-notification')"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, page_port: int) -> Iterator[Firefox]:
    """A Firefox that finds Colab's address at the stand-in, and takes that for a public one."""
    preferences = {
        "network.dns.localDomains": HOST,
        "network.socket.forcePort": f"443={page_port}",
        "network.lna.address_space.public.override": f"127.0.0.1:{page_port}",
    }
    with firefox(need("firefox-esr", "firefox-esr"), tmp_path_factory.mktemp("firefox"), preferences) as browser:
        yield browser


@pytest.fixture
def page(running: Firefox) -> Iterator[Firefox]:
    """The front end's page in a new tab, as an answer without "remember" holds for one tab only."""
    running.new_tab()
    running.open(ORIGIN + "/")
    yield running
    running.evaluate_in_window("Services.cookies.removeAll()")


def eventually(look: Callable[[], Any]) -> Any:
    """What ``look`` says as soon as that is something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.02)
    pytest.fail("it did not happen", pytrace=False)


def start(page: Firefox, path: str, url: str) -> None:
    page.evaluate(f"start({json.dumps(path)}, {json.dumps(url)})")


def report(page: Firefox) -> dict[str, Any]:
    """The page's report when it is done."""

    def done() -> dict[str, Any] | None:
        seen: dict[str, Any] = page.evaluate("report")
        return seen if seen["stage"] == "done" else None

    seen: dict[str, Any] = eventually(done)
    return seen


def asked(page: Firefox) -> str:
    """Wait for the browser's question; its words."""
    words: str = eventually(lambda: page.evaluate_in_window(f"{SHOWN}?.querySelector('description').textContent"))
    return words


def click(page: Firefox, button: str) -> None:
    """Press ``button`` or ``secondaryButton`` of the question."""
    page.evaluate_in_window(f"{SHOWN}.{button}.click()")


def test_allow_is_what_to_click(page: Firefox, runtime: Runtime, artifacts: Path) -> None:
    assert runtime.port != runtime.server.port, "the forward's port is not the server's"
    start(page, "direct", runtime.url)
    assert asked(page) == QUESTION
    assert page.evaluate_in_window(f"{SHOWN}.button.label") == "Allow"
    click(page, "button")
    seen = report(page)
    page.screenshot(artifacts / "firefox-direct-granted.png")
    assert (seen["status"], seen["output"], seen["error"]) == (200, "42\n", None)


def test_a_page_that_may_not_sees_no_server(page: Firefox, runtime: Runtime, artifacts: Path) -> None:
    start(page, "direct", runtime.url)
    assert asked(page) == QUESTION
    click(page, "secondaryButton")
    seen = report(page)
    page.screenshot(artifacts / "firefox-direct-denied.png")
    assert (seen["status"], seen["error"]) == (None, "TypeError: NetworkError when attempting to fetch resource.")


def test_without_an_answer_the_page_waits_until_the_browser_gives_up(
    page: Firefox, runtime: Runtime, artifacts: Path
) -> None:
    page.evaluate_in_window(f"Services.prefs.setIntPref('network.lna.prompt.timeout', {SILENCE_IS_NO_MS})")
    try:
        start(page, "direct", runtime.url)
        assert asked(page) == QUESTION
        assert page.evaluate("report.stage") == "asking"
        page.screenshot(artifacts / "firefox-direct-prompt.png")
        seen = report(page)
    finally:
        page.evaluate_in_window("Services.prefs.clearUserPref('network.lna.prompt.timeout')")
    assert (seen["status"], seen["error"]) == (None, "TypeError: NetworkError when attempting to fetch resource.")


def test_over_a_websocket_nothing_is_asked(page: Firefox, runtime: Runtime, artifacts: Path) -> None:
    start(page, "http_over_websocket", runtime.url)
    seen = report(page)
    page.screenshot(artifacts / "firefox-http_over_websocket.png")
    assert (seen["status"], seen["output"], seen["error"]) == (200, "42\n", None)
    assert not page.evaluate_in_window(SHOWN + " !== null")


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_token_reads_as_403(page: Firefox, runtime: Runtime, path: str) -> None:
    start(page, path, runtime.url.replace(runtime.token, "f" * len(runtime.token)))
    if path == "direct":
        assert asked(page) == QUESTION
        click(page, "button")
    seen = report(page)
    assert (seen["status"], seen["error"]) == (403, None)


def test_the_servers_own_page_passes_its_self_test(page: Firefox, runtime: Runtime, artifacts: Path) -> None:
    page.open(f"http://localhost:{runtime.port}/remote-runtime?token={runtime.token}")
    page.evaluate("document.getElementById('run').click()")
    verdict = eventually(
        lambda: page.evaluate("document.querySelector('#verdict:not([data-state=running])')?.textContent")
    )
    page.screenshot(artifacts / "firefox-page.png")
    assert verdict == "All 9 passed"
