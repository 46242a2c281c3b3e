"""Connections to real OpenSSH servers: logging in, running commands, dialling, noticing the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from remote_runtime import keys
from remote_runtime._threads import Deadline
from remote_runtime.errors import (
    AuthenticationFailed,
    ChannelRefused,
    HostKeyError,
    NetworkError,
    TimedOut,
)
from remote_runtime.events import Event
from remote_runtime.model import Command, Endpoint, Identity, Jump, Pinned, Question
from remote_runtime.ssh import Connection, connect
from remote_runtime.ssh.proxy_command import ProxyCommand
from remote_runtime.ssh.transport import Kind
from tests.openssh import Sshd, StartSshd


def nobody_listens(event: Event) -> None:
    """Tests here look at results, not at events."""


def log_in(
    endpoint: Endpoint, *, ask: Question | None = None, seconds: float = 20, transport: Kind = "lean"
) -> Connection:
    return connect(endpoint, ask=ask, on_event=nobody_listens, deadline=Deadline(seconds), transport=transport)


def output(connection: Connection, line: str) -> tuple[list[bytes], int]:
    with connection.execute(line, Deadline(20)) as process:
        return list(process.lines()), process.wait()


def make_key(path: Path, kind: str, passphrase: str = "") -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return Path(f"{path}.pub").read_text()


# -- commands --------------------------------------------------------------------------------------------------------


def test_a_command_gets_input_and_its_merged_output_and_status_come_back(sshd_pair: Endpoint) -> None:
    with log_in(sshd_pair) as connection, connection.execute("head -2; echo err >&2; exit 7", Deadline(20)) as process:
        process.write(b"one\ntwo\n")
        assert list(process.lines()) == [b"one", b"two", b"err"]
        assert process.wait() == 7


def test_a_command_killed_by_a_signal_has_no_status(sshd_pair: Endpoint) -> None:
    with log_in(sshd_pair) as connection:
        assert output(connection, "kill -9 $$")[1] == -1


def test_a_line_without_end_is_cut_and_costs_no_memory(sshd_pair: Endpoint) -> None:
    with log_in(sshd_pair) as connection:
        lines, _ = output(connection, "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert [len(line) for line in lines] == [1 << 20, 3]


def test_waiting_for_a_silent_command_ends_at_its_deadline(sshd_pair: Endpoint) -> None:
    with log_in(sshd_pair) as connection, connection.execute("cat", Deadline(0.5)) as process:
        with pytest.raises(TimedOut):
            list(process.lines())
        assert connection.alive


def test_ciphers_without_a_separate_mac_come_first(sshd: Sshd) -> None:
    with log_in(sshd.endpoint()) as connection:
        assert connection.cipher == "aes128-gcm@openssh.com"


@pytest.mark.parametrize("weak", [{"KexAlgorithms": "diffie-hellman-group14-sha1"}, {"Ciphers": "aes128-cbc"}])
def test_weak_algorithms_are_refused(start_sshd: StartSshd, weak: dict[str, str]) -> None:
    with pytest.raises(NetworkError) as caught:
        log_in(start_sshd(**weak).endpoint())
    assert caught.value.code == "ssh_too_old"
    assert not caught.value.retryable


# -- logging in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_every_kind(start_sshd: StartSshd, tmp_path: Path, kind: str) -> None:
    (tmp_path / "allowed").write_text(make_key(tmp_path / "key", kind))
    server = start_sshd(AuthorizedKeysFile=str(tmp_path / "allowed"))
    with log_in(server.endpoint(identities=(Identity(tmp_path / "key"),))) as connection:
        assert output(connection, "echo in")[0] == [b"in"]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_host_keys_of_every_kind(start_sshd: StartSshd, kind: str) -> None:
    server = start_sshd(host_keys=("ed25519", "ecdsa", "rsa"))
    wanted = next(key for key in server.files.host_keys if kind in key.split()[0])
    with log_in(server.endpoint(trust=Pinned((wanted,), "the test"))) as connection:
        assert connection.alive


def test_a_host_key_that_is_not_the_pinned_one_is_refused_before_anything_is_sent(sshd: Sshd) -> None:
    _, other = keys.generate("another machine")
    with pytest.raises(HostKeyError) as caught:
        log_in(sshd.endpoint(trust=Pinned((" ".join(other.split()[:2]),), "the test")))
    assert caught.value.code == "host_key_changed"
    assert "Accepted" not in sshd.log


def test_an_encrypted_key_asks_for_its_passphrase_until_it_is_right(start_sshd: StartSshd, tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text(make_key(tmp_path / "key", "ed25519", "correct horse"))
    endpoint = start_sshd(AuthorizedKeysFile=str(tmp_path / "allowed")).endpoint(
        identities=(Identity(tmp_path / "key"),)
    )
    answers = iter(["wrong", "correct horse"])
    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, echo: bool) -> str:
        asked.append((prompt, echo))
        return next(answers)

    with log_in(endpoint, ask=ask):
        prompt = f"Passphrase for {tmp_path / 'key'}: "
        assert asked == [(prompt, False), (f"That was not it. {prompt}", False)]
    with pytest.raises(AuthenticationFailed) as caught:
        log_in(endpoint)
    assert "nobody can be asked" in caught.value.message


def test_a_certificate_lets_in_where_the_key_alone_does_not(start_sshd: StartSshd, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "authority", "ed25519")
    make_key(tmp_path / "key", "ed25519")
    server = start_sshd(AuthorizedKeysFile="none", TrustedUserCAKeys=str(tmp_path / "authority.pub"))
    assert authority
    user = server.endpoint().user
    sign = ["ssh-keygen", "-q", "-s", str(tmp_path / "authority"), "-I", "id", "-n", user, str(tmp_path / "key.pub")]
    subprocess.run(sign, check=True)
    (tmp_path / "key-cert.pub").rename(tmp_path / "certificate")
    with pytest.raises(AuthenticationFailed):
        log_in(server.endpoint(identities=(Identity(tmp_path / "key"),)))
    with log_in(server.endpoint(identities=(Identity(tmp_path / "key", tmp_path / "certificate"),))) as connection:
        assert connection.alive


@pytest.fixture
def agent(tmp_path: Path):  # type: ignore[no-untyped-def]
    address = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL)

    def add(key: Path) -> None:
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env={"SSH_AUTH_SOCK": str(address)})

    for _ in range(500):
        if address.exists():
            break
        threading.Event().wait(0.01)
    yield str(address), add
    process.terminate()
    process.wait()


def test_the_agent_is_asked_and_can_be_restricted_to_named_identities(
    start_sshd: StartSshd, tmp_path: Path, agent
) -> None:  # type: ignore[no-untyped-def]
    address, add = agent
    for name in ("first", "second"):
        make_key(tmp_path / name, "ed25519")
        add(tmp_path / name)
        (tmp_path / name).unlink()  # only the agent has it now
    (tmp_path / "allowed").write_text((tmp_path / "second.pub").read_text())
    server = start_sshd(AuthorizedKeysFile=str(tmp_path / "allowed"))
    with log_in(server.endpoint(identities=(), agent=address)) as connection:
        assert connection.alive
    named = (Identity(tmp_path / "second"),)
    with log_in(server.endpoint(identities=named, agent=address, only_identities=True)) as connection:
        assert connection.alive
    with pytest.raises(AuthenticationFailed):
        log_in(server.endpoint(identities=(), agent=address, only_identities=True))


def test_an_agent_that_is_gone_is_no_obstacle(sshd: Sshd, tmp_path: Path) -> None:
    with log_in(sshd.endpoint(agent=str(tmp_path / "nowhere"))) as connection:
        assert connection.alive


def test_a_stranger_is_told_what_was_tried(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "key", "ed25519")
    with pytest.raises(AuthenticationFailed) as caught:
        log_in(sshd.endpoint(identities=(Identity(tmp_path / "key"), Identity(tmp_path / "missing"))))
    assert str(tmp_path / "key") in caught.value.message
    assert "missing (" in caught.value.message


# -- ways ------------------------------------------------------------------------------------------------------------


def test_through_another_server(start_sshd: StartSshd) -> None:
    jump, target = start_sshd(), start_sshd()
    with log_in(target.endpoint(via=Jump(jump.endpoint()))) as connection:
        assert output(connection, "echo there")[0] == [b"there"]


COPY = """
import os, socket, sys, threading
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while chunk := os.read(0, 65536):
        sock.sendall(chunk)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while chunk := sock.recv(65536):
    os.write(1, chunk)
