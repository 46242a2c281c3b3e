"""The values between the layers."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import model
from remote_runtime.model import Endpoint, Forward, Instance, Pinned, Remembered, ServerInfo, ServerOptions

TOKEN = "0123456789abcdef" * 3

ports = st.integers(min_value=1, max_value=65535)
hosts = st.sampled_from(["localhost", "127.0.0.1", "db.internal", "::1", "fe80::1%eth0"])


def test_every_dataclass_is_frozen() -> None:
    kinds = [kind for kind in vars(model).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    assert len(kinds) > 10
    assert all(kind.__dataclass_params__.frozen for kind in kinds)  # type: ignore[attr-defined]


def test_the_url_is_what_a_person_pastes() -> None:
    server = ServerInfo(pid=1, port=8888, token=TOKEN)
    assert server.url(9000) == f"http://localhost:9000/?token={TOKEN}"
    assert ServerInfo(pid=1, port=8888, token=TOKEN, base_url="/lab/").url(9000).endswith(f"9000/lab/?token={TOKEN}")


@pytest.mark.parametrize(
    "value",
    [
        ServerInfo(pid=1, port=8888, token=TOKEN),
        Remembered("trainer", "ssh", local_port=8888, token=TOKEN),
        Instance("trainer", "ssh", "running", lambda _: Endpoint("h", "u", Pinned((), "test"))),
    ],
)
def test_no_repr_shows_a_token(value: object) -> None:
    assert TOKEN not in repr(value)
    assert TOKEN not in f"{value}"


def test_a_machine_without_port_or_token_has_no_url() -> None:
    assert Remembered("a", "ssh").url == ""
    assert Remembered("a", "ssh", local_port=8888).url == ""
    assert Remembered("a", "ssh", token=TOKEN).url == ""


def test_what_is_remembered_gives_the_servers_own_url() -> None:
    remembered = Remembered("a", "ssh", local_port=8890, token=TOKEN, base_url="/x/")
    assert remembered.url == ServerInfo(pid=1, port=1, token=TOKEN, base_url="/x/").url(8890)
    assert parse_qs(urlsplit(remembered.url).query) == {"token": [TOKEN]}


def test_an_endpoint_needs_a_decision_about_the_host_key() -> None:
    with pytest.raises(TypeError, match="trust"):
        Endpoint("host", "user")  # type: ignore[call-arg]


def test_the_default_origin_has_no_trailing_slash() -> None:
    assert ServerOptions().allow_origin == "https://colab.research.google.com"


@given(ports, hosts, ports)
def test_a_forward_reads_what_ssh_takes(local: int, host: str, remote: int) -> None:
    written = f"{local}:{f'[{host}]' if ':' in host else host}:{remote}"
    assert Forward.parse(written) == Forward(local, host, remote)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8888",
        "8888:80",
        "a:b:c",
        "8888:host:",
        ":host:80",
        "8888::80",
        "0:host:80",
        "8888:host:65536",
        "-1:host:80",
    ],
)
def test_a_forward_refuses_the_rest(text: str) -> None:
    with pytest.raises(ValueError):
        Forward.parse(text)


@given(st.text(max_size=30))
def test_a_forward_reads_any_text_or_refuses_it(text: str) -> None:
    try:
        forward = Forward.parse(text)
    except ValueError:
        return
    assert forward.host
    assert 0 < forward.local_port < 65536
    assert 0 < forward.remote_port < 65536
