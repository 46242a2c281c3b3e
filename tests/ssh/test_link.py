"""The Link over real SSH servers that go away and come back."""

from __future__ import annotations

import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import AuthenticationFailed, HostKeyError, NetworkError, RemoteRuntimeError, ServerError
from remote_runtime.events import Event, LinkChanged
from remote_runtime.forward import LocalForward, listen
from remote_runtime.link import Link
from remote_runtime.model import Endpoint, Identity, Pinned, Question, ServerInfo
from remote_runtime.ssh import Connection
from tests.openssh import Sshd, StartSshd
from tests.ssh.peers import echo, serving
from tests.ssh.test_connection import make_key

SERVER = ServerInfo(pid=1, port=1, token="secret")


def gone(link: Link) -> str:
    """By which code a link that is not up says so."""
    with pytest.raises(NetworkError) as caught:
        link.connection()
    return caught.value.code


class Story:
    """A Link's surroundings: what it asks for is counted, what it says is kept."""

    def __init__(self, resolve: Callable[[], Endpoint]) -> None:
        self.endpoint = resolve
        self.prepared = 0
        self.on_prepare: Callable[[Connection, Deadline], object] = lambda connection, deadline: None
        self.failure: RemoteRuntimeError | None = None
        self.events: queue.SimpleQueue[LinkChanged] = queue.SimpleQueue()

    def link(self, *, seconds: float = 20, ask: Question | None = None) -> Link:
        return Link(
            "machine",
            resolve=lambda deadline: self.endpoint(),
            prepare=self.prepare,
            ask=ask,
            on_event=self.hear,
            deadline=Deadline(seconds),
        )

    def prepare(self, connection: Connection, deadline: Deadline) -> ServerInfo:
        assert connection.alive
        self.prepared += 1
        self.on_prepare(connection, deadline)
        if self.failure:
            raise self.failure
        return SERVER

    def hear(self, event: Event) -> None:
        if isinstance(event, LinkChanged):
            self.events.put(event)

    def until_reason(self, words: str) -> None:
        while words not in self.events.get(timeout=30).reason:
            pass

    def until(self, state: str) -> LinkChanged:
        while (event := self.events.get(timeout=30)).state != state:
            pass
        return event


