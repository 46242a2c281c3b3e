"""The guest program with a real Jupyter: started, adopted, fought over, ended; and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
import websocket

from remote_runtime import bootstrap
from remote_runtime._threads import Deadline
from remote_runtime.errors import GuestError, NetworkError, ServerError
from remote_runtime.events import Event, Notice, StepProgress
from remote_runtime.guest import processes
from remote_runtime.guest.clock import Deadline as GuestDeadline
from remote_runtime.model import ServerInfo, ServerOptions
from tests.jupyter.local import SYSTEM_PATH, LocalProcess, LocalShell

VENV = Path(sys.executable).parent
SECONDS = 150.0


class Vm(LocalShell):
    """This machine as a VM, with the verbs as a test wants to call them."""

    def ensure(self, *, token: str = "", new_token: bool = False, restart: bool = True, **options: Any) -> ServerInfo:
        self.events: list[Event] = []
        return bootstrap.ensure_server(
            self,
            ServerOptions(**options),
            token=token,
            new_token=new_token,
            restart=restart,
            on_event=self.events.append,
            deadline=Deadline(SECONDS),
            cache_dir=self.home.parent / "cache",
        )

    def stop(self) -> bool:
        return bootstrap.stop_server(self, Deadline(60))

    @property
    def state(self) -> Path:
        return self.home / ".remote-runtime"

    @property
    def machine(self) -> Path:
        (found,) = (self.state / "machines").iterdir()
        return found

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.machine / "server.json").read_text())
        return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


@pytest.fixture
def vm(home: Path) -> Iterator[Vm]:
    """A VM whose PATH has a Jupyter; whatever runs on it in the end is ended."""
    machine = Vm(home, path=f"{VENV}:{SYSTEM_PATH}")
    yield machine
    machine.stop()


def running(pid: int) -> bool:
    """Whether the process runs; one that ended counts as gone, whoever has to reap it."""
    return bool(processes.started(pid))


def await_end(pid: int) -> None:
    assert processes.end({pid: processes.started(pid)}, 0, GuestDeadline(20)) == {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vm, ServerInfo]]:
    """One running server for the tests that only look at it."""
    machine = Vm(tmp_path_factory.mktemp("served"), path=f"{VENV}:{SYSTEM_PATH}")
    old = os.umask(0o022)
    try:
        server = machine.ensure(allow_origin="https://lab.example")
    finally:
        os.umask(old)
    yield machine, server
    machine.stop()


def ask(server: ServerInfo, path: str, body: dict[str, Any] | None = None, *, method: str | None = None) -> Any:
    request = Request(
        f"http://127.0.0.1:{server.port}{server.base_url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "token " + server.token},
        method=method,
    )
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def compute(server: ServerInfo, code: str, *, keep: bool = False) -> Any:
    """Run code in a fresh kernel; what it printed, as JSON.  The kernel is ended unless it is to be kept."""
    kernel = ask(server, "api/kernels", {"name": "python3"})["id"]
    url = f"ws://127.0.0.1:{server.port}{server.base_url}api/kernels/{kernel}/channels"
    channel = websocket.create_connection(url, timeout=60, header=["Authorization: token " + server.token])
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": "s",
        "username": "",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    channel.send(json.dumps(message))
    printed = ""
    while True:
        answer = json.loads(channel.recv())
        if answer["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        printed += answer["content"].get("text", "") if answer["msg_type"] == "stream" else ""
        if answer["msg_type"] == "error":
            raise AssertionError(answer["content"])
        if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
            break
    channel.close()
    if not keep:
        ask(server, "api/kernels/" + kernel, method="DELETE")
    return json.loads(printed)


# -- start and adopt --------------------------------------------------------------------------------------------------


def test_the_first_connect_starts_and_the_second_adopts(served: tuple[Vm, ServerInfo]) -> None:
    vm, first = served
    assert not first.adopted
    assert [text.split()[0] for text in first.installed] == ["jupyter_http_over_ws"]
    assert (first.root_dir, first.base_url) == (str(vm.home), "/")
    assert Path(first.python).parent == VENV
    assert {type(event) for event in vm.events} <= {StepProgress}
    assert ask(first, "api/status")["kernels"] == 0

    second = vm.ensure(restart=False)
    assert second.adopted
    assert second.installed == ()
    assert vm.events == []
    assert (second.pid, second.port, second.token) == (first.pid, first.port, first.token)
    assert bootstrap.server_status(vm, Deadline(30)) == second


def test_the_token_is_nowhere_but_in_its_files(vm: Vm) -> None:
    server = vm.ensure()
    compute(server, "print(1)", keep=True)
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    assert len(family) >= 2
    for process in family:
        assert server.token not in " ".join(process.cmdline())
        assert server.token not in str(process.environ())
    for path in vm.home.rglob("*"):
        if path.is_file() and server.token in path.read_bytes().decode("latin-1"):
            assert path.stat().st_mode & 0o777 == 0o600, path
            assert path.name == "token" or path.name.startswith("jpserver-"), path
    assert server.token not in "".join(bootstrap.server_log(vm, Deadline(30)))
    assert server.token not in repr(server) + repr(vm.events)


def test_it_listens_on_loopback_alone_and_belongs_to_nobody(served: tuple[Vm, ServerInfo]) -> None:
    _, server = served
    process = psutil.Process(server.pid)
    listening = {c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert {(address.ip) for address in listening} == {"127.0.0.1"}
    assert os.getsid(server.pid) == server.pid
    assert Path(f"/proc/{server.pid}/fd/0").readlink() == Path("/dev/null")


def test_state_is_private_and_the_log_is_readable(served: tuple[Vm, ServerInfo]) -> None:
    vm, server = served
    for path in [vm.state, *vm.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    lines = bootstrap.server_log(vm, Deadline(30), lines=5)
    assert len(lines) == 5
    assert any("Jupyter Server" in line for line in bootstrap.server_log(vm, Deadline(30)))
    assert vm.record()["pid"] == server.pid


def test_the_page_that_is_allowed_may_call(served: tuple[Vm, ServerInfo]) -> None:
    _, server = served
    request = Request(f"http://127.0.0.1:{server.port}/api/status", headers={"Origin": "https://lab.example"})
    request.add_header("Authorization", "token " + server.token)
    with urlopen(request, timeout=30) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


# -- what is left alone -----------------------------------------------------------------------------------------------


def fingerprint(directory: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time and content of all that is below."""
    found = {}
    for path in sorted(directory.rglob("*")):
        info = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else ""
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = (info.st_mode, info.st_mtime_ns, content)
    return found


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment with a Jupyter that was never run: it has no compiled module yet."""
    directory = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (source,) = (VENV.parent / "lib").glob("python3*/site-packages")
    (target,) = (directory / "lib").glob("python3*/site-packages")
    ignored = shutil.ignore_patterns("__pycache__", "mypy*", "ruff*", "hypothesis*", "pip*", "*.pth")
    shutil.copytree(source, target, copy_function=_link, ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(VENV.parent / "share", directory / "share", dirs_exist_ok=True)
    return directory


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def test_a_jupyter_that_is_there_is_used_and_not_touched(home: Path, environment: Path) -> None:
    before = fingerprint(environment)
    assert before
    vm = Vm(home, path=f"{environment}/bin:{SYSTEM_PATH}")
    server = vm.ensure()
    try:
        assert Path(server.python).parent == environment / "bin"
        assert ask(server, "api/status")["kernels"] == 0
        vm.ensure()
    finally:
        vm.stop()
    assert fingerprint(environment) == before


def test_kernels_see_the_users_world_and_nothing_of_ours(served: tuple[Vm, ServerInfo]) -> None:
    vm, server = served
    code = """
        import json, os, signal, sys
        ignored = [n for n in (signal.SIGHUP, signal.SIGPIPE) if signal.getsignal(n) is signal.SIG_IGN]
        print(json.dumps([dict(os.environ), os.umask(0), sys.path, os.getcwd(), sys.dont_write_bytecode,
                          signal.getsignal(signal.SIGHUP) is signal.SIG_IGN]))
    """
    environ, umask, path, cwd, dont_write, hang_up_ignored = compute(
        server, "\n".join(map(str.strip, code.splitlines()))
    )
    ours = str(vm.state)
    assert umask == 0o022
    assert cwd == str(vm.home)
    assert not [name for name, value in environ.items() if ours in value]
    assert not {"JUPYTER_CONFIG_PATH", "JUPYTER_TOKEN_FILE", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"} & set(environ)
    assert environ["PATH"].split(":")[0] == str(VENV)
    assert not [entry for entry in path if ours in entry]
    assert not dont_write
    assert not hang_up_ignored


def test_the_users_own_configuration_can_not_take_the_server_from_us(vm: Vm) -> None:
    (vm.home / "lib").mkdir()
    (vm.home / "lib" / "their_extension.py").write_text(
        "def _jupyter_server_extension_points(): return [{'module': 'their_extension'}]\n"
        "def _load_jupyter_server_extension(app): open(app.root_dir + '/loaded', 'w').close()\n"
    )
    (vm.home / ".jupyter").mkdir()
    (vm.home / ".jupyter" / "jupyter_server_config.py").write_text(
        "c.ServerApp.ip = '0.0.0.0'\nc.ServerApp.port = 1\nc.ServerApp.base_url = '/theirs'\n"
        "c.IdentityProvider.token = ''\nc.PasswordIdentityProvider.token = ''\nc.ServerApp.token = ''\n"
        "c.ServerApp.allow_origin = '*'\nc.ServerApp.certfile = '/nonexistent'\n"
        "c.ServerApp.jpserver_extensions = {'their_extension': True}\n"
    )
    (vm.home / ".jupyter" / "jupyter_server_config.json").write_text('{"ServerApp": {"port": 2, "allow_origin": "*"}}')
    vm.environ = {
        **vm.environ,
        "PYTHONPATH": str(vm.home / "lib"),
        "JUPYTER_TOKEN": "theirs",
        "JUPYTER_CONFIG_PATH": str(vm.home / "more"),
    }
    server = vm.ensure()
    assert ask(server, "api/status")["kernels"] == 0
    assert (vm.home / "loaded").exists()
    environ = compute(server, "import json, os; print(json.dumps(dict(os.environ)))")
    assert environ["JUPYTER_CONFIG_PATH"] == str(vm.home / "more")
    assert vm.ensure().adopted


def test_modules_in_the_home_do_not_get_in_the_way(vm: Vm) -> None:
    for name in ("tornado.py", "jupyter_server.py", "json.py"):
        (vm.home / name).write_text("raise SystemExit('wrong module')\n")
    assert vm.ensure().adopted is False


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_are_kept_and_differences_are_told(vm: Vm) -> None:
    (vm.home / "work").mkdir()
    port = processes.any_port()
    options = {"notebook_dir": "~/work", "remote_port": port, "jupyter_args": ("--ServerApp.base_url=/lab/x",)}
    first = vm.ensure(**options)
    assert (first.root_dir, first.port, first.base_url) == (str(vm.home / "work"), port, "/lab/x/")
    assert ask(first, "api/status")["kernels"] == 0
    vm.ensure(**options)
    assert vm.events == []
    vm.ensure(notebook_dir="/tmp", ui="none")
    (notice,) = vm.events
    assert isinstance(notice, Notice)
    assert "--notebook-dir, --ui" in notice.text

    os.kill(first.pid, signal.SIGKILL)
    await_end(first.pid)
    again = vm.ensure(restart=False)
    assert not again.adopted
    assert again.pid != first.pid
    assert (again.root_dir, again.port, again.base_url, again.token) == (
        first.root_dir, first.port, first.base_url, first.token,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"notebook_dir": "~/absent"}, "notebook_dir_missing"),
        ({"python": "/nonexistent/python"}, "python_not_found"),
        ({"python": "/usr/bin/python3"}, "python_without_ipykernel"),
        ({"jupyter_args": ("--ServerApp.port=1",)}, "jupyter_arg_refused"),
        ({"jupyter_args": ("--ServerApp.base_url=/a b",)}, "jupyter_arg_refused"),
    ],
)
def test_options_that_can_not_be_had(vm: Vm, options: dict[str, Any], code: str) -> None:
    with pytest.raises(GuestError) as caught:
        vm.ensure(**options)
    assert caught.value.code == code
    assert caught.value.hint
    assert bootstrap.server_status(vm, Deadline(30)) is None


def test_a_server_that_does_not_come_up_says_why(vm: Vm) -> None:
    with pytest.raises(ServerError) as caught:
        vm.ensure(jupyter_args=("--ServerApp.shutdown_no_activity_timeout=soon",))
    assert caught.value.code == "server_died"
    assert any("shutdown_no_activity_timeout" in line for line in caught.value.log)


def test_a_wished_python_that_has_a_jupyter_serves(vm: Vm) -> None:
    vm.environ = {**vm.environ, "PATH": SYSTEM_PATH}
    server = vm.ensure(python=sys.executable)
    assert server.python == sys.executable
    assert server.installed == () or server.installed[0].startswith("jupyter_http_over_ws")


def test_a_machine_that_is_reset_again_and_again_is_no_server_that_keeps_dying(vm: Vm) -> None:
    """Another boot's server is started again, and who is connected hears of it; it is no death that counts."""
    first = vm.ensure()
    os.kill(first.pid, signal.SIGKILL)
    await_end(first.pid)
    record = {**vm.record(), "deaths": [time.time() - 2, time.time() - 1]}
    (vm.machine / "server.json").write_text(json.dumps(record))
    with pytest.raises(ServerError) as caught:
        vm.ensure(restart=False)
    assert caught.value.code == "server_keeps_dying"
    ticks = record["started"].rpartition("/")[2]
    (vm.machine / "server.json").write_text(json.dumps({**record, "started": f"of-another-boot/{ticks}"}))
    second = vm.ensure(restart=False)
    assert (second.port, second.token) == (first.port, first.token)
    assert vm.record()["deaths"] == record["deaths"]
    assert "server_restarted" in [event.code for event in vm.events if isinstance(event, Notice)]


