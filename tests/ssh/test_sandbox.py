"""The provider ``sandbox`` with both of its SSH servers, used by OpenSSH's own client."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from remote_runtime import ssh
from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError, StateError, UsageError
from remote_runtime.events import Event, Notice, log_event
from remote_runtime.model import Endpoint, Identity, Instance, InstanceSpec, Pinned
from remote_runtime.providers import _sandbox_openssh, _sandbox_server
from remote_runtime.providers.sandbox import SandboxProvider
from remote_runtime.settings import Settings
from tests.tools import need

SECONDS = 60.0
MakeProvider = Callable[..., SandboxProvider]


@pytest.fixture(params=["openssh", "asyncssh"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "openssh":
        need("sshd", "openssh-server")
    return str(request.param)


@pytest.fixture
def make_provider(settings: Settings) -> Iterator[MakeProvider]:
    """``make_provider(kind)`` gives one whose sandboxes are deleted at the end."""

    def make(kind: str = "auto", state_dir: Path | None = None) -> SandboxProvider:
        environ = {**settings.environ, "REMOTE_RUNTIME_SANDBOX_SERVER": kind}
        made = SandboxProvider(
            dataclasses.replace(settings, environ=environ, state_dir=state_dir or settings.state_dir)
        )
        providers.append(made)
        return made

    providers: list[SandboxProvider] = []
    yield make
    for provider in providers:
        for instance in provider.list():
            provider.delete(instance.name, Deadline(SECONDS))


@pytest.fixture
def provider(make_provider: MakeProvider, kind: str) -> SandboxProvider:
    return make_provider(kind)


def up(provider: SandboxProvider, name: str = "sandbox", events: list[Event] | None = None) -> Instance:
    return provider.ensure(name, Deadline(SECONDS), (events if events is not None else []).append)


def pid_of(settings: Settings, name: str = "sandbox") -> int:
    return int(json.loads((root(settings, name) / "server" / "state.json").read_text())["pid"])


def root(settings: Settings, name: str = "sandbox") -> Path:
    return settings.state_dir / "sandboxes" / name


def client(endpoint: Endpoint, *command: str) -> list[str]:
    """The command line of OpenSSH's client that does as the endpoint says, host key included."""
    need("ssh", "openssh-client")
    trust = endpoint.trust
    assert isinstance(trust, Pinned)
    known = endpoint.identities[0].key.with_name("known-to-the-test")
    known.write_text(f"[127.0.0.1]:{endpoint.port} {trust.keys[0]}\n")
    options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR"]
    key, known_quoted = (str(path).replace("%", "%%") for path in (endpoint.identities[0].key, known))
    options += [f'UserKnownHostsFile="{known_quoted}"', f'IdentityFile="{key}"']
    words = ["ssh", "-F", "none", "-p", str(endpoint.port), "-l", endpoint.user]
    return [*words, *(part for option in options for part in ("-o", option)), *command[:-1], "127.0.0.1", *command[-1:]]


def run(endpoint: Endpoint, command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(client(endpoint, command), input=data, capture_output=True, timeout=SECONDS, check=False)


def detached(endpoint: Endpoint, settings: Settings) -> psutil.Process:
    """A process that was started in the sandbox and outlives its connection."""
    run(endpoint, "nohup sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > pid")
    return psutil.Process(int((root(settings) / "home" / "pid").read_text()))


def but_port(endpoint: Endpoint) -> Endpoint:
    """The port is kept as long as nobody else took it meanwhile, which on a busy machine somebody may."""
    return dataclasses.replace(endpoint, port=0)


def login(instance: Instance) -> Endpoint:
    return instance.resolve(Deadline(SECONDS))


# -- both servers -------------------------------------------------------------------------------------------------


def test_commands_run_as_on_a_machine_of_its_own(
    provider: SandboxProvider, kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_OURS", "x")
    instance = up(provider)
    endpoint = login(instance)
    home = root(settings) / "home"
    ended = run(endpoint, 'pwd; echo "$HOME"; env; echo "it is $((6 * 7))!" >&2; exit 3')
    lines = ended.stdout.decode().splitlines()
    assert lines[:2] == [str(home), str(home)]
    assert ended.stderr == b"it is 42!\n"
    assert ended.returncode == 3
    variables = dict(line.partition("=")[::2] for line in lines[2:])
    assert not {"A_SECRET_OF_OURS", "VIRTUAL_ENV", "PYTHONPATH", "SSH_ORIGINAL_COMMAND"} & set(variables)
    assert sys.prefix not in variables["PATH"]
    assert run(endpoint, "python3 -I -c 'import sys; print(sys.version_info >= (3, 8))'").stdout == b"True\n"
    assert instance.detail.startswith({"openssh": "OpenSSH ", "asyncssh": "AsyncSSH "}[kind])
    assert instance.detail.endswith(f" on 127.0.0.1:{endpoint.port}")


def test_only_our_key_is_let_in_and_only_on_loopback(provider: SandboxProvider, tmp_path: Path) -> None:
    endpoint = login(up(provider))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    stranger = dataclasses.replace(endpoint, identities=(Identity(tmp_path / "other"),))
    words = client(stranger, "true")
    refused = subprocess.run(words, capture_output=True, timeout=SECONDS, check=False)
    assert refused.returncode == 255
    assert b"Permission denied (publickey)" in refused.stderr
    addresses = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, endpoint.port), timeout=1).close()


