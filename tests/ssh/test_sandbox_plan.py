"""What the sandbox decides: names, configuration, what its state file and the server's first line say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.providers._sandbox_plan import (
    State,
    Unusable,
    is_name,
    is_server,
    missing_directory,
    parse_state,
    sshd_config,
    state_json,
    version_of,
)

states = st.builds(
    State,
    kind=st.sampled_from(["openssh", "asyncssh"]),
    version=st.text(),
    pid=st.integers(0, 1 << 40),
    started=st.floats(allow_nan=False),
    port=st.integers(0, 65535),
)


@given(states)
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    assert parse_state(state_json(state)) == state


@given(
    st.binary() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(str).map(str.encode)
)
def test_anything_else_is_a_sandbox_that_does_not_run(content: bytes) -> None:
    assert parse_state(content) == State()


@given(
    states, st.sampled_from([field.name for field in dataclasses.fields(State)]), st.none() | st.just([]) | st.just({})
)
def test_a_state_with_a_broken_field_is_none(state: State, name: str, value: object) -> None:
    values = {**json.loads(state_json(state)), name: value}
    assert parse_state(json.dumps(values).encode()) == State()


@given(st.text())
def test_a_name_is_harmless_as_a_directory(name: str) -> None:
    if is_name(name):
        assert name.isascii()
        assert name == name.lower()
        assert not set(name) & set("./\\ :\n")


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "OpenSSH 9.2"),
        (b"SSH-2.0-AsyncSSH_2.24.1\r\n", "AsyncSSH 2.24.1"),
        (b"SSH-2.0-\x1b[31m\r\n", "SSH server"),
        (b"SSH-2.0-dropbear\r\n", "SSH server"),
        (b"SSH-1.99-OpenSSH_1\r\n", None),
        (b"HTTP/1.1 400 Bad Request\r\n", None),
        (b"", None),
    ],
)
def test_the_first_line_of_a_server(banner: bytes, version: str | None) -> None:
    assert version_of(banner) == version


def test_the_directory_that_sshd_lacks() -> None:
    assert missing_directory("Missing privilege separation directory: /run/sshd\r\n") == "/run/sshd"
    assert missing_directory("Missing privilege separation directory: run/sshd\n") is None
    assert missing_directory("sshd: no hostkeys available") is None


def config(server: str, **changes: object) -> str:
    options: dict[str, object] = {
        "server": PurePosixPath(server),
        "home": PurePosixPath("/h"),
        "port": 1,
        "path": "/bin",
    }
    return sshd_config(**{**options, "only_user": "", "penalties": False, **changes})  # type: ignore[arg-type]


def test_a_configuration_keeps_to_loopback_and_to_keys() -> None:
    lines = config("/s p/100%", port=40022).splitlines()
    assert "ListenAddress 127.0.0.1" in lines
    assert "Port 40022" in lines
    assert "AuthenticationMethods publickey" in lines
    assert 'AuthorizedKeysFile "/s p/100%%/client_key.pub"' in lines
    assert 'HostKey "/s p/100%/host_key"' in lines
    assert not any(line.startswith(("AllowUsers", "PerSourcePenalties")) for line in lines)
    more = config("/s", only_user="root", penalties=True).splitlines()
    assert {"AllowUsers root", "PerSourcePenalties no"} <= set(more)


@pytest.mark.parametrize("path", ['/a"b', "/a'b", "/a\\b", "/a\nPort 22"])
def test_a_path_that_the_format_cannot_hold(path: str) -> None:
    with pytest.raises(Unusable):
        config(path)


SERVER = PurePosixPath("/home/ada/my state/sandboxes/one/server")
SSHD = ["/usr/sbin/sshd", "-D", "-e", "-f", f"{SERVER}/sshd_config"]
ASYNCSSH = ["/usr/bin/python3", "-m", "remote_runtime.providers._asyncssh_server", str(SERVER), "/home/x", "2222"]


@pytest.mark.parametrize(
    "command_line",
    [
        SSHD,
        ASYNCSSH,
        [f"sshd: {' '.join(SSHD)} [listener] 0 of 1000-1000 startups"],
        f"sshd: {' '.join(SSHD)} [listener] 0 of 1000-1000 startups".split(" "),
        [f"sshd: {' '.join(SSHD)} [listener] 0 of 1000-1000 startups", "", "", "", ""],
    ],
)
def test_a_server_is_known_by_its_command_line(command_line: list[str]) -> None:
    assert is_server(command_line, SERVER)
    assert not is_server(command_line, SERVER.parent.with_name("on") / "server")


@pytest.mark.parametrize(
    "command_line",
    [
        [],
        ["tail", "-f", f"{SERVER}/server.log"],
        ["less", "-f", f"{SERVER}/sshd_config"],
        ["vim", *ASYNCSSH[2:]],
        ["bash", "-c", " ".join(SSHD)],
        [*SSHD[:-1], f"{SERVER}/sshd_config2"],
        ["/usr/sbin/sshd", "-T", "-f", f"{SERVER}/sshd_config"],
    ],
)
def test_what_merely_names_its_files_is_no_server(command_line: list[str]) -> None:
    assert not is_server(command_line, SERVER)
