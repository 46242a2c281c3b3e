"""The documented way, word for word, in a Jupyter of today: install, enable, serve, connect, disable, uninstall.

The environments come from the package index; one of each kind is made for all tests.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import websocket

from remote_runtime.extension import available
from remote_runtime.guest.processes import any_port
from tests.cli.conftest import run
from tests.jupyter.conftest import COLAB, Jupyter, Page, _stop, auth_query, await_answer
from tests.jupyter.environments import Environment, index_environment, read_switch
from tests.jupyter.kernels import run_cell

pytestmark = [pytest.mark.egress, pytest.mark.timeout(300)]

NAME = "jupyter_http_over_ws"
TOKEN = "fedcba9876543210fedcba9876543210fedcba9876543210"
START_SECONDS = 90
INITIALIZED = "jupyter_http_over_ws extension initialized. Listening on /http_over_websocket"

# What a person is told to type, but for the port.
DOCUMENTED = ("--NotebookApp.allow_origin=https://colab.research.google.com", "--NotebookApp.port_retries=0")
# The same for a server that is not Notebook: it does not know Notebook's old names of settings.
FOR_SERVER = ("--ServerApp.allow_origin=https://colab.research.google.com", "--ServerApp.port_retries=0")


@dataclass(frozen=True)
class Flavour:
    """A Jupyter of today, and the command that starts it."""

    environment: Environment
    command: tuple[str, ...]


@pytest.fixture(scope="session")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Flavour:
    """Notebook 7, as `pip install notebook` brings it."""
    environment = index_environment(tmp_path_factory.mktemp("notebook") / "venv", "notebook>=7")
    return Flavour(environment, ("notebook", *DOCUMENTED))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Flavour:
    """jupyter_server and a kernel, nothing else."""
    environment = index_environment(tmp_path_factory.mktemp("server") / "venv", "jupyter_server", "ipykernel")
    return Flavour(environment, ("server", *FOR_SERVER))


@pytest.fixture(params=["notebook", pytest.param("server", marks=pytest.mark.slow)])
def flavour(request: pytest.FixtureRequest, settings: object) -> Flavour:
    found: Flavour = request.getfixturevalue(request.param)
    return found


@contextmanager
def serving(flavour: Flavour, directory: Path) -> Iterator[Jupyter]:
    """The server as a person starts it; only what a test can't have (root, a browser, port 8888) is set aside."""
    root = directory / "work"
    root.mkdir(parents=True)
    config = Path(os.environ["HOME"]) / ".jupyter" / "jupyter_server_config.py"
    config.parent.mkdir(exist_ok=True)
    config.write_text("c.ServerApp.allow_root = True\nc.ServerApp.open_browser = False\n")
    port, log = any_port(), directory / "log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(flavour.environment.root / "bin" / "jupyter"), *flavour.command, f"--port={port}"],
            cwd=root,
            env={**os.environ, "JUPYTER_TOKEN": TOKEN},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    jupyter = Jupyter(port, TOKEN, "/", root, log, psutil.Process(child.pid))
    try:
        await_answer(jupyter, child, seconds=START_SECONDS)
        yield jupyter
    finally:
        _stop(child)
        config.unlink()


def by_the_direct_path(jupyter: Jupyter) -> None:
    """What Colab's page does today: requests with the token in the query, and a kernel's own WebSocket."""
    origin = {"Origin": COLAB}
    asked = {**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-anything"}
    preflight = jupyter.request("OPTIONS", f"api/colab/build-info?token={TOKEN}", token=False, headers=asked)
    assert preflight.status == 204
    build = jupyter.request("GET", f"api/colab/build-info?token={TOKEN}", token=False, headers=origin)
    assert (build.status, build.body[:5]) == (200, b")]}'\n")
    refused = jupyter.request("GET", "api/sessions?token=wrong", token=False, headers=origin)
    for answer, status in ((preflight, 204), (build, 200), (refused, 403)):
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == COLAB
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    started = jupyter.request("POST", f"api/kernels?token={TOKEN}", token=False, headers=origin, body=b"{}")
    assert started.status == 201
    channel = jupyter.socket(f"api/kernels/{started.json()['id']}/channels?token={TOKEN}")
    try:
        assert run_cell(channel, "print(6 * 7)") == "42\n"
    finally:
        channel.shutdown()
    assert jupyter.request("DELETE", f"api/kernels/{started.json()['id']}").status == 204


def by_the_websocket(jupyter: Jupyter) -> None:
    """What Colab's page did before: everything over WebSockets, with the token in the auth URL."""
    page = Page(jupyter.socket(f"http_over_websocket{auth_query(jupyter)}"))
    try:
        status, _, body = page.ask("POST", "/api/kernels", "{}")
        assert status == 201
        kernel = json.loads(body)["id"]
        channel = jupyter.socket(f"http_over_websocket/proxied_ws/api/kernels/{kernel}/channels{auth_query(jupyter)}")
        try:
            assert run_cell(channel, "print(6 * 7)") == "42\n"
        finally:
            channel.shutdown()
        assert page.ask("DELETE", f"/api/kernels/{kernel}")[0] == 204
    finally:
        page.socket.shutdown()


def assert_works(flavour: Flavour, directory: Path) -> None:
    with serving(flavour, directory) as jupyter:
        by_the_direct_path(jupyter)
        by_the_websocket(jupyter)
        assert jupyter.request("GET", "remote-runtime").status == 200
        assert jupyter.logged().count(INITIALIZED) == 1
        assert "Traceback" not in jupyter.logged()


def assert_absent(flavour: Flavour, directory: Path) -> None:
    with serving(flavour, directory) as jupyter:
        assert jupyter.request("GET", "remote-runtime").status == 404
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            jupyter.socket("http_over_websocket")
        assert NAME not in jupyter.logged()


def left_of_it(environment: Environment) -> list[str]:
    """Every path with its name, compiled modules included."""
    return [
        str(path) for path in environment.root.rglob("*") if "http_over_ws" in str(path.relative_to(environment.root))
    ]


def test_the_documented_way(flavour: Flavour, tmp_path: Path) -> None:
    environment = flavour.environment
    before = environment.inventory()
    wheel = run("extension", "wheel", str(tmp_path)).stdout.strip()
    environment.pip("install", wheel)
    assert f"{NAME} enabled" in environment.jupyter_extension("list")
    environment.jupyter_extension("enable", "--py", NAME)
    assert_works(flavour, tmp_path / "enabled")
    environment.jupyter_extension("disable", NAME)
    assert read_switch(environment) is False
    assert_absent(flavour, tmp_path / "disabled")
    environment.pip("uninstall", "-y", "jupyter_http_over_ws")
    assert left_of_it(environment) == []
    left = environment.inventory()
    assert {path: left.get(path) for path in before} == before


def test_over_the_original(notebook: Flavour, settings: object, tmp_path: Path) -> None:
    environment = notebook.environment
    environment.pip("install", "--no-deps", "jupyter_http_over_ws==0.0.8")
    installed = run("extension", "install", "--python", str(environment.python))
    assert "in place of 0.0.8" in installed.stderr
    assert f"Version: {available()}" in environment.pip("show", NAME)
    assert_works(notebook, tmp_path / "ours")
    environment.pip("uninstall", "-y", NAME)
    assert left_of_it(environment) == []
