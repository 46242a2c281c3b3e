"""The relay protocol of Identity-Aware Proxy: its messages, and that both streams survive whatever happens to them."""

from __future__ import annotations

import struct
from collections import deque
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remote_runtime.errors import UsageError
from remote_runtime.providers.gce import iap_failures, patience
from remote_runtime.providers.gce import iap_protocol as protocol
from remote_runtime.providers.gce.iap_failures import Ended
from remote_runtime.providers.gce.iap_protocol import Ack, Connected, Data, Malformed, Reconnected, Session, Target

TARGET = Target("my project", "us-central1-a", "trainer", 22)
ENDPOINT = "wss://localhost:1/v4"


def connected(sid: bytes = b"sid") -> bytes:
    return struct.pack(">HI", 1, len(sid)) + sid


def reconnected(count: int) -> bytes:
    return struct.pack(">HQ", 2, count)


def data(payload: bytes) -> bytes:
    return struct.pack(">HI", 4, len(payload)) + payload


def ack(count: int) -> bytes:
    return struct.pack(">HQ", 7, count)


def begun() -> Session:
    session = Session(TARGET)
    session.begin()
    session.hear(connected())
    return session


# -- messages --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=protocol.DATA_BYTES), st.integers(0, 2**64 - 1))
def test_messages_read_as_they_were_written(payload: bytes, count: int) -> None:
    assert protocol.encode_data(payload) == data(payload)
    assert protocol.decode(protocol.encode_data(payload)) == Data(memoryview(payload))
    assert protocol.encode_ack(count) == ack(count)
    assert protocol.decode(protocol.encode_ack(count)) == Ack(count)
    assert protocol.decode(reconnected(count)) == Reconnected(count)
    assert protocol.decode(connected(payload)) == Connected(payload)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_malformed(message: bytes) -> None:
    try:
        heard = protocol.decode(message)
    except Malformed:
        return
    if heard is None:
        assert message[:2] not in (b"\0\1", b"\0\2", b"\0\4", b"\0\7")
    else:
        assert len(message) >= 6


@given(st.one_of(st.binary(max_size=60).map(data), st.integers(0, 2**64 - 1).map(ack)), st.data())
def test_cut_messages_are_malformed(message: bytes, chosen: st.DataObject) -> None:
    with pytest.raises(Malformed):
        protocol.decode(message[: chosen.draw(st.integers(0, len(message) - 1))])


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_what_comes_after_a_message_is_ignored(payload: bytes, more: bytes) -> None:
    assert protocol.decode(data(payload) + more) == Data(memoryview(payload))


@pytest.mark.parametrize(
    ("override", "endpoint"),
    [
        ("", "wss://tunnel.cloudproxy.app/v4"),
        ("wss://localhost:44/v4", "wss://localhost:44/v4"),
        ("wss://[::1]:44/v5/", "wss://[::1]:44/v5"),
        ("wss://relay.example.com", "wss://relay.example.com/v4"),
    ],
)
def test_endpoint(override: str, endpoint: str) -> None:
    assert protocol.endpoint_from(override) == endpoint


@pytest.mark.parametrize(
    "override", ["ws://localhost/v4", "https://x/", "wss:///v4", "wss://x:port/", "wss://u@x/", "wss://x/?a", "x"]
)
def test_bad_endpoint(override: str) -> None:
    with pytest.raises(UsageError) as caught:
        protocol.endpoint_from(override)
    assert caught.value.code == "bad_endpoint"


def test_urls() -> None:
    session = Session(TARGET)
    session.begin()
    parts = urlsplit(session.url(ENDPOINT))
    assert (parts.scheme, parts.netloc, parts.path) == ("wss", "localhost:1", "/v4/connect")
    assert parse_qs(parts.query) == {
        "project": ["my project"],
        "zone": ["us-central1-a"],
        "instance": ["trainer"],
        "interface": ["nic0"],
        "port": ["22"],
        "newWebsocket": ["True"],
    }
    session.hear(connected(b"a/b+c="))
    session.hear(data(b"12345"))
    session.begin()
    parts = urlsplit(session.url(ENDPOINT))
    assert parts.path == "/v4/reconnect"
    expected = {"sid": ["a/b+c="], "ack": ["5"], "zone": ["us-central1-a"], "newWebsocket": ["True"]}
    assert parse_qs(parts.query) == expected


