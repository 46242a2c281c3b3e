"""Colab's two paths in Chromium, which asks before a page may use what runs on this computer."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from remote_runtime import Runtime
from tests.browser.chromium import Answer, Chromium, shot
from tests.browser.colab import ELSEWHERE, ORIGIN, PATHS

by_both_paths = pytest.mark.parametrize("path", PATHS)

BLOCKED = {
    "direct": ("TypeError: Failed to fetch", "Permission was denied for this request to access the `loopback`"),
    "http_over_websocket": (
        "Error: the WebSocket closed with 1006",
        "net::ERR_BLOCKED_BY_LOCAL_NETWORK_ACCESS_CHECKS",
    ),
}
"""What a page that may not use this computer gets to know, and what its console says."""


@by_both_paths
def test_a_page_that_may_runs_a_cell(chromium: Chromium, runtime: Runtime, path: str, artifacts: Path) -> None:
    assert runtime.port != runtime.server.port, "the forward's port is not the server's"
    with chromium.visit(ORIGIN, "granted") as visitor:
        report = visitor.use(path, runtime.url)
        shot(visitor.page, artifacts, f"chromium-{path}-granted")
    assert (report["status"], report["output"], report["error"]) == (200, "42\n", None)
    assert visitor.console == []


@pytest.mark.parametrize("answer", ["denied", "prompt"])
@by_both_paths
def test_a_page_that_may_not_sees_no_server(
    chromium: Chromium, runtime: Runtime, path: str, answer: Answer, artifacts: Path
) -> None:
    with chromium.visit(ORIGIN, answer) as visitor:
        report = visitor.use(path, runtime.url)
        shot(visitor.page, artifacts, f"chromium-{path}-{answer}")
        assert visitor.asked() == answer
    error, console = BLOCKED[path]
    assert (report["status"], report["output"], report["error"]) == (None, "", error)
    assert any(console in line for line in visitor.console)


@by_both_paths
def test_a_late_yes_helps_without_a_reload(chromium: Chromium, runtime: Runtime, path: str) -> None:
    with chromium.visit(ORIGIN, "prompt") as visitor:
        assert visitor.use(path, runtime.url)["error"]
        visitor.answer("granted")
        assert visitor.use(path, runtime.url)["output"] == "42\n"


@by_both_paths
def test_a_wrong_token_reads_as_403(chromium: Chromium, runtime: Runtime, path: str, artifacts: Path) -> None:
    with chromium.visit(ORIGIN, "granted") as visitor:
        report = visitor.use(path, runtime.url.replace(runtime.token, "f" * len(runtime.token)))
        shot(visitor.page, artifacts, f"chromium-{path}-wrong-token")
    assert (report["status"], report["error"]) == (403, None)


@by_both_paths
def test_a_page_elsewhere_gets_nothing_even_with_the_token(chromium: Chromium, runtime: Runtime, path: str) -> None:
    with chromium.visit(f"https://{ELSEWHERE}", "granted") as visitor:
        report = visitor.use(path, runtime.url)
    assert (report["status"], report["output"], report["error"]) == (None, "", BLOCKED[path][0])
    assert not any("loopback" in line or "LOCAL_NETWORK" in line for line in visitor.console), "the server refused it"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_localhost_is_ours_by_either_address(chromium: Chromium, runtime: Runtime, host: str) -> None:
    """A browser may take `localhost` for either: a stranger on one of them would get the token."""
    if host == "[::1]" and not _has_ipv6():
        pytest.skip("there is no IPv6 here")
    with chromium.visit(ORIGIN, "granted") as visitor:
        assert visitor.use("direct", runtime.url.replace("localhost", host))["output"] == "42\n"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