def test_it_is_connected_and_prepared_when_it_is_there(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    with story.link() as link:
        assert (link.state, link.server, story.prepared) == ("connected", SERVER, 1)
        assert link.connection().alive
    assert link.state == "closed"
    assert story.until("closed").retry_in is None
    link.wait()  # it is over, and not by an error


def test_nothing_is_left_if_the_first_preparation_fails(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    story.failure = ServerError("no Jupyter today")
    with pytest.raises(ServerError):
        story.link()


def test_a_cut_heals_and_prepares_again(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    told = threading.Event()
    with story.link() as link:
        link.on_settled(told.set)
        sshd.kill_connections()
        assert story.until("reconnecting").retry_in == 0
        story.until("connected")
        assert told.wait(10)
        assert story.prepared == 2
        assert link.connection().probe().wait(10)


def test_a_machine_that_comes_back_at_another_address_is_found(start_sshd: StartSshd) -> None:
    old = start_sshd()
    addresses = [old.endpoint()]
    story = Story(lambda: addresses[-1])
    with story.link():
        new = start_sshd()
        addresses.append(new.endpoint())
        old.stop()
        story.until("connected")
        assert new.log.count("Accepted publickey") == 1


def test_clients_of_a_forward_see_an_outage_as_a_delay(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    with serving(echo) as port, story.link() as link:
        forward = LocalForward(listen(0), lambda sink: link.open_stream("127.0.0.1", port, sink))
        link.on_settled(forward.retry)
        with forward:
            sshd.stop()
            story.until("reconnecting")
            with socket.create_connection(("127.0.0.1", forward.port), timeout=30) as client:
                client.sendall(b"through")
                sshd.start()
                assert client.recv(100) == b"through"


def test_a_changed_host_key_is_final(sshd: Sshd) -> None:
    endpoints = [sshd.endpoint()]
    story = Story(lambda: endpoints[-1])
    with story.link() as link:
        endpoints.append(sshd.endpoint(trust=Pinned(("ssh-ed25519 AAAA",), "the test")))
        sshd.kill_connections()
        story.until("failed")
        with pytest.raises(HostKeyError):
            link.wait(10)
        with pytest.raises(HostKeyError):
            link.connection()
    assert link.state == "failed"


def test_clients_that_wait_are_let_go_when_the_link_has_failed_for_good(sshd: Sshd) -> None:
    endpoints = [sshd.endpoint()]
    story = Story(lambda: endpoints[-1])
    with serving(echo) as port, story.link() as link:
        forward = LocalForward(listen(0), lambda sink: link.open_stream("127.0.0.1", port, sink))
        link.on_settled(forward.retry)
        with forward:
            endpoints.append(sshd.endpoint(trust=Pinned(("ssh-ed25519 AAAA",), "the test")))
            sshd.kill_connections()
            story.until("reconnecting")
            for _ in range(2):  # one that waits, perhaps, and one that comes after the end
                with pytest.raises(ConnectionResetError):  # it may come as early as the connection itself
                    with socket.create_connection(("127.0.0.1", forward.port), timeout=30) as client:
                        client.recv(1)


def test_a_login_that_is_refused_for_good_is_final(sshd: Sshd) -> None:
    endpoints = [sshd.endpoint()]
    story = Story(lambda: endpoints[-1])
    with story.link() as link:
        endpoints.append(sshd.endpoint(identities=()))
        sshd.kill_connections()
        story.until("failed")
        with pytest.raises(AuthenticationFailed):
            link.wait(10)


def test_preparing_again_on_the_same_connection(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    with story.link() as link:
        before = link.connection()
        link.request_prepare("the port refused a stream")
        assert story.until("reconnecting").reason == "the port refused a stream"
        story.until("connected")
        assert story.prepared == 2
        assert link.connection() is before


def test_a_preparation_that_may_work_later_is_tried_again(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    with story.link() as link:
        story.failure = ServerError("busy", retryable=True)
        link.request_prepare("first")
        story.until("reconnecting")
        while story.events.get(timeout=30).reason != "busy":
            pass
        story.failure = None
        story.until("connected")


def test_a_first_attempt_that_hangs_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_endpoint = Endpoint("127.0.0.1", "me", Pinned((), "the test"), port=silent.getsockname()[1])
        with pytest.raises(NetworkError):
            Story(lambda: silent_endpoint).link(seconds=0.5)


def test_closing_while_it_tries_to_come_back_takes_no_time(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoints = [sshd.endpoint()]
        story = Story(lambda: endpoints[-1])
        link = story.link()
        endpoints.append(sshd.endpoint(port=silent.getsockname()[1]))
        sshd.kill_connections()
        story.until("reconnecting")
        assert gone(link) == "reconnecting"
        accepted, _ = silent.accept()  # it now waits for a greeting that never comes
        started = time.monotonic()
        link.close()
        link.close()
        assert time.monotonic() - started < 5
        accepted.close()
    assert link.state == "closed"
    assert gone(link) == "closed"


def test_a_frozen_machine_is_suspected_and_taken_back_when_it_thaws(sshd: Sshd) -> None:
    """Its kernel still accepts connections; only an answer of its sshd proves life."""
    story = Story(sshd.endpoint)
    with story.link() as link:
        before = link.connection()
        sshd.signal(signal.SIGSTOP)
        assert story.until("reconnecting").reason.startswith("no sign of life")
        sshd.signal(signal.SIGCONT)
        assert story.until("connected").down > 0
        assert link.connection() is before  # its streams go on: nothing was cut
        assert story.prepared == 1


def test_a_machine_that_stays_frozen_is_given_up_for_a_new_login(sshd: Sshd) -> None:
    story = Story(sshd.endpoint)
    with story.link() as link:
        before = link.connection()
        sshd.signal(signal.SIGSTOP, connections_only=True)
        story.until("reconnecting")
        story.until("connected")
        assert link.connection() is not before
        assert story.prepared == 2
        sshd.signal(signal.SIGCONT)


def test_a_machine_that_falls_silent_while_it_is_prepared_is_given_up(sshd: Sshd) -> None:
    """Only when something is asked of it: it still accepts connections, and the answer might take long."""
    story = Story(sshd.endpoint)
    with story.link() as link:
        froze: list[Connection] = []

        def freeze_once(connection: Connection, deadline: Deadline) -> None:
            if not froze:
                froze.append(connection)
                sshd.signal(signal.SIGSTOP, connections_only=True)
            with connection.execute("true", deadline) as process:
                list(process.lines())

        story.on_prepare = freeze_once
        sshd.kill_connections()
        story.until_reason("sign of life")
        story.until("connected")
        assert link.connection() is not froze[0]
        assert not froze[0].alive
        sshd.signal(signal.SIGCONT)


def test_a_passphrase_is_asked_for_once_in_the_life_of_a_link(start_sshd: StartSshd, tmp_path: Path) -> None:
    make_key(tmp_path / "key", "ed25519", "correct horse")
    server = start_sshd(AuthorizedKeysFile=str(tmp_path / "key.pub"))
    story = Story(lambda: server.endpoint(identities=(Identity(tmp_path / "key"),)))
    asked: list[str] = []

    def ask(prompt: str, echo: bool) -> str:
        asked.append(prompt)
        return "correct horse"

    with story.link(ask=ask):
        for _ in range(2):
            server.kill_connections()
            story.until("connected")
    assert len(asked) == 1


def test_a_wait_can_be_bounded(sshd: Sshd) -> None:
    with Story(sshd.endpoint).link() as link:
        link.wait(0.05)
        assert link.state == "connected"
