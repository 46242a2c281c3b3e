"""Whatever a machine, a file or the network says is read, or refused in the one way that its reader promises.

Readers with tests of their own are fuzzed there: known hosts, ssh_config's answers, frames, pip's configuration, state
files, answers of a Python, pages of an index, targets, forwards, options.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import keys, proof, wheels
from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed, RemoteRuntimeError, UsageError
from remote_runtime.guest import child, diagnosis, index, loader, plan, probe, processes
from remote_runtime.guest.fetch import FetchError
from remote_runtime.guest.paths import parse_record
from remote_runtime.model import ServerInfo
from remote_runtime.providers import _sandbox_plan
from remote_runtime.settings import Settings
from remote_runtime.store import parse_remembered
from remote_runtime.wheelhouse import needed
from tests.unit.test_wheelhouse import LINUX

DEEP = "[" * 200_000
"""JSON, TOML and their like that no reader can follow to its end."""


@pytest.mark.parametrize(
    ("read", "refusal"),
    [
        (parse_remembered, ValueError),
        (_sandbox_plan.parse_state, None),
        (parse_record, None),
        (lambda content: index.links_of_page(content, "application/json", "http://index/"), FetchError),
        (lambda content: probe.parse_answer("python3", content), None),
    ],
)
def test_what_is_nested_too_deeply(read: Callable[[bytes], object], refusal: type[Exception] | None) -> None:
    for content in (DEEP, '{"a":' * 100_000, f'{{"name": "n", "provider": {DEEP}'):
        with pytest.raises(refusal) if refusal else contextlib.nullcontext():
            read(content.encode())


@given(st.binary(max_size=400))
def test_a_block(content: bytes) -> None:
    with contextlib.suppress(loader.GuestFailure):
        assert loader.read_block(io.BytesIO(content)) in content
    assert loader.read_block(io.BytesIO(b"%d\n%s rest" % (len(content), content))) == content if content else True


@given(st.binary(max_size=300))
def test_a_line_of_the_process_table(content: bytes) -> None:
    with contextlib.suppress(ValueError, IndexError):
        processes.parse_stat(content)
    name = content.replace(b"\0", b"")[:15]
    line = b"12 (%s) S %s 4711 0\n" % (name, b" ".join(b"%d" % number for number in range(18)))
    assert processes.parse_stat(line) == ("S", 4711)


@given(st.text(max_size=300))
def test_the_words_of_a_login_shell(output: str) -> None:
    assert "\n" not in probe.parse_login_path(output)
    assert probe.parse_login_path(f"{output}\n{probe.MARK}\n/usr/bin:/bin\nbye") == "/usr/bin:/bin"


@given(st.lists(st.text(max_size=80), max_size=20))
def test_the_words_of_an_installer(lines: list[str]) -> None:
    assert diagnosis.kind_of(lines) in diagnosis.CODES
    assert isinstance(diagnosis.last_words(lines), str)
    assert all(char.isprintable() or char.isspace() for line in lines for char in child.clean(line))


@given(st.text(max_size=60))
def test_a_version(text: str) -> None:
    assert all(part >= 0 for part in plan.version(text))


TARGET = {**LINUX, "prefix": "/usr"}
SAID = st.none() | st.integers() | st.text(max_size=30) | st.from_regex(r"3\.\d{1,3}\.\d{1,3}[a-z0-9.+]{0,9}")


@given(st.dictionaries(st.sampled_from(sorted(TARGET)), SAID, max_size=3))
def test_what_a_machine_says_of_its_python(changed: dict[str, Any]) -> None:
    target = {**TARGET, **changed}
    try:
        wheels.check_target(target)
        entries = needed(target, "lab")
        tags = wheels.tags_of(target)
    except (KeyError, ValueError, TypeError, AttributeError):  # as wheels_for takes them
        assert target != TARGET
    else:
        assert len(tags) < 20_000
        assert len(entries) < 1000


@given(st.text(max_size=200))
def test_a_public_key(line: str) -> None:
    with contextlib.suppress(AuthenticationFailed):
        kind, blob = keys.parse_public(line)
        assert kind in line
        assert isinstance(blob, bytes)


@given(st.binary(max_size=200), st.text(max_size=200))
def test_the_words_of_an_ssh_server(banner: bytes, complaint: str) -> None:
    version = _sandbox_plan.version_of(banner)
    assert version is None or version.isprintable()
    found = _sandbox_plan.missing_directory(complaint)
    assert found is None or found in complaint


@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "]))
def test_an_answer_of_the_server(answer: bytes, beginning: bytes) -> None:
    server = ServerInfo(pid=2, port=1, token="t" * 32)

    def dial(_: Deadline) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(beginning + answer)
        return ours

    with contextlib.suppress(RemoteRuntimeError):
        proof.await_answer(server, dial, Deadline(20))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + DEEP.encode(), b"a = {b = " * 50_000, b"\0", b"[a]\n[a]"])
def test_a_profile_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        Settings.load({"HOME": str(tmp_path), "REMOTE_RUNTIME_HOME": str(tmp_path)})
    assert caught.value.code == "profile_unreadable"


@given(st.binary(max_size=200))
def test_a_page_of_an_index(body: bytes) -> None:
    for kind in ("text/html", "application/vnd.pypi.simple.v1+json"):
        with contextlib.suppress(FetchError):
            index.links_of_page(body, kind, "http://index/simple/")
    page = json.dumps({"files": [{"filename": "a.whl", "url": body.hex()}]}).encode()
    assert [link.filename for link in index.links_of_page(page, "application/json", "http://index/")] == ["a.whl"]
