"""The whole story: connect to a machine that has a Jupyter, and use the URL."""

from __future__ import annotations

import hashlib
import http.cookiejar
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import websocket

from remote_runtime import Forward, Runtime, ServerInfo, Settings, connect
from remote_runtime.errors import AlreadyConnected, InstanceError, PortInUse, ServerError
from remote_runtime.events import Event, LinkChanged, Notice, StepStarted, to_dict
from remote_runtime.forward import listen
from remote_runtime.store import Store
from tests.jupyter.machine import ALIAS, Machine
from tests.ssh.peers import echo, serving


def join(user: Settings, **options: Any) -> Runtime:
    return connect(ALIAS, provider="ssh", settings=user, **{"local_port": "auto", "timeout": 120, **options})


def get(runtime: Runtime, path: str, **headers: str) -> bytes:
    request = urllib.request.Request(
        f"http://localhost:{runtime.port}/{path}", headers={"Authorization": f"token {runtime.token}", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def send(runtime: Runtime, method: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        f"http://localhost:{runtime.port}/{path}",
        data=json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"token {runtime.token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def kill(server: ServerInfo) -> None:
    """End the Jupyter server and wait until its port is closed as well, which its last thread does."""
    psutil.Process(server.pid).kill()
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)):
                return
        time.sleep(0.01)


def run_cell(runtime: Runtime, kernel: str, code: str) -> list[tuple[float, str]]:
    """The cell's output to its standard streams, each piece with the moment it came."""
    url = f"ws://localhost:{runtime.port}/api/kernels/{kernel}/channels?token={runtime.token}"
    message = {
        "header": {"msg_id": secrets.token_hex(8), "msg_type": "execute_request", "username": "", "session": "s"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False},
        "channel": "shell",
    }
    came: list[tuple[float, str]] = []
    channel = websocket.create_connection(url, timeout=60)
    try:
        channel.send(json.dumps(message))
        while True:
            reply = json.loads(channel.recv())
            if reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if reply["msg_type"] == "stream":
                came.append((time.monotonic(), reply["content"]["text"]))
            if reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
                return came
    finally:
        channel.close()


def test_the_url_answers_and_a_cell_streams_its_output(user: Settings) -> None:
    with join(user) as runtime:
        with urllib.request.urlopen(runtime.url, timeout=60) as page:
            assert page.status == 200
        kernel = send(runtime, "POST", "api/kernels", {"name": "python3"})["id"]
        came = run_cell(runtime, kernel, "import time\nfor i in range(3):\n    print(i, flush=True); time.sleep(0.3)")
        assert "".join(text for _, text in came) == "0\n1\n2\n"
        assert came[-1][0] - came[0][0] > 0.3  # it came as it was written, not in one piece at the end
        send(runtime, "DELETE", f"api/kernels/{kernel}")


def test_a_second_connect_adopts_the_server_and_keeps_url_and_token(user: Settings, machine: Machine) -> None:
    with join(user) as first:
        url, token, server = first.url, first.token, first.server
    inventory = sorted(str(path) for path in (machine.home / ".remote-runtime").rglob("*"))
    with join(user, local_port=None) as second:
        assert (second.url, second.token, second.server.pid) == (url, token, server.pid)
        assert second.server.adopted
        assert second.server.installed == ()
    assert sorted(str(path) for path in (machine.home / ".remote-runtime").rglob("*")) == inventory


def test_another_host_adopts_it_too(user: Settings, machine: Machine, tmp_path: Path) -> None:
    elsewhere = Settings.load({"HOME": str(user.home), "REMOTE_RUNTIME_HOME": str(tmp_path / "another laptop")})
    with join(user) as here, join(elsewhere) as there:
        assert (here.token, here.server.pid) == (there.token, there.server.pid)
        assert here.port != there.port


def test_the_same_host_is_told_that_it_is_connected_already(user: Settings) -> None:
    with join(user) as runtime:
        with pytest.raises(AlreadyConnected) as caught:
            join(user)
        assert (caught.value.url, caught.value.pid) == (runtime.url, os.getpid())
        assert runtime.token not in str(caught.value)


def test_a_wanted_port_is_strict_and_a_remembered_one_is_not(user: Settings) -> None:
    with join(user) as runtime:
        port = runtime.port
    with listen(port):
        with pytest.raises(PortInUse):
            join(user, local_port=port)
        told: list[Event] = []
        with join(user, local_port=None, on_event=told.append) as runtime:
            assert runtime.port != port
        assert next(event.code for event in told if isinstance(event, Notice)) == "port_changed"


def test_another_port_can_be_forwarded_too(user: Settings) -> None:
    with listen(0) as free:
        spare = free.port
    with serving(echo) as port, join(user, forwards=[Forward(spare, "127.0.0.1", port)]):
        with socket.create_connection(("127.0.0.1", spare), timeout=20) as client:
            client.sendall(b"me too")
            assert client.recv(10) == b"me too"


def test_a_command_runs_on_the_machine(user: Settings, machine: Machine) -> None:
    with join(user) as runtime:
        done = runtime.run(["sh", "-c", 'cat; echo "$1" >&2; pwd; exit 3', "sh", "it's $HOME"], input=b"in\n")
    assert (done.returncode, done.stderr) == (3, b"it's $HOME\n")
    assert done.stdout == b"in\n" + str(machine.home).encode() + b"\n"


def test_events_tell_the_story_in_order_and_the_last_state_is_closed(user: Settings) -> None:
    told: list[Event] = []
    with join(user, on_event=told.append) as runtime:
        assert runtime.state == "connected"
        assert "connected" in repr(runtime)
    steps = [event.step for event in told if isinstance(event, StepStarted)]
    assert steps == ["instance", "ssh", "server", "forward"]
    assert [event.state for event in told if isinstance(event, LinkChanged)] == ["closed"]


def test_a_callback_that_fails_breaks_nothing(user: Settings) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("the callback's own defect")

    with join(user, on_event=fail) as runtime:
        assert get(runtime, "api/status")


def test_200_requests_and_20_websockets_at_once(user: Settings) -> None:
    with join(user) as runtime, ExitStack() as opened:
        kernel = send(runtime, "POST", "api/kernels", {"name": "python3"})["id"]
        sockets = []
        for _ in range(20):
            url = f"ws://localhost:{runtime.port}/api/kernels/{kernel}/channels?token={runtime.token}"
            channel = websocket.create_connection(url, timeout=60)
            opened.callback(channel.close)
            sockets.append(channel)
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: json.loads(get(runtime, "api/status"))["kernels"], range(200)))
        assert answers == [1] * 200
        for channel in sockets:
            channel.ping()
            request = {
                "header": {"msg_id": secrets.token_hex(8), "msg_type": "kernel_info_request", "session": "s"},
                "parent_header": {},
                "metadata": {},
                "content": {},
                "channel": "shell",
            }
            channel.send(json.dumps(request))
            while json.loads(channel.recv())["msg_type"] != "kernel_info_reply":
                pass
        send(runtime, "DELETE", f"api/kernels/{kernel}")