# -- ports ------------------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken(vm: Vm) -> None:
    with bound() as port:
        with pytest.raises(ServerError) as caught:
            vm.ensure(remote_port=port)
        assert caught.value.code == "server_port_taken"
        assert str(port) in caught.value.message
    first = vm.ensure(remote_port=port)
    assert first.port == port


def test_a_kept_port_that_was_taken_is_given_up(vm: Vm) -> None:
    first = vm.ensure()
    os.kill(first.pid, signal.SIGKILL)
    await_end(first.pid)
    with bound(first.port):
        second = vm.ensure(restart=False)
    assert second.port != first.port
    assert second.token == first.token


class bound:
    """A listener of somebody else."""

    def __init__(self, port: int = 0) -> None:
        import socket

        self._socket = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> int:
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.close()


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_whose_token_counts(vm: Vm) -> None:
    remembered = "h" * 48
    first = vm.ensure(token=remembered)
    assert first.token == remembered
    assert (vm.machine / "token").read_bytes() == remembered.encode()
    assert vm.ensure(token="x" * 48).token == remembered

    renewed = vm.ensure(new_token=True)
    assert renewed.token not in (remembered, "x" * 48)
    assert (renewed.adopted, renewed.port) == (False, first.port)
    assert not running(first.pid)
    assert vm.ensure(token=remembered).token == renewed.token


