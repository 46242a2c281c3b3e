"""Logging in by what a person answers: passwords, questions of the server's own, and both after a key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remote_runtime import keys
from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed
from remote_runtime.events import Event
from remote_runtime.model import Endpoint, Identity, Pinned, Question
from remote_runtime.ssh import Connection, Unlocked, connect

# OpenSSH asks for passwords through PAM or the account's own: a server of asyncssh can be told what to ask.
SERVER = """
import asyncio, sys
import asyncssh

class Server(asyncssh.SSHServer):
    def __init__(self):
        self.kind = sys.argv[2]
    def begin_auth(self, username):
        return True
    def public_key_auth_supported(self):
        return self.kind == "key or password"
    def validate_public_key(self, username, key):
        return False
    def password_auth_supported(self):
        return "password" in self.kind
    def validate_password(self, username, password):
        return (username, password) == ("ada", "hunter2")
    def kbdint_auth_supported(self):
        return self.kind == "questions"
    def get_kbdint_challenge(self, username, language, submethods):
        return "Two \\x1b[31mfactors", "Look at your phone.", "", [("Code:", True), ("PIN:", False)]
    def validate_kbdint_response(self, username, responses):
        return list(responses) == ["123456", "0000"]

async def main():
    key = asyncssh.read_private_key(sys.argv[1])
    server = await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[key])
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()

asyncio.run(main())
"""


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    """A server that lets ada in by what its ``kind`` asks for."""
    pytest.importorskip("asyncssh")
    private, public = keys.generate("host")
    (tmp_path / "host").write_bytes(private)
    (tmp_path / "host").chmod(0o600)
    argv = [sys.executable, "-W", "ignore", "-c", SERVER, str(tmp_path / "host"), request.param]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        yield Endpoint("127.0.0.1", "ada", Pinned((" ".join(public.split()[:2]),), "the test"), port=port)
        process.communicate()


class Person:
    """Answers from a list, and remembers what was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, prompt: str, echo: bool) -> str:
        self.asked.append((prompt, echo))
        return self.answers.pop(0)


def ignore(event: Event) -> None:
    """Nothing is said that matters here."""


def log_in(endpoint: Endpoint, ask: Question | None) -> Connection:
    return connect(endpoint, ask=ask, on_event=ignore, deadline=Deadline(30))


@pytest.mark.parametrize("endpoint", ["password"], indirect=True)
def test_a_password_may_be_mistyped(endpoint: Endpoint) -> None:
    person = Person("wrong", "hunter2")
    with log_in(endpoint, person) as connection:
        assert connection.alive
    assert person.asked == [("ada@127.0.0.1's password: ", False)] * 2


@pytest.mark.parametrize("endpoint", ["password", "key or password"], indirect=True)
def test_a_password_that_was_right_is_used_again_without_asking(endpoint: Endpoint) -> None:
    unlocked = Unlocked()
    with connect(endpoint, ask=Person("hunter2"), on_event=ignore, deadline=Deadline(30), unlocked=unlocked):
        pass
    with connect(endpoint, ask=None, on_event=ignore, deadline=Deadline(30), unlocked=unlocked) as connection:
        assert connection.alive
    assert "hunter2" not in repr(unlocked)


@pytest.mark.parametrize("endpoint", ["questions"], indirect=True)
def test_the_servers_questions_are_shown_as_its_words_without_what_could_act_on_a_terminal(endpoint: Endpoint) -> None:
    person = Person("123456", "0000")
    with log_in(endpoint, person) as connection:
        assert connection.alive
    prefix = "(ada@127.0.0.1) Two factors Look at your phone. "
    assert person.asked == [(f"{prefix}Code: ", True), (f"{prefix}PIN: ", False)]


@pytest.mark.parametrize("endpoint", ["password", "questions"], indirect=True)
def test_nobody_is_asked_where_nobody_is(endpoint: Endpoint) -> None:
    with pytest.raises(AuthenticationFailed):
        log_in(endpoint, None)


@pytest.mark.parametrize("endpoint", ["password"], indirect=True)
def test_three_wrong_answers_are_enough(endpoint: Endpoint, tmp_path: Path) -> None:
    person = Person("no", "nope", "never", "unasked")
    with pytest.raises(AuthenticationFailed) as caught:
        log_in(endpoint, person)
    assert person.answers == ["unasked"]
    assert "hunter2" not in str(caught.value)
    assert "password" in caught.value.message


@pytest.mark.parametrize("endpoint", ["questions"], indirect=True)
def test_ctrl_c_at_a_question_ends_the_login_at_once(endpoint: Endpoint) -> None:
    def interrupt(prompt: str, echo: bool) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log_in(endpoint, interrupt)


@pytest.mark.parametrize("endpoint", ["password", "key or password"], indirect=True)
def test_a_key_that_does_not_fit_is_no_obstacle(endpoint: Endpoint, tmp_path: Path) -> None:
    private, _ = keys.generate("client")
    (tmp_path / "key").write_bytes(private)
    with log_in(replace(endpoint, identities=(Identity(tmp_path / "key"),)), Person("hunter2")) as connection:
        assert connection.alive