def test_a_second_ensure_adopts_the_server(
    make_provider: MakeProvider, provider: SandboxProvider, settings: Settings
) -> None:
    events: list[Event] = []
    first = up(provider, events=events)
    assert [event.code for event in events if isinstance(event, Notice)] == ["sandbox_isolates_nothing"]
    pid = pid_of(settings)
    second = up(make_provider(), events=events)
    assert (pid_of(settings), login(second)) == (pid, login(first))
    assert len(events) == 1


def test_stop_ends_what_runs_in_it_and_start_brings_it_back(provider: SandboxProvider, settings: Settings) -> None:
    endpoint = login(up(provider))
    assert (
        run(endpoint, "echo kept > file; nohup sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > pid").returncode == 0
    )
    inside = psutil.Process(int((root(settings) / "home" / "pid").read_text()))
    with subprocess.Popen(client(endpoint, "echo started; sleep 1000"), stdout=subprocess.PIPE) as connected:
        assert connected.stdout
        assert connected.stdout.readline() == b"started\n"
        started = time.monotonic()
        provider.stop("sandbox", Deadline(SECONDS))
        assert time.monotonic() - started < 15
        assert connected.wait(SECONDS) != 0
    assert not inside.is_running() or inside.status() == psutil.STATUS_ZOMBIE
    found = provider.find("sandbox")
    assert found
    assert (found.state, found.detail) == ("stopped", "")
    with pytest.raises(InstanceError) as caught:
        login(found)
    assert caught.value.code == "instance_stopped"
    provider.stop("sandbox", Deadline(SECONDS))  # nothing happens
    again = login(provider.start("sandbox", Deadline(SECONDS), log_event))
    assert but_port(again) == but_port(endpoint)  # the same keys
    assert run(again, "cat file").stdout == b"kept\n"
    assert provider.start("sandbox", Deadline(SECONDS), log_event).state == "running"


def test_delete_leaves_nothing(provider: SandboxProvider, settings: Settings) -> None:
    endpoint = login(up(provider))
    run(endpoint, "mkdir -p a/b; touch a/b/c; chmod 500 a/b a; ln -s / root; (sleep 1000 >/dev/null 2>&1 </dev/null &)")
    provider.delete("sandbox", Deadline(SECONDS))
    assert not root(settings).exists()
    assert provider.find("sandbox") is None
    assert provider.list() == []
    with pytest.raises(InstanceError) as caught:
        provider.delete("sandbox", Deadline(SECONDS))
    assert caught.value.code == "instance_not_found"


def test_several_side_by_side(provider: SandboxProvider) -> None:
    events: list[Event] = []
    provider.create(InstanceSpec("two"), Deadline(SECONDS), events.append)
    assert [event.code for event in events if isinstance(event, Notice)] == ["sandbox_isolates_nothing"]
    up(provider, "one")
    names = [(instance.name, instance.state) for instance in provider.list()]
    assert names == [("one", "running"), ("two", "running")]
    with pytest.raises(InstanceError) as caught:
        provider.create(InstanceSpec("one"), Deadline(SECONDS), log_event)
    assert caught.value.code == "instance_exists"
    provider.stop("one", Deadline(SECONDS))
    found = provider.find("two")
    assert found
    assert run(login(found), "echo here").stdout == b"here\n"


