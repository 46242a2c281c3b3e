"""The true lock, installed for real by every way, on the Pythons that this machine has.

The guest part runs as on a VM: from a zip file, in its own process, in an emptied environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from benchmarks.netlab import unavailable
from remote_runtime._threads import Deadline
from remote_runtime.guest import pipconf
from remote_runtime.guest.fetch import Fetcher, FetchError
from remote_runtime.wheelhouse import wheels_for
from tests.tools import need

pytestmark = [pytest.mark.egress, pytest.mark.timeout(400)]

SECONDS = 240
DRIVER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from remote_runtime_guest import install
os.umask(0o077)
def tell(**value):
    print(json.dumps(value), flush=True)
def need(asked):
    tell(need=asked)
    return json.loads(sys.stdin.readline())
try:
    python = install.build_environment(sys.argv[2], python=sys.executable, ui=sys.argv[3],
        say=lambda text: tell(say=text), need=need, deadline_seconds=float(sys.argv[4]))
    tell(python=python)
except install.InstallError as error:
    tell(error=[error.code, error.message, error.hint, list(error.log)])
"""


def pythons() -> list[str]:
    """The system's Python, and one of each version from 3.8 that pyenv has."""
    found = ["/usr/bin/python3"] if Path("/usr/bin/python3").exists() else []
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for pattern in ("3.8.*", "3.13.*"):
        found += [str(path / "bin" / "python") for path in sorted(versions.glob(pattern))[-1:]]
    return found or [sys.executable]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's part as one zip file."""
    path = tmp_path_factory.mktemp("guest") / "guest.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        for entry in files("remote_runtime.guest").iterdir():
            if entry.name.endswith((".py", ".txt")):
                archive.writestr(f"remote_runtime_guest/{entry.name}", entry.read_bytes())
    return path


@dataclass
class Built:
    """What one installation told, and its Python (``""`` if it failed)."""

    said: list[str] = field(default_factory=list)
    needed: list[dict[str, Any]] = field(default_factory=list)
    python: str = ""
    error: list[Any] = field(default_factory=list)


class Vm:
    """A home directory on this machine, with nothing in the environment but what is named here."""

    def __init__(self, home: Path, program: Path) -> None:
        self.home = home
        self.program = program
        self.prefix: Sequence[str] = ()
        self.environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        self.sent: list[Path] = []
        (home / "env").mkdir()

    def build(self, python: str, *, ui: str = "none") -> Built:
        argv = [*self.prefix, python, "-I", "-c", DRIVER, str(self.program), str(self.home / "env" / "key"), ui]
        built = Built()
        with subprocess.Popen(
            [*argv, str(SECONDS)],
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            assert process.stdout
            for line in process.stdout:
                told = json.loads(line)
                if "say" in told:
                    built.said.append(told["say"])
                elif "need" in told:
                    built.needed.append(told["need"])
                    process.stdin.write(json.dumps([str(path) for path in self._receive()]) + "\n")
                    process.stdin.flush()
                else:
                    built.python, built.error = told.get("python", ""), told.get("error", [])
        return built

    def _receive(self) -> list[str]:
        received = self.home / "received"
        received.mkdir()
        return [shutil.copy(path, received) for path in self.sent]


@pytest.fixture
def vm(tmp_path: Path, program: Path) -> Vm:
    return Vm(tmp_path, program)


def versions(vm: Vm, built: Built) -> dict[str, str]:
    """What can be imported from the new environment: proof that compiled parts load."""
    assert built.python, (built.error, built.said)
    code = (
        "import json, sys, zmq, tornado, psutil, ipykernel, jupyter_server, pip, rpds, yaml\n"
        "from importlib.metadata import version\n"
        "try:\n  import jupyterlab\nexcept ImportError:\n  jupyterlab = None\n"
        "print(json.dumps({'prefix': sys.prefix, 'server': jupyter_server.__version__,"
        " 'lab': jupyterlab.__version__ if jupyterlab else ''}))"
    )
    argv = [*vm.prefix, built.python, "-I", "-c", code]
    spoken = subprocess.run(argv, env=vm.environ, capture_output=True, check=True).stdout
    found: dict[str, str] = json.loads(spoken)
    assert found["prefix"] == str(vm.home / "env" / "key")
    script = subprocess.run(
        [str(Path(built.python).parent / "jupyter"), "--version"], env=vm.environ, capture_output=True
    )
    assert b"jupyter_server" in script.stdout
    assert sorted(path.name for path in (vm.home / "env").iterdir()) == ["key", "tools"]
    return found


@pytest.mark.parametrize("python", pythons())
def test_uv_installs_the_lock(vm: Vm, python: str) -> None:
    built = vm.build(python)
    assert versions(vm, built)["lab"] == ""
    assert any(line.startswith("Installed") for line in built.said), built.said
    assert not built.needed


def test_uv_installs_jupyterlab(vm: Vm) -> None:
    assert versions(vm, vm.build(pythons()[0], ui="lab"))["lab"]


class _WithoutUv(BaseHTTPRequestHandler):
    """Passes on the pages of the machine's own index, but for uv's."""

    def do_GET(self) -> None:
        self.send_response(403 if self.path == "/simple/uv/" else 200)
        config = pipconf.read(environ={"HOME": "/nonexistent"})
        body, kind = b"", "text/plain"
        if self.path != "/simple/uv/":
            with contextlib.suppress(FetchError):
                fetcher = Fetcher(config, time.monotonic() + 60)
                body, kind, _ = fetcher.page(config.indexes[0].rstrip("/") + self.path.removeprefix("/simple"))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index_without_uv() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _WithoutUv)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pip_installs_the_lock_where_uv_is_blocked(vm: Vm, index_without_uv: str) -> None:
    vm.environ["PIP_INDEX_URL"] = index_without_uv
    built = vm.build(pythons()[0])
    assert versions(vm, built)["server"]
    assert any("403" in line for line in built.said)
    assert not built.needed
    assert not list((vm.home / "env" / "tools").glob("uv-*/uv"))


@pytest.fixture
def island() -> Iterator[list[str]]:
    """The command prefix that runs a command where no route leads anywhere."""
    ip = need("ip", "iproute2")
    if reason := unavailable():
        pytest.skip(f"no network namespaces here: {reason}")
    name = "rr-" + secrets.token_hex(4)
    subprocess.run([ip, "netns", "add", name], check=True, capture_output=True)
    try:
        yield [ip, "netns", "exec", name]
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.netns
@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize("python", pythons()[:2])
def test_sent_wheels_install_the_lock_without_egress(
    vm: Vm, island: list[str], cache: Path, python: str, installer: str
) -> None:
    vm.prefix = island
    target = json.loads(
        subprocess.run(
            [python, "-I", "-c", (files("remote_runtime.guest") / "target.py").read_text()],
            capture_output=True,
            check=True,
        ).stdout
    )
    wheels = wheels_for(target, ui="none", cache_dir=cache, say=print, deadline=Deadline(SECONDS))
    vm.sent = [path for path in wheels if installer == "uv" or not path.name.startswith("uv-")]
    built = vm.build(python)
    assert versions(vm, built)["server"]
    assert [asked["target"] for asked in built.needed] == [target]
    assert any("using pip" in line for line in built.said) == (installer == "pip")


@pytest.mark.netns
def test_without_egress_and_without_wheels_the_error_says_so(vm: Vm, island: list[str]) -> None:
    vm.prefix = island
    built = vm.build(pythons()[0])
    assert built.error[0] == "install_no_egress"
    assert not (vm.home / "env" / "key").exists()
