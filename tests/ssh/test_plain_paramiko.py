"""A paramiko without the undocumented names that we rely on: it is noticed, and all goes paramiko's own way."""

from __future__ import annotations

import ast
import functools
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.auth_handler import AuthHandler
from paramiko.packet import Packetizer

from remote_runtime._threads import Deadline
from remote_runtime.model import Identity
from remote_runtime.ssh import connect, private
from remote_runtime.ssh.streams import StreamPump
from remote_runtime.ssh.transport import Kind
from tests.openssh import Sshd
from tests.ssh.peers import PATTERN, digest, pattern_digest, serving
from tests.ssh.test_connection import log_in, make_key, nobody_listens, output
from tests.ssh.test_forward import dial, forward_to, read_all

METHODS = [
    (Packetizer, "_trigger_rekey"),
    (Packetizer, "handshake_timed_out"),
    (Packetizer, "need_rekey"),
    (Packetizer, "read_message"),
    (Packetizer, "reset_seqno_in"),
    (Packetizer, "reset_seqno_out"),
    (Packetizer, "send_message"),
    (paramiko.Transport, "_send_user_message"),
    (AuthHandler, "_parse_service_accept"),
    (AuthHandler, "_request_auth"),
    (paramiko.packet, "NeedRekeyException"),
    (paramiko.packet, "Packetizer"),
]
ATTRIBUTES = [
    (paramiko.Transport, "clear_to_send"),
    (paramiko.Transport, "clear_to_send_lock"),
    (paramiko.Transport, "packetizer"),
    (paramiko.Channel, "remote_chanid"),
]
OPTIONS = [
    (Packetizer, "set_inbound_cipher", {"aead", "iv_in"}),
    (Packetizer, "set_outbound_cipher", {"aead", "iv_out"}),
    (paramiko.Transport, "__init__", {"packetizer_class"}),
]
KEPT = {
    "packetizer",  # when keys are exchanged can be told to it only
    "aead",  # cryptography's word too
}

kinds = pytest.mark.parametrize("transport", ["lean", "stock"])


# -- it is noticed ---------------------------------------------------------------------------------------------------


def test_nothing_is_missing_today() -> None:
    assert private.missing() == set()
    assert private.usable()


@pytest.mark.parametrize(("owner", "name"), METHODS)
def test_a_missing_method_is_noticed(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(owner, name)
    assert private.missing() == {name}


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES)
def test_a_missing_attribute_is_noticed(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = owner.__init__  # type: ignore[misc]

    @functools.wraps(make)
    def init(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        delattr(self, name)

    monkeypatch.setattr(owner, "__init__", init)
    assert name in private.missing()


@pytest.mark.parametrize(("owner", "name", "options"), OPTIONS)
def test_missing_options_are_noticed(
    owner: type, name: str, options: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call: Callable[..., None] = getattr(owner, name)

    def without(self: Any, *arguments: Any) -> None:
        call(self, *arguments)

    monkeypatch.setattr(owner, name, without)
    assert private.missing() == options


def test_no_other_file_touches_what_is_private() -> None:
    """And what these two touch is all looked for."""
    parts = (paramiko.Transport, paramiko.Channel, Packetizer, AuthHandler)
    theirs = {name for part in parts for name in dir(part) if re.match("_[a-z]", name)}
    touched = set()
    for source in Path(private.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(source.read_text())))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & theirs
        if source.name in ("private.py", "packets.py"):
            touched |= used
        else:
            stored = {
                node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            }
            ours = {node.name for node in nodes if isinstance(node, ast.FunctionDef)} | stored
            assert used <= ours, source
    assert touched == {name for _, name in METHODS if name.startswith("_")}


# -- and all works the same ------------------------------------------------------------------------------------------


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a name were missing."""
    monkeypatch.setattr(private, "usable", lambda: False)


@kinds
def test_login_commands_and_streams_work_without_them(plain: None, sshd: Sshd, transport: Kind) -> None:
    with log_in(sshd.endpoint(), transport=transport) as connection:
        assert isinstance(connection._pump, StreamPump)
        assert output(connection, "echo out; echo err >&2; exit 7") == ([b"out", b"err"], 7)
        with connection.execute("cat", Deadline(20)) as process:
            process.write(b"in\n")
            assert next(process.lines()) == b"in"
        assert connection.probe().wait(10)
        with serving(digest) as port, forward_to(connection, port) as forward, dial(forward.port) as client:
            client.sendall(PATTERN * 3)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client).decode() == pattern_digest(3 * len(PATTERN))


@kinds
def test_a_first_command_and_a_refused_key_do_no_harm_without_them(
    plain: None, sshd: Sshd, tmp_path: Path, transport: Kind
) -> None:
    make_key(tmp_path / "stranger", "ed25519")
    identities = (Identity(tmp_path / "stranger"), Identity(sshd.files.client_key))
    with connect(
        sshd.endpoint(identities=identities),
        ask=None,
        on_event=nobody_listens,
        deadline=Deadline(20),
        transport=transport,
        first_command="echo first",
    ) as connection:
        assert output(connection, "echo first") == ([b"first"], 0)
    assert sshd.log.count("Starting session: command") == 1


# -- a paramiko in which they are called otherwise ---------------------------------------------------------------------

USE = textwrap.dedent(
    """
    import sys
    from pathlib import Path

    import paramiko
    from remote_runtime._threads import Deadline
    from remote_runtime.model import Endpoint, Identity, Pinned
    from remote_runtime.ssh import connect, private
    from tests.ssh.peers import echo, serving
    from tests.ssh.test_forward import dial, forward_to

    user, port, host_key, key = sys.argv[1:]
    print(paramiko.__file__, *sorted(private.missing()))
    endpoint = Endpoint(
        "127.0.0.1", user, Pinned((host_key,), "the test"), port=int(port), identities=(Identity(Path(key)),)
    )
    with connect(endpoint, ask=None, on_event=lambda _: None, deadline=Deadline(20)) as connection:
        with connection.execute("echo out", Deadline(20)) as process:
            print(list(process.lines()), process.wait())
        print(connection.probe().wait(10))
        with serving(echo) as far, forward_to(connection, far) as forward, dial(forward.port) as client:
            client.sendall(b"echo")
            print(client.recv(10))
    """
)


def test_everything_may_have_other_names(sshd: Sshd, tmp_path: Path) -> None:
    names = {name for _, name in [*METHODS, *ATTRIBUTES]}.union(*(options for *_, options in OPTIONS)) - KEPT
    rename(tmp_path / "later" / "paramiko", names)
    endpoint = sshd.endpoint()
    arguments = (endpoint.user, str(endpoint.port), sshd.files.host_keys[0], str(sshd.files.client_key))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE, *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "later")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    print(done.stderr)
    used, *said = done.stdout.splitlines()
    where, *gone = used.split()
    assert Path(where).is_relative_to(tmp_path)
    assert set(gone) == names
    assert said == ["[b'out'] 0", "True", "b'echo'"]


def rename(directory: Path, names: set[str]) -> None:
    """Write a copy of paramiko in which all these names are other ones."""
    directory.mkdir(parents=True)
    pattern = re.compile(rf"\b({'|'.join(names)})\b")
    for source in Path(paramiko.__file__).parent.glob("*.py"):
        (directory / source.name).write_text(pattern.sub(r"other_\1", source.read_text()))