def test_a_server_that_died_comes_back_at_the_next_login(provider: SandboxProvider, settings: Settings) -> None:
    instance = up(provider)
    endpoint = login(instance)
    _kill(pid_of(settings))
    found = provider.find("sandbox")
    assert found
    assert found.state == "stopped"
    again = login(instance)
    assert but_port(again) == but_port(endpoint)
    assert run(again, "echo here").stdout == b"here\n"


def test_a_server_that_hangs_is_replaced(
    provider: SandboxProvider, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = up(provider)
    inside = detached(login(instance), settings)
    old = pid_of(settings)
    psutil.Process(old).suspend()
    monkeypatch.setattr(_sandbox_server, "BANNER_SECONDS", 0.5)
    up(provider)
    assert pid_of(settings) != old
    assert run(login(instance), "echo here").stdout == b"here\n"
    assert inside.status() != psutil.STATUS_ZOMBIE  # what runs in it is not the server's fault


def test_a_process_with_a_reused_number_is_left_alone(provider: SandboxProvider, settings: Settings) -> None:
    up(provider)
    _kill(pid_of(settings))
    path = root(settings) / "server" / "state.json"
    state = json.loads(path.read_text())
    with subprocess.Popen(["sleep", "1000"]) as other, ExitStack() as at_last:
        at_last.callback(other.kill)
        path.write_text(json.dumps({**state, "pid": other.pid, "started": state["started"] - 3600}))
        found = provider.find("sandbox")
        assert found
        assert found.state == "stopped"
        provider.stop("sandbox", Deadline(SECONDS))
        assert other.poll() is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_damaged_state_file_counts_as_stopped(provider: SandboxProvider, settings: Settings, content: bytes) -> None:
    up(provider)
    provider.stop("sandbox", Deadline(SECONDS))
    (root(settings) / "server" / "state.json").write_bytes(content)
    assert run(login(up(provider)), "echo here").stdout == b"here\n"


@pytest.mark.parametrize("then", ["up", "stop", "delete"])
def test_a_server_that_was_not_written_down_is_ended(provider: SandboxProvider, settings: Settings, then: str) -> None:
    """Whoever started it was killed before that."""
    up(provider)
    forgotten = psutil.Process(pid_of(settings))
    (root(settings) / "server" / "state.json").write_bytes(b"{}")
    if then == "up":
        assert run(login(up(provider)), "echo here").stdout == b"here\n"
    else:
        getattr(provider, then)("sandbox", Deadline(SECONDS))
    assert not forgotten.is_running() or forgotten.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("then", ["up", "stop"])
def test_a_process_that_merely_names_its_files_goes_on(
    provider: SandboxProvider, settings: Settings, then: str
) -> None:
    up(provider)
    _kill(pid_of(settings))
    server = root(settings) / "server"
    with subprocess.Popen(["tail", "-f", server / "server.log"], stdout=subprocess.DEVNULL) as tail, ExitStack() as end:
        end.callback(tail.kill)
        state = json.loads((server / "state.json").read_text())
        (server / "state.json").write_text(json.dumps({**state, "pid": tail.pid, "started": 0.0}))
        if then == "up":
            assert run(login(up(provider)), "echo here").stdout == b"here\n"
        else:
            provider.stop("sandbox", Deadline(SECONDS))
        assert tail.poll() is None


def test_a_port_that_is_taken_meanwhile_is_left_to_its_owner(provider: SandboxProvider) -> None:
    before = login(up(provider))
    provider.stop("sandbox", Deadline(SECONDS))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", before.port))
        except OSError:
            pytest.skip("somebody else was quicker")
        other.listen()
        after = login(provider.start("sandbox", Deadline(SECONDS), log_event))
        assert after.port != before.port
        assert run(after, "echo here").stdout == b"here\n"


def test_a_port_that_is_free_is_taken_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as peer:
            accepted, _ = listener.accept()
            assert _sandbox_server._free_port(port) != port
            accepted.close()  # first, so that the port's old connection lingers on our side
            peer.recv(1)
    assert _sandbox_server._free_port(port) == port


def test_several_processes_at_once_get_one_server(kind: str, settings: Settings, provider: SandboxProvider) -> None:
    code = """
import sys
from remote_runtime._threads import Deadline
from remote_runtime.providers.sandbox import SandboxProvider
from remote_runtime.settings import Settings
print(SandboxProvider(Settings.load()).ensure("sandbox", Deadline(60), lambda _: None).detail)
"""
    environ = {**os.environ, "REMOTE_RUNTIME_SANDBOX_SERVER": kind}
    with ExitStack() as running:
        started = [
            running.enter_context(subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE))
            for _ in range(3)
        ]
        details = {process.communicate(timeout=SECONDS)[0] for process in started}
    assert len(details) == 1
    assert str(login(up(provider)).port).encode() in details.pop()