def test_a_server_whose_token_was_lost_is_replaced(vm: Vm) -> None:
    first = vm.ensure()
    (vm.machine / "token").unlink()
    second = vm.ensure()
    assert (second.adopted, second.port) == (False, first.port)
    assert second.token != first.token


# -- several hosts, and hosts that go away ----------------------------------------------------------------------------


def test_two_hosts_at_once_get_one_server(vm: Vm) -> None:
    other = Vm(vm.home, path=vm.environ["PATH"])
    barrier = threading.Barrier(2)

    def connect(machine: Vm) -> ServerInfo:
        barrier.wait()
        return machine.ensure()

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(connect, [vm, other])
    assert (one.pid, one.token, one.port) == (two.pid, two.token, two.port)
    assert sorted([one.adopted, two.adopted]) == [False, True]


class HangsUp(Vm):
    """A host whose connection breaks when the guest says a certain thing."""

    word = "Starting"
    kill = False

    def execute(self, line: str, deadline: Deadline) -> LocalProcess:
        self.process = Breaking(self, line, deadline)
        return self.process


class Breaking(LocalProcess):
    def __init__(self, machine: HangsUp, line: str, deadline: Deadline) -> None:
        super().__init__([machine.shell, "-c", "exec " + line], machine, deadline)
        self.machine = machine

    def lines(self) -> Iterator[bytes]:
        for line in super().lines():
            if self.machine.word.encode() in line:
                if self.machine.kill:
                    self.process.kill()
                self.hang_up()
                raise NetworkError("the connection broke", code="connection_lost")
            yield line


