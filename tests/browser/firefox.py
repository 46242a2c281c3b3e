"""Firefox as Debian has it, driven by the protocol that it speaks itself: WebDriver BiDi over a WebSocket.

Playwright drives its own builds of Firefox only, and Debian has no geckodriver; of BiDi a handful of commands do.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

START_SECONDS = 30
ANSWER_SECONDS = 30
STOP_SECONDS = 20

QUIET = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.discovery.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.topsites.contile.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "security.notification_enable_delay": 0,
    "services.settings.server": "data:,",
    "toolkit.telemetry.server": "data:,",
}
"""What keeps a new profile from talking to anybody but us, and from asking questions of its own."""


class Firefox:
    """One running Firefox with one tab; made by :func:`firefox`."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection
        self._last_id = 0
        self.command("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        self._tab = self.command("browsingContext.getTree")["contexts"][0]["context"]
        windows = self.command("browsingContext.getTree", **{"moz:scope": "chrome"})["contexts"]
        self._window = next(one["context"] for one in windows if one["url"].endswith("/browser.xhtml"))

    def new_tab(self) -> None:
        """Go on in a new tab, and close the one that there was."""
        left, self._tab = self._tab, self.command("browsingContext.create", type="tab")["context"]
        self.command("browsingContext.close", context=left)

    def open(self, url: str) -> None:
        """Load a page in the tab."""
        self.command("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, and of its promise if it is one."""
        return self._evaluate(self._tab, expression)

    def evaluate_in_window(self, expression: str) -> Any:
        """The same in the window around the page: its toolbar, its questions."""
        return self._evaluate(self._window, expression)

    def screenshot(self, path: Path) -> None:
        """Write what the tab shows as PNG."""
        path.write_bytes(base64.b64decode(self.command("browsingContext.captureScreenshot", context=self._tab)["data"]))

    def command(self, method: str, **params: Any) -> Any:
        """Send one command of the protocol and wait for its result.  Raises RuntimeError for a refusal."""
        self._last_id += 1
        self._connection.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while (answer := json.loads(self._connection.recv())).get("id") != self._last_id:
            pass
        if answer["type"] == "error":
            raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
        return answer["result"]

    def _evaluate(self, context: str, expression: str) -> Any:
        # As JSON: the protocol's own form of a value would have to be taken apart again.
        wrapped = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        answer = self.command("script.evaluate", expression=wrapped, target={"context": context}, awaitPromise=True)
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])


@contextmanager
def firefox(program: str, directory: Path, preferences: Mapping[str, bool | int | str]) -> Iterator[Firefox]:
    """A Firefox with a new profile in ``directory``, for the block."""
    profile = directory / "profile"
    profile.mkdir(parents=True)
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in {**QUIET, **preferences}.items())
    (profile / "user.js").write_text("\n".join(lines))
    argv = [program, "--headless", "--no-remote", "--profile", str(profile)]
    # The last one lets us see and answer the questions that the browser asks outside of the page.
    argv += ["--remote-debugging-port", "0", "--remote-allow-system-access"]
    environment = {**os.environ, "HOME": str(directory), "MOZ_HEADLESS_WIDTH": "1280", "MOZ_HEADLESS_HEIGHT": "800"}
    log = directory / "firefox.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        port = _port(process, profile / "WebDriverBiDiServer.json", log)
        url = f"ws://127.0.0.1:{port}/session"
        connection = websocket.create_connection(url, timeout=ANSWER_SECONDS, suppress_origin=True)
        try:
            yield Firefox(connection)
        finally:
            connection.shutdown()
    finally:
        _stop(process)


def _port(process: subprocess.Popen[bytes], announcement: Path, log: Path) -> int:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            return int(json.loads(announcement.read_text())["ws_port"])
        except (OSError, ValueError):  # not there yet, or half of it
            time.sleep(0.05)
    raise RuntimeError(f"Firefox did not come up: {log.read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