def test_short_commands_lose_no_output(provider: SandboxProvider) -> None:
    endpoint = login(up(provider))
    with ssh.connect(endpoint, ask=None, on_event=lambda _: None, deadline=Deadline(SECONDS)) as connection:
        for number in range(40):
            with connection.execute(f"echo {number}; echo end >&2; exit {number}", Deadline(SECONDS)) as process:
                assert sorted(process.lines()) == sorted([str(number).encode(), b"end"])
                assert process.wait() == number


def test_much_input_and_output(provider: SandboxProvider) -> None:
    endpoint = login(up(provider))
    data = os.urandom(1 << 20) * 8
    assert run(endpoint, "cat", data).stdout == data
    assert run(endpoint, "head -c 5", data).stdout == data[:5]  # a command that does not want all of it


def test_forwarding_to_loopback_with_half_close(provider: SandboxProvider, kind: str) -> None:
    endpoint = login(up(provider))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_after_the_end, args=(listener,))
        thread.start()
        words = client(endpoint, "-W", f"127.0.0.1:{listener.getsockname()[1]}", "x")[:-1]
        answered = subprocess.run(words, input=b"question", capture_output=True, timeout=SECONDS, check=False)
        thread.join()
    assert answered.stdout == b"8 bytes"
    if kind == "asyncssh":
        words = client(endpoint, "-W", "192.0.2.1:80", "x")[:-1]
        words[words.index("LogLevel=ERROR")] = "LogLevel=INFO"
        refused = subprocess.run(words, input=b"", capture_output=True, timeout=SECONDS, check=False)
        assert b"administratively prohibited" in refused.stderr


def test_many_clients_at_once(provider: SandboxProvider) -> None:
    endpoint = login(up(provider))
    with ExitStack() as opened:
        waiting = [
            opened.enter_context(socket.create_connection(("127.0.0.1", endpoint.port), timeout=SECONDS))
            for _ in range(100)
        ]
        assert all(peer.recv(8) == b"SSH-2.0-" for peer in waiting)
        assert run(endpoint, "echo here").stdout == b"here\n"


def test_a_state_directory_with_an_unusual_name(make_provider: MakeProvider, kind: str, tmp_path: Path) -> None:
    provider = make_provider(kind, tmp_path / "my state, 100% #mine $HOME ~")
    assert run(login(up(provider)), "pwd").stdout.endswith(b"~/sandboxes/sandbox/home\n")


