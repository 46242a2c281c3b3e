"""Chromium as Debian has it, driven by Playwright: pages that count as public, and the answers to its question."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

ANSWER_SECONDS = 30

Answer = Literal["granted", "denied", "prompt"]
"""A person's answer to the browser's question; ``prompt`` is none.  Without a window Chromium shows no question, and
takes the silence for a no, but asks again next time."""

PERMISSIONS = ("local-network-access", "loopback-network", "local-network")
"""What the question is called, by its older name and by the two that it was split into."""


@dataclass
class Visitor:
    """A person who looks at a front end's page, in a browser profile of their own."""

    page: Page
    protocol: CDPSession  # an answer that was given by it holds as long as it does
    origin: str
    console: list[str]

    def answer(self, answer: Answer) -> None:
        """Answer the question whether this page may use what runs on this computer."""
        profile = self.protocol.send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
        for name in PERMISSIONS:
            wanted = {"permission": {"name": name}, "setting": answer, "origin": self.origin}
            self.protocol.send("Browser.setPermission", {**wanted, "browserContextId": profile})

    def asked(self) -> str:
        """What the page is told of the answer."""
        state: str = self.page.evaluate(
            "navigator.permissions.query({ name: 'loopback-network' }).then(({ state }) => state)"
        )
        return state

    def use(self, path: str, url: str) -> dict[str, Any]:
        """Let the page use a server, and return its report when it is done."""
        self.page.evaluate("([path, url]) => start(path, url)", [path, url])
        end = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < end:
            report: dict[str, Any] = self.page.evaluate("report")
            if report["stage"] == "done":
                return report
            self.page.wait_for_timeout(20)
        pytest.fail(f"the page did not get done: {report}, {self.console}", pytrace=False)


class Chromium:
    """A running Chromium."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @contextmanager
    def page(self) -> Iterator[tuple[Page, list[str]]]:
        """An empty page in a new profile, and what will be written to its console."""
        console: list[str] = []
        with self._browser.new_context(viewport={"width": 1280, "height": 800}) as context:
            page = context.new_page()
            page.on("console", lambda message: console.append(message.text))
            yield page, console

    @contextmanager
    def visit(self, origin: str, answer: Answer) -> Iterator[Visitor]:
        """A front end's page, with the browser's question answered."""
        with self.page() as (page, console):
            visitor = Visitor(page, page.context.new_cdp_session(page), origin, console)
            visitor.answer(answer)
            page.goto(origin + "/")
            yield visitor


@contextmanager
def chromium_browser(program: str, *, hosts: Sequence[str], port: int) -> Iterator[Chromium]:
    """A Chromium, for the block, that finds ``hosts`` at ``port`` of this computer and takes that for the internet."""
    argv = [
        f"--host-resolver-rules={','.join(f'MAP {host} 127.0.0.1:{port}' for host in hosts)}",
        "--ignore-certificate-errors",
        # Else the page would be local itself, and might do what no page from the internet may do.
        f"--ip-address-space-overrides=127.0.0.1:{port}=public",
    ]
    if os.geteuid() == 0:
        argv.append("--no-sandbox")
    with sync_playwright() as driver, driver.chromium.launch(executable_path=program, args=argv) as browser:
        yield Chromium(browser)


def shot(page: Page, directory: Path, name: str, *, whole: bool = False) -> None:
    """Keep a picture of what is seen of ``page``, or of the ``whole`` of it."""
    # Not by Playwright's own `path`: its thread that writes files stays.
    (directory / f"{name}.png").write_bytes(page.screenshot(full_page=whole))