def test_a_file_comes_through_whole_in_both_directions(user: Settings, machine: Machine) -> None:
    content = os.urandom(1 << 16) * 800  # 50 MB, which does not compress
    (machine.home / "big.bin").write_bytes(content)
    with join(user) as runtime:
        assert hashlib.sha256(get(runtime, "files/big.bin")).digest() == hashlib.sha256(content).digest()
        text = content.hex()[: 8 << 20]
        send(runtime, "PUT", "api/contents/up.txt", {"type": "file", "format": "text", "content": text})
    assert (machine.home / "up.txt").read_text() == text
    (machine.home / "big.bin").unlink()


def test_a_cut_and_a_killed_server_both_heal_at_the_same_url(user: Settings, machine: Machine) -> None:
    told: list[Event] = []
    back = threading.Event()

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, LinkChanged) and event.state == "connected":
            back.set()

    with join(user, on_event=hear) as runtime:
        url, pid = runtime.url, runtime.server.pid
        machine.sshd.kill_connections()
        assert get(runtime, "api/status")
        assert back.wait(30)
        assert runtime.server.pid == pid
        back.clear()
        kill(runtime.server)
        assert get(runtime, "api/status")  # waits until the server has been started again
        assert runtime.server.pid != pid
        assert runtime.url == url
    (notice,) = (event for event in told if isinstance(event, Notice) and event.code == "server_restarted")
    assert "last words" in notice.text


def test_a_server_that_keeps_dying_is_not_started_for_ever(user: Settings) -> None:
    with join(user) as runtime:
        for _ in range(3):
            pid = runtime.server.pid
            kill(runtime.server)
            try:
                get(runtime, "api/status")
            except (urllib.error.URLError, ConnectionError):
                break
            assert runtime.server.pid != pid
        with pytest.raises(ServerError) as caught:
            runtime.wait(60)
        assert caught.value.code == "server_keeps_dying"
        assert any("ServerApp" in line for line in caught.value.log)
    with join(user) as runtime:  # whoever connects anew wants it once more
        assert get(runtime, "api/status")


