"""Real Jupyter servers, with the extension loaded as a prepared VM loads it: by a configuration file, not installed.

``jupyter`` is one server for all tests of a module, ``start_jupyter`` starts one with other settings for one test.
``REMOTE_RUNTIME_TEST_JUPYTER_PYTHON`` names another interpreter to run them with, as long as it has a Jupyter.
If ``REMOTE_RUNTIME_TEST_EXTENSION`` is ``upstream``, they run the `jupyter_http_over_ws` that is installed there and
not ours; see `conformance.py`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
import websocket

from remote_runtime.guest.processes import any_port
from remote_runtime.guest.wheel import build_wheel, extension_files, unpack
from tests.jupyter import conformance
from tests.jupyter.interpreters import environments as environments
from tests.jupyter.machine import machine as machine
from tests.jupyter.machine import user as user

COLAB = "https://colab.research.google.com"
TOKEN = "0123456789abcdef0123456789abcdef0123456789abcdef"
PYTHON = os.environ.get("REMOTE_RUNTIME_TEST_JUPYTER_PYTHON", sys.executable)

# What of our environment a server gets; the last one has its coverage measured, if ours is.
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "COVERAGE_PROCESS_CONFIG")

START_SECONDS = 60
STOP_SECONDS = 30
ANSWER_SECONDS = 30


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", conformance.MARKER)
    config.addinivalue_line("markers", conformance.ONCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    conformance.check(items)


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Jupyter:
    """A running server, and how its clients talk to it."""

    port: int
    token: str
    base_url: str
    root_dir: Path
    log: Path
    process: psutil.Process
    tls: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def path(self, path: str) -> str:
        """``path`` below the server's base URL."""
        return self.base_url + path.lstrip("/")

    def request(
        self, method: str, path: str, *, body: bytes | None = None, token: bool = True, headers: Mapping[str, str] = {}
    ) -> Answer:
        """One plain HTTP request, by default with the token in the header."""
        sent = {"Host": self.host, **headers}
        if token:
            sent.setdefault("Authorization", f"token {self.token}")
        connection = (
            http.client.HTTPSConnection("localhost", self.port, timeout=ANSWER_SECONDS, context=self.tls)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        )
        try:
            connection.request(method, self.path(path), body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def socket(
        self,
        path: str,
        *,
        origin: str | None = COLAB,
        host: str | None = None,
        headers: Mapping[str, str] = {},
        subprotocols: list[str] | None = None,
        **options: Any,
    ) -> websocket.WebSocket:
        """A WebSocket; to be closed by the test."""
        where = f"wss://localhost:{self.port}" if self.tls else f"ws://127.0.0.1:{self.port}"
        return websocket.create_connection(
            where + self.path(path),
            timeout=ANSWER_SECONDS,
            host=host or self.host,
            origin=origin,
            suppress_origin=origin is None,
            header=dict(headers),
            subprotocols=subprotocols,
            skip_utf8_validation=True,  # done in Python, it takes most of the time of a test
            sslopt={"context": self.tls} if self.tls else None,
            **options,
        )

    def logged(self) -> str:
        return self.log.read_text()


class StartJupyter(Protocol):
    def __call__(self, *, base_url: str = ..., token: str = ..., **traits: Any) -> Jupyter: ...


@contextmanager
def running_jupyter(
    directory: Path,
    extension: Path | None,
    *,
    base_url: str = "/",
    token: str | None = TOKEN,
    tls: ssl.SSLContext | None = None,
    python: str = PYTHON,
    **traits: Any,
) -> Iterator[Jupyter]:
    """A server in an empty home below ``directory``, with ``extension`` (None: without).

    A ``token`` of None makes the server make one up itself, as it does for people; it is read off its output then.
    ``traits`` are further settings of ``ServerApp``; ``tls`` is how clients trust the certificate that they name.

    In the end its process is stopped by its id, and with it every kernel.
    """
    home, config, root = directory / "home", directory / "config", directory / "root"
    for path in (home, config, root):
        path.mkdir(mode=0o700, parents=True)
    token_file = directory / "token"
    token_file.write_text(token or "")
    token_file.chmod(0o600)
    port = any_port()
    settings = {
        "ip": "127.0.0.1",
        "port": port,
        "port_retries": 0,
        "base_url": base_url,
        "root_dir": str(root),
        "open_browser": False,
        "allow_root": True,
        "allow_origin": COLAB,
        "allow_credentials": True,
        **traits,
    }
    (config / "jupyter_server_config.py").write_text(_configuration(settings, extension))
    log = directory / "server.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [python, "-m", "jupyter_server"],
            cwd=root,
            env=_environment(home, config, None if token is None else token_file, python),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        token = _shown_token(log, child) if token is None else token
        jupyter = Jupyter(port, token, base_url, root, log, psutil.Process(child.pid), tls)
        await_answer(jupyter, child)
        yield jupyter
    finally:
        _stop(child)


@pytest.fixture(autouse=True)
def expect_upstream_to_fail(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where upstream is known to go wrong the test has to fail, and does not wait long for what will not come.

    It is marked only now, so that a server that does not start is an error still.
    """
    why = conformance.why_upstream_fails(request.node)
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
        monkeypatch.setattr(sys.modules[__name__], "ANSWER_SECONDS", conformance.PATIENCE_WITH_UPSTREAM)


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as it is unpacked on a VM; an empty directory where upstream's is tested, which is installed."""
    directory = tmp_path_factory.mktemp("extension") / "unpacked"
    if conformance.UPSTREAM:
        directory.mkdir()
        return directory
    unpack(build_wheel(extension_files())[1], str(directory))
    return directory


@pytest.fixture(scope=lambda fixture_name, config: "session" if conformance.ONE_SERVER else "module")
def jupyter(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """One server for all tests of a module."""
    with running_jupyter(tmp_path_factory.mktemp("jupyter"), extension) as running:
        yield running


@pytest.fixture
def start_jupyter(tmp_path: Path, extension: Path) -> Iterator[StartJupyter]:
    """Starts servers with settings of the test's own, and stops them after it."""
    with ExitStack() as opened:
        started = 0

        def start(**settings: Any) -> Jupyter:
            nonlocal started
            started += 1
            return opened.enter_context(running_jupyter(tmp_path / f"jupyter-{started}", extension, **settings))

        yield start


Dial = Callable[..., websocket.WebSocket]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Opens sockets, ``dial(jupyter, path, ...)``, with what :meth:`Jupyter.socket` takes, and closes them."""
    with ExitStack() as opened:

        def open_it(jupyter: Jupyter, path: str, **options: Any) -> websocket.WebSocket:
            connection = jupyter.socket(path, **options)
            opened.callback(connection.shutdown)
            return connection

        yield open_it


class Page:
    """A web page that talks HTTP over one WebSocket: it sends requests, and puts the frames of an answer together."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self.socket = socket
        self._frames: dict[Any, list[dict[str, Any]]] = {}
        self._next_id = 0

    def send(self, method: str, path: str, body: str | bytes | None = None) -> str:
        """Send a request, and give back its id."""
        self._next_id += 1
        message: dict[str, Any] = {"message_id": f"m{self._next_id}", "method": method, "path": path}
        if isinstance(body, bytes):
            message["body_base64"] = base64.b64encode(body).decode()
        elif body is not None:
            message["body"] = body
        self.socket.send(json.dumps(message))
        return str(message["message_id"])

    def frames(self, message_id: Any) -> list[dict[str, Any]]:
        """Wait for the whole answer; other answers that come meanwhile are kept."""
        while not (self._frames.get(message_id) and self._frames[message_id][-1]["done"]):
            frame = json.loads(self.socket.recv())
            self._frames.setdefault(frame.get("message_id"), []).append(frame)
        return self._frames.pop(message_id)

    def answer(self, message_id: Any) -> tuple[int, dict[str, str], bytes]:
        """Wait for status, headers and body of an answer."""
        frames = self.frames(message_id)
        body = b"".join(base64.b64decode(frame.get("data", "")) for frame in frames)
        return frames[0]["status"], frames[0].get("headers", {}), body

    def ask(self, method: str, path: str, body: str | bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Send a request and wait for its answer."""
        return self.answer(self.send(method, path, body))


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page() -> Iterator[OpenPage]:
    """Opens pages: ``open_page(jupyter)`` with the token in the auth URL, or with a query of the test's own."""
    with ExitStack() as opened:

        def open_it(jupyter: Jupyter, query: str | None = None, **options: Any) -> Page:
            if query is None:
                query = auth_query(jupyter)
            page = Page(jupyter.socket(f"http_over_websocket{query}", **options))
            opened.callback(page.socket.shutdown)
            return page

        yield open_it


def auth_query(jupyter: Jupyter, token: str | None = None, host: str | None = None) -> str:
    """The query with which a front end opens a socket."""
    from urllib.parse import quote

    scheme = "https" if jupyter.tls else "http"
    shown = quote(jupyter.token if token is None else token, safe="")
    url = f"{scheme}://{host or jupyter.host}{jupyter.base_url}?token={shown}"
    return f"?min_version=0.0.7&jupyter_http_over_ws_auth_url={quote(url, safe='')}"


def _configuration(settings: Mapping[str, Any], extension: Path | None) -> str:
    extensions = {"jupyter_http_over_ws": extension is not None, "served_probe": True}
    lines = [
        "import sys",
        f"sys.path[:0] = [{str(extension or '')!r}, {str(Path(__file__).parent / 'served')!r}]",
        "c = get_config()",
        *(f"c.ServerApp.{name} = {value!r}" for name, value in settings.items()),
        f"c.ServerApp.jpserver_extensions = {extensions!r}",
    ]
    return "\n".join(lines) + "\n"


def _environment(home: Path, config: Path, token_file: Path | None, python: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    own_programs = str(Path(python).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([own_programs, kept.get("PATH", os.defpath)]),
        "HOME": str(home),
        "JUPYTER_CONFIG_PATH": str(config),
        **({"JUPYTER_TOKEN_FILE": str(token_file)} if token_file else {}),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _shown_token(log: Path, child: subprocess.Popen[bytes]) -> str:
    """The token in the URL that the server shows for people to paste; fail the test if it shows none in time."""
    end = time.monotonic() + START_SECONDS
    while child.poll() is None and time.monotonic() < end:
        shown = re.findall(r"copy and paste[^?]*\?token=(\w+)\n", log.read_text())
        if shown:
            return str(shown[0])
        time.sleep(0.05)
    pytest.fail(f"the server shows no URL with a token:\n{log.read_text()}", pytrace=False)


def await_answer(jupyter: Jupyter, child: subprocess.Popen[bytes], *, seconds: float = START_SECONDS) -> None:
    """Return when the server answers; fail the test, with its log, if it does not in time."""
    end = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end:
        try:
            if jupyter.request("GET", "api/status").status == http.client.OK:
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the server did not come up:\n{jupyter.logged()}", pytrace=False)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the server and, should it fail to do so itself, what it started."""
    family = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(STOP_SECONDS)
        pytest.fail(f"the server did not end within {STOP_SECONDS} s", pytrace=False)
    finally:
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()