"""


def test_over_a_proxy_command(sshd: Sshd) -> None:
    with log_in(sshd.endpoint(via=Command((sys.executable, "-c", COPY, str(sshd.port))))) as connection:
        assert output(connection, "echo there")[0] == [b"there"]


def test_what_a_failing_proxy_command_said_is_shown() -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no such tunnel')")
    endpoint = Endpoint("nowhere", "me", Pinned((), "the test"), via=Command(command))
    with pytest.raises(NetworkError) as caught:
        log_in(endpoint)
    assert "no such tunnel" in caught.value.message
    assert caught.value.code == "proxy_command_failed"


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("sys.exit(3)", "it ended with status 3"),
        ("sys.exit('no such tunnel')", "no such tunnel"),
        pytest.param(
            "os.kill(os.getpid(), 9)",
            "it was ended by signal 9",
            marks=pytest.mark.skipif(os.name == "nt", reason="has no signals"),
        ),
    ],
)
def test_a_proxy_command_that_ends_tells_why(ending: str, told: str, piped: bool) -> None:
    with ProxyCommand((sys.executable, "-c", f"import os, sys; {ending}"), piped=piped) as command:
        assert command.socket.recv(1) == b""
        assert command.complaint() == told


def test_a_proxy_command_that_goes_on_has_no_complaint() -> None:
    with ProxyCommand((sys.executable, "-c", "import sys; sys.stderr.close(); sys.stdin.read()")) as command:
        assert command.complaint() == ""


def test_a_proxy_command_that_does_not_exist() -> None:
    endpoint = Endpoint("nowhere", "me", Pinned((), "the test"), via=Command(("/no/such/program",)))
    with pytest.raises(NetworkError) as caught:
        log_in(endpoint)
    assert caught.value.code == "proxy_command_failed"


def test_a_proxy_command_behind_pipes_as_on_windows() -> None:
    with ProxyCommand(
        (sys.executable, "-c", "import sys; print(sys.stdin.readline().upper(), end='')"), piped=True
    ) as command:
        command.socket.sendall(b"hello\n")
        assert command.socket.recv(100) == b"HELLO\n"


# -- servers that are none -------------------------------------------------------------------------------------------


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(NetworkError) as caught:
        log_in(Endpoint("no-such-host.invalid", "me", Pinned((), "the test")))
    assert caught.value.code == "unknown_host"


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(NetworkError) as caught:
        log_in(Endpoint("127.0.0.1", "me", Pinned((), "the test"), port=port))
    assert caught.value.code == "connection_refused"


def test_a_listener_that_never_says_a_word_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(NetworkError):
            log_in(Endpoint("127.0.0.1", "me", Pinned((), "the test"), port=silent.getsockname()[1]), seconds=1)


def test_a_listener_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NetworkError) as caught:
            log_in(Endpoint("127.0.0.1", "me", Pinned((), "the test"), port=other.getsockname()[1]))
        thread.join()
    assert caught.value.code == "not_ssh"


# -- life and end ----------------------------------------------------------------------------------------------------


def test_dialling_a_port_of_the_vm_and_one_where_nobody_listens(sshd_pair: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, log_in(sshd_pair) as connection:
        near = connection.dial("127.0.0.1", server.getsockname()[1], Deadline(10))
        far, _ = server.accept()
        with far:
            near.sendall(b"ping")
            assert far.recv(10) == b"ping"
        near.close()
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        with pytest.raises(ChannelRefused) as caught:
            connection.dial("127.0.0.1", port, Deadline(10))
        assert caught.value.code == "channel_refused"


def test_a_server_that_forbids_forwarding_says_so(start_sshd: StartSshd) -> None:
    with log_in(start_sshd(AllowTcpForwarding="no").endpoint()) as connection:
        with pytest.raises(ChannelRefused) as caught:
            connection.dial("127.0.0.1", 1, Deadline(10))
        assert caught.value.code == "forwarding_forbidden"


def test_a_living_server_answers_a_probe_and_a_cut_is_told(sshd: Sshd) -> None:
    lost = threading.Event()
    with log_in(sshd.endpoint()) as connection:
        connection.on_change(lost.set)
        assert connection.probe().wait(10)
        lost.clear()  # it was told of the answer as well
        sshd.kill_connections()
        assert lost.wait(10)
        assert not connection.alive
        with pytest.raises(NetworkError):
            connection.execute("true", Deadline(5))
        told_late = threading.Event()
        connection.on_change(told_late.set)
        assert told_late.is_set()


def test_closing_wakes_whoever_waits_for_output(sshd_pair: Endpoint) -> None:
    connection = log_in(sshd_pair)
    process = connection.execute("cat", Deadline(60))
    ended = threading.Event()

    def read() -> None:
        try:
            list(process.lines())
        except NetworkError:
            pass
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    connection.close()
    connection.close()
    assert ended.wait(5)
    reader.join()