def test_a_python_of_ours_where_the_system_has_none(
    provider: SandboxProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")  # as one that is too old
    (tmp_path / "python3").chmod(0o755)
    monkeypatch.setattr(_sandbox_server, "SEARCH_PATH", (str(tmp_path),))
    endpoint = login(up(provider))
    code = "import sys; print(sys.version_info[:2]); print(sys.prefix == sys.base_prefix)"
    assert run(endpoint, f"python3 -I -c '{code}'").stdout.decode().splitlines() == [str(sys.version_info[:2]), "True"]


# -- one server alone ---------------------------------------------------------------------------------------------


def test_a_command_ends_with_its_connection(make_provider: MakeProvider, settings: Settings) -> None:
    endpoint = login(up(make_provider("asyncssh")))
    with subprocess.Popen(
        client(endpoint, "echo $$ > pid; echo started; sleep 1000"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        inside = psutil.Process(int((root(settings) / "home" / "pid").read_text()))
        process.kill()
    _, alive = psutil.wait_procs([inside], timeout=SECONDS)
    assert not [left for left in alive if left.status() != psutil.STATUS_ZOMBIE]


def test_openssh_comes_first(make_provider: MakeProvider) -> None:
    need("sshd", "openssh-server")
    assert up(make_provider()).detail.startswith("OpenSSH ")


def test_asyncssh_is_used_where_sshd_is_not(make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide_sshd(monkeypatch)
    assert up(make_provider()).detail.startswith("AsyncSSH ")


def test_asyncssh_is_used_where_the_path_is_too_much_for_sshd(make_provider: MakeProvider, tmp_path: Path) -> None:
    assert up(make_provider(state_dir=tmp_path / "it's mine")).detail.startswith("AsyncSSH ")


def test_without_any_server_there_are_two_cures(
    make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    _hide_sshd(monkeypatch)
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(InstanceError) as caught:
        up(make_provider())
    assert caught.value.code == "sandbox_unavailable"
    assert "openssh-server" in caught.value.hint
    assert "remote-runtime[sandbox]" in caught.value.hint


def test_a_login_that_sshd_refuses_is_noticed(make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    need("sshd", "openssh-server")
    plain = _sandbox_openssh.sshd_config
    monkeypatch.setattr(_sandbox_openssh, "sshd_config", lambda **o: plain(**o) + "DenyUsers *\n")
    with pytest.raises(InstanceError) as caught:
        up(make_provider("openssh"))
    assert caught.value.code == "sandbox_unavailable"
    assert "Permission denied" in caught.value.message
    assert up(make_provider()).detail.startswith("AsyncSSH ")


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "-a", "a-", "a" * 49, "a b", "a\n", "ä"])
def test_a_name_that_is_none(make_provider: MakeProvider, settings: Settings, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        up(make_provider(), name)
    assert caught.value.code == "bad_name"
    assert not (settings.state_dir / "sandboxes").exists()


def test_a_server_that_is_none(make_provider: MakeProvider) -> None:
    with pytest.raises(UsageError):
        make_provider("dropbear")


@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
def test_a_sandbox_that_is_none(make_provider: MakeProvider, verb: str) -> None:
    with pytest.raises(InstanceError) as caught:
        getattr(make_provider(), verb)("sandbox", Deadline(SECONDS), *([log_event] if verb == "start" else []))
    assert caught.value.code == "instance_not_found"


@pytest.mark.parametrize("place", ["", "home", "server"])
def test_symbolic_links_are_not_followed(
    make_provider: MakeProvider, settings: Settings, tmp_path: Path, place: str
) -> None:
    (root(settings) / place).parent.mkdir(mode=0o700, parents=True)
    (tmp_path / "elsewhere").mkdir()
    (root(settings) / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError) as caught:
        up(make_provider())
    assert caught.value.code == "state_unsafe"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    shutil.rmtree(settings.state_dir / "sandboxes")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_directories_are_private(make_provider: MakeProvider, settings: Settings, tmp_path: Path) -> None:
    provider = make_provider()
    root(settings).mkdir(mode=0o755, parents=True)
    root(settings).chmod(0o777)
    up(provider)
    for directory in (root(settings), root(settings) / "home", root(settings) / "server", root(settings).parent):
        assert directory.stat().st_mode & 0o777 == 0o700, directory
    for file in (root(settings) / "server").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o777)
    with pytest.raises(StateError) as caught:
        up(make_provider(state_dir=tmp_path / "all" / "state"))
    assert caught.value.code == "state_unsafe"


def _kill(pid: int) -> None:
    process = psutil.Process(pid)
    processes = [process, *process.children(recursive=True)]
    for one in processes:
        one.kill()
    end = time.monotonic() + SECONDS
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
        assert time.monotonic() < end
        time.sleep(0.01)


def _hide_sshd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sandbox_openssh, "PLACES", ())
    monkeypatch.setenv("PATH", "/nonexistent")


def _answer_after_the_end(listener: socket.socket) -> None:
    """Read until the client has no more to say, then answer."""
    peer, _ = listener.accept()
    with peer:
        size = 0
        while chunk := peer.recv(65536):
            size += len(chunk)
        peer.sendall(f"{size} bytes".encode())