def test_a_host_that_goes_away_leaves_a_server_behind(vm: Vm) -> None:
    cut = HangsUp(vm.home, path=vm.environ["PATH"])
    with pytest.raises(NetworkError):
        cut.ensure()
    assert cut.process.process.returncode == 0
    server = vm.ensure()
    assert server.adopted
    assert ask(server, "api/status")["kernels"] == 0


def test_a_guest_program_that_is_killed_leaves_usable_state(vm: Vm) -> None:
    cut = HangsUp(vm.home, path=vm.environ["PATH"])
    cut.kill = True
    with pytest.raises(NetworkError):
        cut.ensure()
    server = vm.ensure()
    assert ask(server, "api/status")["kernels"] == 0
    assert vm.ensure().pid == server.pid
    servers = [process for process in psutil.process_iter(["cmdline", "environ"]) if _is_server(process, vm)]
    assert [process.pid for process in servers] == [server.pid]


def _is_server(process: psutil.Process, vm: Vm) -> bool:
    command, environ = process.info["cmdline"] or [], process.info["environ"] or {}
    return "jupyter_server" in command and environ.get("HOME") == str(vm.home)


# -- stop, and gone ---------------------------------------------------------------------------------------------------


def test_a_server_that_was_stopped_stays_so_for_a_reconnect(vm: Vm) -> None:
    first = vm.ensure()
    assert compute(first, "print(1)", keep=True) == 1
    kernels = psutil.Process(first.pid).children(recursive=True)
    assert kernels
    assert vm.stop() is True
    assert not running(first.pid)
    _, alive = psutil.wait_procs(kernels, timeout=10)
    assert not alive
    assert bootstrap.server_status(vm, Deadline(30)) is None
    assert vm.stop() is False

    with pytest.raises(ServerError) as caught:
        vm.ensure(restart=False)
    assert caught.value.code == "server_stopped"

    again = vm.ensure()
    assert (again.port, again.token, again.adopted) == (first.port, first.token, False)
    assert vm.ensure(restart=False).adopted