# -- the session -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [data(b"x"), ack(0), reconnected(0), connected(b"")])
def test_first_message_must_name_the_session(message: bytes) -> None:
    session = Session(TARGET)
    session.begin()
    with pytest.raises(Malformed):
        session.hear(message)


@pytest.mark.parametrize("message", [data(b"x"), ack(0), connected(), reconnected(1)])
def test_first_message_after_a_cut_must_confirm(message: bytes) -> None:
    session = begun()
    session.begin()
    with pytest.raises(Malformed):
        session.hear(message)


@pytest.mark.parametrize("message", [connected(), reconnected(3), ack(2), ack(6)])
def test_no_second_agreement_and_no_impossible_confirmation(message: bytes) -> None:
    session = begun()
    session.take(b"12345")
    session.next_data()
    session.hear(ack(3))
    with pytest.raises(Malformed):
        session.hear(message)


def test_no_impossible_confirmation_after_a_cut() -> None:
    session = begun()
    session.take(bytes(protocol.DATA_BYTES) + b"rest")
    session.next_data()
    session.next_data()
    session.begin()
    session.hear(reconnected(protocol.DATA_BYTES))
    with pytest.raises(Malformed):
        session.hear(ack(protocol.DATA_BYTES + 1))  # the rest has yet to be sent again


def test_unknown_messages_are_ignored() -> None:
    assert begun().hear(b"\0\x0awhatever") is None


def test_only_what_was_handed_on_is_acknowledged_and_not_too_often() -> None:
    session = begun()
    for _ in range(3):
        session.hear(data(bytes(protocol.DATA_BYTES)))
    assert session.next_ack(idle=True) is None
    session.deliver(2 * protocol.DATA_BYTES)
    assert session.next_ack() is None
    assert session.ack_owed
    session.deliver(1)
    assert session.next_ack() == ack(2 * protocol.DATA_BYTES + 1)
    session.deliver(1)
    assert session.next_ack() is None
    assert session.next_ack(idle=True) == ack(2 * protocol.DATA_BYTES + 2)
    assert not session.ack_owed


def test_acknowledgements_never_decrease_over_a_cut() -> None:
    session = begun()
    session.hear(data(bytes(1000)))
    session.deliver(300)
    session.begin()
    assert "ack=1000" in session.url(ENDPOINT)
    session.hear(reconnected(0))
    assert session.next_ack(idle=True) is None
    session.deliver(700)
    assert session.next_ack(idle=True) is None
    session.hear(data(b"x"))
    session.deliver(1)
    assert session.next_ack(idle=True) == ack(1001)


