"""The server's own page in Chromium: what it shows, its self-test, and that what it shows is text."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

from remote_runtime.guest.wheel import build_wheel, extension_files, unpack
from tests.browser.chromium import Chromium
from tests.jupyter.conftest import Jupyter, running_jupyter

SECONDS_MS = 60_000
MARKUP = "<img src=x onerror=alert(1)>"
DRIVER = "#!/bin/sh\necho '0, <b>Tesla</b> T4, 14300, 15360, 15, 21'\necho '1, Tesla T4, 0, 15360, [N/A], 0'\n"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server below a base URL, in a directory whose name is markup, with two GPUs."""
    directory = tmp_path_factory.mktemp(MARKUP)
    unpack(build_wheel(extension_files())[1], str(directory / "extension"))
    driver = directory / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(DRIVER)
    driver.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")
        with running_jupyter(directory / "jupyter", directory / "extension", base_url="/base/") as running:
            yield running


@contextmanager
def opened(chromium: Chromium, jupyter: Jupyter) -> Iterator[tuple[Page, list[str]]]:
    """The page as a person opens it, by the URL with the token, and its console."""
    with chromium.page() as (page, console):
        page.on("pageerror", lambda error: console.append(f"uncaught: {error}"))
        page.goto(f"http://{jupyter.host}/base/remote-runtime?token={jupyter.token}")
        page.wait_for_selector("#state[data-state=well]", timeout=SECONDS_MS)
        yield page, console


def test_it_shows_the_server_and_its_machine(chromium: Chromium, jupyter: Jupyter) -> None:
    kernel = jupyter.request("POST", "api/kernels", body=b"{}").json()["id"]
    with opened(chromium, jupyter) as (page, console):
        assert page.inner_text("#state") == "The server answers"
        assert page.url == f"http://{jupyter.host}/base/remote-runtime"  # the token is not left in the address bar
        assert str(jupyter.process.pid) in page.inner_text("#server")
        assert page.locator("#kernels tr").count() == 1
        assert page.get_attribute("#kernels td", "title") == kernel
        gauges = page.locator("#gauges .gauge").all_inner_texts()
        assert [text.splitlines()[0] for text in gauges] == [
            "Memory",
            "Disk",
            "GPU 0: <b>Tesla</b> T4",
            "GPU 1: Tesla T4",
        ]
        assert "14.0 GiB of 15.0 GiB, 15 % busy" in gauges[2]
        page.reload()
        page.wait_for_selector("#state[data-state=well]", timeout=SECONDS_MS)
        assert console == []
    assert jupyter.request("DELETE", f"api/kernels/{kernel}").status == http.client.NO_CONTENT


def test_what_comes_from_the_machine_is_shown_as_text(chromium: Chromium, jupyter: Jupyter) -> None:
    with opened(chromium, jupyter) as (page, _):
        assert MARKUP in str(jupyter.root_dir)
        assert str(jupyter.root_dir) in page.inner_text("#server")
        assert page.locator("img, #gauges b b").count() == 0


def test_the_self_test_goes_both_ways_and_cleans_up(chromium: Chromium, jupyter: Jupyter, artifacts: Path) -> None:
    with opened(chromium, jupyter) as (page, console):
        page.click("#run")
        page.wait_for_selector("#verdict:is([data-state=passed], [data-state=failed])", timeout=SECONDS_MS)
        steps = page.locator(".steps li").all_inner_texts()
        assert page.inner_text("#verdict") == "All 9 passed", steps
        assert len(steps) == 9 and all(step.startswith("passed") for step in steps)
        assert [line for line in console if "403" not in line] == []  # the wrong token's answer is logged by itself
        page.set_viewport_size({"width": 1280, "height": 1600})
        (artifacts / "page-light.png").write_bytes(page.screenshot())
    assert jupyter.request("GET", "api/kernels").json() == []


def test_the_self_test_says_what_fails(chromium: Chromium, jupyter: Jupyter) -> None:
    with opened(chromium, jupyter) as (page, _):
        page.route("**/http_over_websocket/diagnose*", lambda route: route.abort())
        page.route_web_socket("**/http_over_websocket/diagnose*", lambda socket: socket.close(code=4400, reason="no"))
        page.route("**/api/kernels", lambda route: route.fulfill(status=500))
        page.click("#run")
        page.wait_for_selector("#verdict:is([data-state=passed], [data-state=failed])", timeout=SECONDS_MS)
        steps = page.locator(".steps li").all_inner_texts()
        assert page.inner_text("#verdict") == "5 of 9 did not pass", steps
        assert [step.split()[0] for step in steps] == [
            *("passed", "passed", "passed", "failed", "skipped"),
            *("failed", "passed", "skipped", "skipped"),
        ]
        assert "status 500" in steps[3] and "4400 no" in steps[5]


def test_a_server_that_is_gone_is_told_and_one_that_is_back_too(chromium: Chromium, jupyter: Jupyter) -> None:
    with opened(chromium, jupyter) as (page, _):
        page.context.set_offline(True)
        page.wait_for_selector("#state[data-state=lost]", timeout=SECONDS_MS)
        assert "does not answer; it last did at" in page.inner_text("#state")
        page.context.set_offline(False)
        page.wait_for_selector("#state[data-state=well]", timeout=SECONDS_MS)
        page.context.clear_cookies()
        page.wait_for_selector("#state[data-state=lost]", timeout=SECONDS_MS)
        assert "does not know you any more" in page.inner_text("#state")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_on_a_phone(chromium: Chromium, jupyter: Jupyter, scheme: str, artifacts: Path) -> None:
    with opened(chromium, jupyter) as (page, _):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": 360, "height": 780})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#run").bounding_box()["height"] >= 36  # a thumb's size
        lightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(lightness) < 64) == (scheme == "dark")
        (artifacts / f"page-phone-{scheme}.png").write_bytes(page.screenshot(full_page=True))
