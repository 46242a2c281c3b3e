"""The first command is asked for together with the login; and what becomes of it where that is of no use."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from paramiko import Message
from paramiko.common import MSG_NAMES

from remote_runtime import bootstrap
from remote_runtime._threads import Deadline
from remote_runtime.errors import ChannelRefused
from remote_runtime.model import Endpoint, Identity, ServerOptions
from remote_runtime.ssh import Connection, RemoteProcess, connect
from remote_runtime.ssh.packets import LeanPacketizer
from remote_runtime.ssh.transport import Kind
from tests.jupyter.machine import machine_with_jupyter
from tests.openssh import Sshd, StartSshd
from tests.ssh.test_connection import make_key, nobody_listens, output

COMMAND = "read line && echo got $line"
EXEC_BYTES = 12 << 10


class Counted:
    """A connection, and how many bytes its commands were sent, with their lines."""

    def __init__(self, connection: Connection) -> None:
        self.bytes = 0
        self._connection = connection

    def execute(self, line: str, deadline: Deadline) -> RemoteProcess:
        process = self._connection.execute(line, deadline)
        write = process.write

        def counted(data: bytes) -> None:
            self.bytes += len(data)
            write(data)

        process.write = counted  # type: ignore[method-assign]
        self.bytes += len(line)
        return process


def log_in(endpoint: Endpoint, *, first_command: str = COMMAND, transport: Kind = "lean") -> Connection:
    return connect(
        endpoint,
        ask=None,
        on_event=nobody_listens,
        deadline=Deadline(20),
        transport=transport,
        first_command=first_command,
    )


@pytest.mark.parametrize("transport", ["lean", "stock"])
def test_the_first_command_runs_once_and_gets_its_input(sshd: Sshd, transport: Kind) -> None:
    with log_in(sshd.endpoint(), transport=transport) as connection:
        with connection.execute(COMMAND, Deadline(20)) as process:
            process.write(b"it\n")
            assert list(process.lines()) == [b"got it"]
            assert process.wait() == 0
        assert output(connection, "echo next") == ([b"next"], 0)
    assert sshd.log.count("Starting session: command") == 2


def test_another_command_than_the_first_one_runs_instead(sshd: Sshd) -> None:
    with log_in(sshd.endpoint()) as connection:
        assert output(connection, "echo other") == ([b"other"], 0)


@pytest.mark.parametrize("first_command", ["", COMMAND])
def test_a_first_key_that_is_refused_holds_nothing_up(sshd: Sshd, tmp_path: Path, first_command: str) -> None:
    """What was asked for with it will never be answered."""
    make_key(tmp_path / "stranger", "ed25519")
    identities = (Identity(tmp_path / "stranger"), Identity(sshd.files.client_key))
    began = time.monotonic()
    with log_in(sshd.endpoint(identities=identities), first_command=first_command) as connection:
        assert output(connection, "echo in") == ([b"in"], 0)
    assert time.monotonic() - began < 10  # it would be 30


def test_a_server_that_grants_no_session_says_so(start_sshd: StartSshd) -> None:
    with log_in(start_sshd(MaxSessions="0").endpoint()) as connection, pytest.raises(ChannelRefused) as caught:
        output(connection, COMMAND)
    assert caught.value.code == "session_refused"


def test_login_and_command_are_one_flight(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer that is waited for in between would be a round trip; benchmarks.dataplane counts those."""
    flight: list[str] = []
    send, read = LeanPacketizer.send, LeanPacketizer.read_message

    def sending(packetizer: LeanPacketizer, *parts: bytes | memoryview) -> None:
        flight.append("> " + MSG_NAMES[parts[0][0]])
        send(packetizer, *parts)

    def reading(packetizer: LeanPacketizer) -> tuple[int, Message]:
        kind, message = read(packetizer)
        flight.append("< " + MSG_NAMES[kind])
        return kind, message

    monkeypatch.setattr(LeanPacketizer, "send", sending)
    monkeypatch.setattr(LeanPacketizer, "read_message", reading)
    with log_in(sshd.endpoint()):
        asked = ["> service-request", "> userauth-request", "> channel-open", "> channel-request"]
        first = flight.index(asked[0])
        assert [one for one in flight[first:] if one.startswith(">")][:4] == asked
        # What sshd says without being asked may come in between; nothing of ours waited for it.
        assert flight.index("< userauth-success") > flight.index("> channel-request")


def test_the_command_of_a_warm_connect_sends_little(tmp_path: Path) -> None:
    with machine_with_jupyter(tmp_path / "sshd") as machine:
        machine.start_jupyter()
        with log_in(machine.sshd.endpoint(), first_command=bootstrap.COMMAND) as connection:
            sent = Counted(connection)
            server = bootstrap.ensure_server(
                sent,
                ServerOptions(),
                token="",
                restart=False,
                on_event=nobody_listens,
                deadline=Deadline(60),
            )
    assert server.adopted
    print(f"{sent.bytes} bytes")
    assert 0 < sent.bytes <= EXEC_BYTES