class Relay:
    """The far side of the model: counts as the protocol says, and never more."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.sent = bytearray()  # all that it was ever given to send
        self.position = 0
        self.told = 0  # of how many bytes the client said that it received them


class Cuts(RuleBasedStateMachine):
    """A session and a relay, with a line between them that holds messages, delivers them in order, or is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(TARGET, limit=60_000)
        self.relay = Relay()
        self.taken = bytearray()
        self.heard = bytearray()
        self.handed_on = 0
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.connect()

    def connect(self, *, agree: bool = True) -> None:
        resuming = self.session.began
        self.up.clear()
        self.down.clear()
        self.session.begin()
        query = parse_qs(urlsplit(self.session.url(ENDPOINT)).query)
        if resuming:
            self.relay.position = self.relay.told = int(query["ack"][0])
        self.down.append(reconnected(len(self.relay.received)) if resuming else connected())
        if agree:
            self.client_hears()

    @rule(size=st.integers(1, 40_000), value=st.integers(0, 255))
    def owner_writes(self, size: int, value: int) -> None:
        block = bytes([value]) * min(size, self.session.room)
        self.session.take(block)
        self.taken += block

    @rule(size=st.sampled_from([1, 5000, 40_000]), value=st.integers(0, 255))
    def vm_writes(self, size: int, value: int) -> None:
        self.relay.sent += bytes([value]) * size

    @rule(times=st.integers(1, 5))
    def client_sends(self, times: int) -> None:
        for _ in range(times):
            message = self.session.next_data()
            if message:
                assert len(message) <= protocol.DATA_BYTES + 6
                self.up.append(message)

    @rule(idle=st.booleans())
    def client_acknowledges(self, idle: bool) -> None:
        message = self.session.next_ack(idle=idle)
        if message:
            self.up.append(message)

    @rule(size=st.integers(1, protocol.DATA_BYTES))
    def relay_sends(self, size: int) -> None:
        block = bytes(self.relay.sent[self.relay.position : self.relay.position + size])
        self.relay.position += len(block)
        self.down.append(data(block))

    @rule()
    def relay_acknowledges(self) -> None:
        self.down.append(ack(len(self.relay.received)))

    @precondition(lambda self: self.up)
    @rule()
    def relay_hears(self) -> None:
        heard = protocol.decode(self.up.popleft())
        if isinstance(heard, Data):
            self.relay.received += heard.payload
        else:
            assert isinstance(heard, Ack)
            assert self.relay.told <= heard.received <= self.handed_on <= len(self.heard)
            self.relay.told = heard.received

    @precondition(lambda self: self.down)
    @rule()
    def client_hears(self) -> None:
        payload = self.session.hear(self.down.popleft())
        self.heard += payload or b""

    @rule(size=st.sampled_from([1, 1000, 40_000]))
    def owner_reads(self, size: int) -> None:
        size = min(size, len(self.heard) - self.handed_on)
        self.handed_on += size
        self.session.deliver(size)

    @precondition(lambda self: self.up)
    @rule(size=st.integers(1, protocol.DATA_BYTES))
    def cut_after_part_of_a_message(self, size: int) -> None:
        heard = protocol.decode(self.up.popleft())
        if isinstance(heard, Data):
            self.relay.received += heard.payload[:size]
        self.connect()

    @rule()
    def cut_in_the_middle_of_reconnecting(self) -> None:
        self.connect(agree=False)
        self.connect()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.taken.startswith(self.relay.received)
        assert self.relay.sent.startswith(self.heard)
        assert 0 <= self.session.room <= 60_000

    def teardown(self) -> None:
        """Let everything arrive, over one more line."""
        self.connect()
        while self.down or self.up or self.session.unsent or len(self.heard) < len(self.relay.sent):
            for _ in range(len(self.down)):
                self.client_hears()
            self.client_sends(5)
            for _ in range(len(self.up)):
                self.relay_hears()
            if len(self.heard) < len(self.relay.sent):
                self.relay_sends(protocol.DATA_BYTES)
        assert self.relay.received == self.taken
        assert self.heard == self.relay.sent
        self.relay_acknowledges()
        self.client_hears()
        assert self.session.room == 60_000
        assert not self.session.unconfirmed


TestCuts = Cuts.TestCase
TestCuts.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "may_resume"),
    [
        (Ended(), True),
        (Ended(code=1000), False),
        (Ended(code=1001), True),
        (Ended(code=1012), True),
        (Ended(code=4001), False),
        (Ended(code=4002), True),
        (Ended(code=4003), False),
        (Ended(code=4004), True),
        (Ended(code=4010), False),
        (Ended(status=401), True),
        (Ended(status=403), False),
        (Ended(status=404), False),
        (Ended(status=429), True),
        (Ended(status=503), True),
    ],
)
def test_what_ends_a_session(end: Ended, may_resume: bool) -> None:
    assert end.may_resume is may_resume


@given(st.integers(0, 5000))
def test_every_code_has_an_error_with_a_cure(code: int) -> None:
    for end in (Ended(code=code, reason="\x1b[31mred"), Ended(status=code)):
        error = iap_failures.explained(end, TARGET, "Log in again.")
        assert error.hint
        assert error.code != "error"
        assert "\x1b" not in error.message


@given(st.integers(1, 1000), st.floats(0, 1))
def test_pauses_grow_and_are_bounded(attempt: int, chance: float) -> None:
    assert iap_failures.pause(0, chance) == 0
    assert 0.125 <= iap_failures.pause(attempt, chance) <= 5
    assert iap_failures.pause(attempt, chance) <= 0.25 * 2 ** (attempt - 1)


def test_commands_quote_names() -> None:
    hint = iap_failures.explained(Ended(code=4003), Target("p; reboot", "z", "i", 22), "").hint
    assert "'--project=p; reboot'" in hint


def test_nobody_waits_for_a_certificate_to_become_good() -> None:
    for error in (iap_failures.untrusted("relay", "self-signed"), iap_failures.malformed(TARGET, "what")):
        assert not patience.worth_waiting(error, since_boot=1, since_key=1, since_first=1)