def test_a_server_stopped_on_purpose_is_not_started_behind_the_users_back(user: Settings, machine: Machine) -> None:
    with join(user) as runtime:
        machine.stop_jupyter()
        machine.sshd.kill_connections()
        with pytest.raises(ServerError) as caught:
            runtime.wait(60)
        assert caught.value.code == "server_stopped"
        assert runtime.state == "failed"
    with join(user) as runtime:  # but a new connect means it
        assert get(runtime, "api/status")


def test_a_new_token_shuts_out_the_old_url(user: Settings) -> None:
    with join(user) as runtime:
        old = runtime.token
    with join(user, new_token=True) as runtime:
        assert runtime.token != old
        request = urllib.request.Request(
            f"http://localhost:{runtime.port}/api/status", headers={"Authorization": f"token {old}"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        caught.value.close()
        assert caught.value.code == 403


def test_a_new_token_ends_the_sessions_of_browsers_too(user: Settings) -> None:
    """Jupyter logs a browser in by a cookie, which must not outlive the token that it was given for."""

    def visit(runtime: Runtime, jar: http.cookiejar.CookieJar, query: str) -> int:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        try:
            with opener.open(f"http://localhost:{runtime.port}/api/status{query}", timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    jar = http.cookiejar.CookieJar()
    with join(user) as runtime:
        assert visit(runtime, jar, f"?token={runtime.token}") == 200
        assert visit(runtime, jar, "") == 200, "the cookie lets in"
    with join(user, local_port=None, new_token=True) as runtime:
        assert visit(runtime, jar, "") == 403


def test_a_squatter_on_the_port_of_a_dead_server_gets_no_byte(user: Settings) -> None:
    heard: list[bytes] = []

    def listen_in(far: socket.socket) -> None:
        far.settimeout(5)
        heard.append(far.recv(65536))

    with join(user) as runtime:
        dead = runtime.server
        kill(dead)
        with serving(listen_in, port=dead.port):
            assert get(runtime, "api/status")  # from the server that was started again, elsewhere
        assert runtime.server.port != dead.port
    assert not any(heard), "it was connected to, at most"


def test_an_unknown_machine_leaves_nothing_open(settings: Settings) -> None:
    with pytest.raises(Exception) as caught:
        connect("nobody@no-such-host.invalid", provider="ssh", local_port="auto", settings=settings, timeout=20)
    assert getattr(caught.value, "code", "") == "unknown_host"
    assert Store(settings.state_dir).names() == []


def test_a_cloud_without_credentials_leaves_nothing_open(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(InstanceError) as caught:
        connect("trainer", local_port="auto", settings=settings)
    assert caught.value.code == "credentials_missing"
    assert Store(settings.state_dir).names() == []


def test_the_token_is_nowhere_but_where_it_must_be(
    user: Settings, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the VM's 0600 file, in the host's 0600 file, and in the URL; in no argv, environment, event or log."""
    caplog.set_level("DEBUG")
    told: list[Event] = []
    with join(user, on_event=told.append) as runtime:
        token = runtime.token.encode()
        kernel = send(runtime, "POST", "api/kernels", {"name": "python3"})["id"]
        for process in psutil.process_iter():
            try:
                seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                seen += Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            assert token not in seen, f"process {process.pid}"
        with pytest.raises(AlreadyConnected) as caught:
            join(user)
        said = [repr(runtime), repr(runtime.server), str(caught.value), repr(caught.value), caplog.text]
        assert not any(runtime.token in text for text in [*said, *(json.dumps(to_dict(event)) for event in told)])
        send(runtime, "DELETE", f"api/kernels/{kernel}")
    for root in (machine.home, user.state_dir, user.cache_dir, user.home, machine.sshd.files.directory):
        for path in root.rglob("*"):
            if path.is_file() and token in path.read_bytes():
                assert path.stat().st_mode & 0o777 == 0o600, path


def test_it_connects_from_a_process_of_its_own_with_an_empty_environment(user: Settings) -> None:
    """As automation does: no terminal, nothing in the environment but where the home is."""
    script = (
        "from remote_runtime import connect\n"
        f"with connect({ALIAS!r}, provider='ssh', local_port='auto', timeout=100) as runtime:\n"
        "    print(runtime.run(['echo', 'done']).stdout.decode())\n"
    )
    home = {"HOME": str(user.home), "REMOTE_RUNTIME_HOME": str(user.state_dir.parent)}
    done = subprocess.run([sys.executable, "-c", script], env=home, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"done", b"")