def test_nothing_of_ours_stays_after_an_uninstall(vm: Vm) -> None:
    (vm.home / "mine.ipynb").touch()
    server = vm.ensure()
    assert bootstrap.uninstall(vm, Deadline(60)) == [str(vm.state)]
    assert not running(server.pid)
    assert not vm.state.exists()
    assert (vm.home / "mine.ipynb").exists()
    assert bootstrap.uninstall(vm, Deadline(60)) == [str(vm.state)]  # the program itself had come again


def test_an_uninstall_leaves_what_another_machine_uses(vm: Vm) -> None:
    vm.ensure()
    machine = vm.machine
    (vm.state / "machines" / "another").mkdir(mode=0o700)
    assert bootstrap.uninstall(vm, Deadline(60)) == [str(machine)]
    assert (vm.state / "ext").exists()
    shutil.rmtree(vm.state / "machines" / "another")


# -- an environment of ours -------------------------------------------------------------------------------------------


@pytest.mark.egress
def test_a_vm_without_jupyter_gets_an_environment_of_ours(home: Path, tmp_path: Path) -> None:
    python = tmp_path / "kernels" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "kernels"], check=True)
    (packages,) = (tmp_path / "kernels" / "lib").glob("python3*/site-packages")
    (source,) = (VENV.parent / "lib").glob("python3*/site-packages")
    for entry in source.iterdir():
        if not entry.name.startswith(("jupyter_server", "__pycache__")):
            (packages / entry.name).symlink_to(entry)
    vm = Vm(home)
    try:
        first = vm.ensure(ui="none")
        names = [text.split()[0] for text in first.installed]
        assert names[:2] == ["jupyter_server", "ipykernel"]
        assert str(vm.state) in first.python
        vm.stop()

        second = vm.ensure(ui="none", python=str(python))
        assert second.installed == ()
        assert second.python == str(python)
        assert compute(second, "import json, sys; print(json.dumps(sys.executable))") == str(python)
        vm.stop()
        assert vm.ensure(ui="none", upgrade=True).installed == ()
    finally:
        bootstrap.uninstall(vm, Deadline(60))
    assert not vm.state.exists()


@pytest.mark.egress
@pytest.mark.timeout(400)
def test_a_vm_without_a_way_to_an_index_is_sent_wheels(home: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    vm = Vm(home, **nowhere)
    try:
        server = vm.ensure(ui="none")
        assert ask(server, "api/status")["kernels"] == 0
        assert str(vm.state) in server.python
        assert any(isinstance(event, StepProgress) and "wheel" in event.text for event in vm.events)
    finally:
        bootstrap.uninstall(vm, Deadline(60))
