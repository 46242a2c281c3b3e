"""known_hosts, and what is done about a host key: the reader, the decision, and the file of accepted keys."""

from __future__ import annotations

import base64
import os
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import keys
from remote_runtime.errors import HostKeyError, StateError
from remote_runtime.events import Event, Notice
from remote_runtime.model import Fingerprint, HostKeyTrust, KnownHosts, Pinned
from remote_runtime.ssh import hostkeys, known_hosts
from remote_runtime.ssh.known_hosts import Entry, decide, host_name, names_host, parse_known_hosts


def blob_of(kind: str, content: str = "key") -> bytes:
    """A public key in wire format, as far as known_hosts looks into it."""
    return b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), content.encode()))


def line(hosts: str, kind: str = "ssh-ed25519", content: str = "key") -> str:
    return f"{hosts} {kind} {base64.b64encode(blob_of(kind, content)).decode()}"


ED, RSA = blob_of("ssh-ed25519"), blob_of("ssh-rsa")


# -- the reader ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "name", "matches"),
    [
        ("vm.example", "vm.example", True),
        ("VM.Example", "vm.example", True),
        ("vm.example", "[vm.example]:2222", False),
        ("[vm.example]:2222", "[vm.example]:2222", True),
        ("[vm.example]:2222", "vm.example", False),
        ("other,vm.example,10.0.0.1", "vm.example", True),
        ("*.example", "vm.example", True),
        ("*.example", "[vm.example]:2222", False),
        ("[*.example]:2222", "[vm.example]:2222", True),
        ("vm?.example", "vm1.example", True),
        ("vm?.example", "vm.example", False),
        ("*.example,!vm.example", "vm.example", False),
        ("!vm.example,*.example", "vm.example", False),
        ("*.example,!vm.example", "vm2.example", True),
        ("!vm.example", "other", False),
        ("[vV]m", "vm", False),  # brackets are no character class
        ("::1", "::1", True),
        ("|1|broken", "vm.example", False),
        ("|2|AAAA|AAAA", "vm.example", False),
    ],
)
def test_the_first_field_names_hosts(hosts: str, name: str, matches: bool) -> None:
    assert names_host(hosts, name) is matches


def test_a_line_that_openssh_hashed_is_found(tmp_path: Path) -> None:
    tool = shutil.which("ssh-keygen")
    if not tool:
        pytest.skip("ssh-keygen is not installed")
    file = tmp_path / "known_hosts"
    _, public = keys.generate("")
    file.write_text(f"vm.example {public}\n[vm.example]:2222 {public}\n")
    subprocess.run([tool, "-H", "-f", str(file)], check=True, capture_output=True)
    text = file.read_text()
    assert "vm.example" not in text
    entries = parse_known_hosts(text)
    assert [[entry.line for entry in known_hosts.entries_for(entries, name)] for name in
            ("vm.example", "[vm.example]:2222", "other.example")] == [[1], [2], []]  # fmt: skip


def test_lines_that_cannot_be_read_are_passed_over() -> None:
    text = "\n".join(
        [
            "# a comment",
            "",
            "vm.example",
            "vm.example ssh-ed25519",
            "vm.example ssh-ed25519 not/base64!",
            f"vm.example ssh-rsa {base64.b64encode(ED).decode()}",  # says one type, holds another
            "vm.example 1024 35 1234567890",  # the first protocol's
            "@unknown " + line("vm.example"),
            "\t" + line("vm.example") + " with a comment\r",
            "@revoked " + line("*", content="bad"),
            "@cert-authority " + line("*.example", content="authority"),
        ]
    )
    found = parse_known_hosts(text, Path("f"))
    assert [(entry.line, entry.marker) for entry in found] == [(9, ""), (10, "revoked"), (11, "cert-authority")]
    assert found[0] == Entry("vm.example", "ssh-ed25519", ED, "", 9, Path("f"))


@given(st.text())
def test_no_text_makes_the_reader_raise(text: str) -> None:
    for entry in parse_known_hosts(text):
        names_host(entry.hosts, "vm.example")


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1).filter(
        lambda text: text[0] not in "#@"
    ),
    st.binary(max_size=40),
)
def test_what_is_written_is_read_again(hosts: str, content: bytes) -> None:
    blob = struct.pack(">I", 3) + b"k-1" + content
    entry = parse_known_hosts(f"{hosts} k-1 {base64.b64encode(blob).decode()} comment")[0]
    assert (entry.hosts, entry.kind, entry.blob) == (hosts, "k-1", blob)


@given(st.lists(st.text("a*?[]", max_size=6), max_size=4), st.text("a[]", max_size=12))
def test_a_host_pattern_is_bounded_work(patterns: list[str], name: str) -> None:
    assert names_host(",".join(patterns) + "," + "*a" * 40 + "b", name + "a" * 40) in (True, False)


def test_the_port_is_part_of_the_name_unless_it_is_22_or_the_name_is_an_alias() -> None:
    assert host_name("VM", 22) == "vm"
    assert host_name("vm", 2222) == "[vm]:2222"
    assert host_name("vm", 2222, alias=True) == "vm"


# -- the decision -------------------------------------------------------------------------------------------------


def known(strict: str = "ask", alias: bool = False, accepted: Path = Path("/nowhere"), *files: Path) -> KnownHosts:
    return KnownHosts("vm.example", files, accepted, strict, alias)  # type: ignore[arg-type]


def verdict(text: str, kind: str = "ssh-ed25519", blob: bytes = ED, strict: str = "ask", can_ask: bool = True) -> str:
    entries = known_hosts.entries_for(parse_known_hosts(text), "vm.example")
    decision = decide(known(strict), kind, blob, entries, can_ask=can_ask)
    return decision.code or decision.verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (line("vm.example"), "accept"),
        (line("vm.example", content="old") + "\n" + line("vm.example"), "accept"),
        (line("vm.example", content="old"), "host_key_changed"),
        (line("vm.example", "ssh-rsa"), "host_key_changed"),  # it was asked for that type first, and did not show it
        (line("vm.example", "ssh-dss"), "ask"),  # a type that can't be asked for says nothing
        (line("other.example", content="old"), "ask"),
        (line("vm.example") + "\n@revoked " + line("*"), "host_key_revoked"),
        ("@revoked " + line("other"), "ask"),
        ("@revoked " + line("vm.example", content="other"), "ask"),
        ("@cert-authority " + line("*"), "ask"),
        ("", "ask"),
    ],
)
def test_decision_by_what_is_known(text: str, expected: str) -> None:
    assert verdict(text) == expected


@pytest.mark.parametrize(
    ("strict", "can_ask", "expected"),
    [
        ("ask", True, "ask"),
        ("ask", False, "host_key_unknown"),
        ("yes", True, "host_key_unknown"),
        ("accept-new", True, "accept-new"),
        ("accept-new", False, "accept-new"),
    ],
)
def test_decision_about_an_unknown_key(strict: str, can_ask: bool, expected: str) -> None:
    assert verdict("", strict=strict, can_ask=can_ask) == expected
    # A change is refused whatever the strictness.
    assert verdict(line("vm.example", content="old"), strict=strict, can_ask=can_ask) == "host_key_changed"


def test_a_revoked_key_is_not_asked_for() -> None:
    text = "\n".join(
        [line("vm.example", "ssh-rsa"), line("vm.example"), "@revoked " + line("*"), line("vm.example", "x")]
    )
    assert known_hosts.known_kinds(parse_known_hosts(text)) == ("ssh-rsa",)


# -- the whole, on files ------------------------------------------------------------------------------------------


class Asked:
    """A person who gives one answer and remembers the question."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.prompts: list[str] = []

    def __call__(self, prompt: str, echo: bool) -> str:
        self.prompts.append(prompt)
        assert echo
        return self.answer


def check(trust: HostKeyTrust, blob: bytes = ED, *, port: int = 22, ask: Asked | None = None) -> list[Event]:
    events: list[Event] = []
    kind = blob[4 : 4 + struct.unpack(">I", blob[:4])[0]].decode()
    hostkeys.verify(trust, port, kind, blob, ask=ask, on_event=events.append)
    return events


def refused(trust: HostKeyTrust, blob: bytes = ED, *, port: int = 22, ask: Asked | None = None) -> HostKeyError:
    with pytest.raises(HostKeyError) as caught:
        check(trust, blob, port=port, ask=ask)
    return caught.value


def test_a_pinned_key_is_accepted_and_no_other() -> None:
    trust = Pinned((line("", "ssh-rsa").strip(), line("").strip()), "the serial console")
    assert check(trust) == []
    assert hostkeys.preferred_kinds(trust, 22) == ("ssh-rsa", "ssh-ed25519")
    error = refused(trust, blob_of("ssh-ed25519", "other"))
    assert error.code == "host_key_changed"
    assert "the serial console" in error.message
    assert keys.fingerprint(ED) in error.message
    assert keys.fingerprint(blob_of("ssh-ed25519", "other")) in error.message


def test_a_fingerprint_accepts_exactly_its_key() -> None:
    trust = Fingerprint(keys.fingerprint(ED))
    assert check(trust) == []
    assert check(Fingerprint(trust.sha256 + "=")) == []
    assert hostkeys.preferred_kinds(trust, 22) == ()
    assert keys.fingerprint(RSA) in refused(trust, RSA).message


def test_a_key_that_was_vouched_for_once_is_known_from_then_on(tmp_path: Path) -> None:
    trust = known("yes", False, tmp_path / "state" / "known_hosts", tmp_path / "missing")
    assert refused(trust, ED).code == "host_key_unknown"
    assert check(Fingerprint(keys.fingerprint(ED), trust)) == []
    assert check(trust) == []
    assert check(Fingerprint(keys.fingerprint(ED), trust)) == []
    assert len(trust.accepted.read_text().splitlines()) == 1


def test_a_revoked_key_is_refused_even_if_vouched_for(tmp_path: Path) -> None:
    users = tmp_path / "known_hosts"
    users.write_text("@revoked " + line("vm.example") + "\n")
    trust = known("ask", False, tmp_path / "state" / "known_hosts", users)
    assert refused(Fingerprint(keys.fingerprint(ED), trust), ED).code == "host_key_revoked"


def test_a_key_in_the_users_file_is_accepted_and_nothing_is_written(tmp_path: Path) -> None:
    users = tmp_path / "known_hosts"
    users.write_text(line("[vm.example]:2222", "ssh-rsa") + "\n" + line("vm.example") + "\n")
    trust = known("yes", False, tmp_path / "state" / "known_hosts", tmp_path / "missing", users)
    assert check(trust) == []
    assert check(trust, RSA, port=2222) == []
    assert hostkeys.preferred_kinds(trust, 2222) == ("ssh-rsa",)
    assert not (tmp_path / "state").exists()


def test_yes_is_remembered_in_our_own_file(tmp_path: Path) -> None:
    users, accepted = tmp_path / "known_hosts", tmp_path / "state" / "known_hosts"
    users.write_text(line("other") + "\n")
    trust = known("ask", False, accepted, users)
    ask = Asked("yes\n")
    assert check(trust, port=2222, ask=ask) == []
    assert keys.fingerprint(ED) in ask.prompts[0]
    assert "nothing vouches" in ask.prompts[0]
    assert accepted.read_text() == line("[vm.example]:2222") + "\n"
    if os.name != "nt":
        assert accepted.stat().st_mode & 0o777 == 0o600
        assert accepted.parent.stat().st_mode & 0o777 == 0o700
    assert users.read_text() == line("other") + "\n"
    check(trust, port=2222)  # nobody has to be asked again
    assert refused(trust, blob_of("ssh-ed25519", "other"), port=2222, ask=ask).code == "host_key_changed"
    assert len(ask.prompts) == 1


@pytest.mark.parametrize("answer", ["no", "", "y", "SHA256:" + "A" * 43])
def test_anything_but_yes_is_no(tmp_path: Path, answer: str) -> None:
    trust = known("ask", False, tmp_path / "accepted")
    error = refused(trust, port=2222, ask=Asked(answer))
    assert error.code == "host_key_unknown"
    assert "vm.example port 2222" in error.message
    assert "Only yes" in error.hint
    assert not (tmp_path / "accepted").exists()


def test_the_fingerprint_itself_is_a_yes(tmp_path: Path) -> None:
    trust = known("ask", False, tmp_path / "accepted")
    check(trust, ask=Asked(f" {keys.fingerprint(ED)} "))
    assert (tmp_path / "accepted").exists()


def test_without_anybody_to_ask_the_hint_names_the_option(tmp_path: Path) -> None:
    error = refused(known("ask", False, tmp_path / "accepted"))
    assert error.code == "host_key_unknown"
    assert f"--host-key {keys.fingerprint(ED)}" in error.hint


def test_a_changed_key_names_the_line_and_offers_nothing(tmp_path: Path) -> None:
    users = tmp_path / "known_hosts"
    users.write_text("# mine\n" + line("vm.example", content="old") + "\n")
    ask = Asked("yes")
    error = refused(known("accept-new", False, tmp_path / "accepted", users), ask=ask)
    assert error.code == "host_key_changed"
    assert f"line 2 of {users}" in error.message
    assert f"line 2 of {users}" in error.hint
    assert keys.fingerprint(ED) in error.message
    assert keys.fingerprint(blob_of("ssh-ed25519", "old")) in error.message
    assert ask.prompts == []
    assert not (tmp_path / "accepted").exists()


def test_a_revoked_key_is_refused_also_if_we_accepted_it_once(tmp_path: Path) -> None:
    users, accepted = tmp_path / "known_hosts", tmp_path / "accepted"
    accepted.write_text(line("vm.example") + "\n")
    users.write_text("@revoked " + line("*.example") + "\n")
    error = refused(known("ask", False, accepted, users), ask=Asked("yes"))
    assert error.code == "host_key_revoked"
    assert f"line 1 of {users}" in error.message


def test_skipped_authorities_are_said_once_and_only_where_they_matter(tmp_path: Path) -> None:
    users = tmp_path / "known_hosts"
    users.write_text(f"@cert-authority {line('*')}\n@cert-authority {line('*', content='2')}\n")
    trust = known("accept-new", False, tmp_path / "accepted", users)
    codes = [event.code for event in check(trust) if isinstance(event, Notice)]
    assert codes == ["cert_authority_skipped", "host_key_accepted"]
    assert check(trust) == []


def test_an_alias_is_looked_up_without_the_port(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"
    check(known("accept-new", True, accepted), port=2222)
    assert accepted.read_text().startswith("vm.example ")
    check(known("yes", True, accepted), port=2223)


def test_our_file_keeps_what_is_in_it(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"
    accepted.write_bytes(b"# kept\n" + line("other").encode())  # and no newline at the end
    check(known("accept-new", False, accepted))
    assert accepted.read_text() == f"# kept\n{line('other')}\n{line('vm.example')}\n"


def test_many_at_once_lose_no_line(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"
    names = [f"vm{number}" for number in range(12)]

    def accept(name: str) -> None:
        check(KnownHosts(name, (), accepted, "accept-new"))

    threads = [threading.Thread(target=accept, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.hosts for entry in parse_known_hosts(accepted.read_text())) == sorted(names)


def test_another_key_accepted_while_the_question_was_open_wins(tmp_path: Path) -> None:
    accepted = tmp_path / "accepted"

    def slow(prompt: str, echo: bool) -> str:
        check(known("accept-new", False, accepted), blob_of("ssh-ed25519", "quicker"))
        return "yes"

    with pytest.raises(HostKeyError) as caught:
        hostkeys.verify(known("ask", False, accepted), 22, "ssh-ed25519", ED, ask=slow, on_event=lambda _: None)
    assert caught.value.code == "host_key_changed"


def test_a_file_that_cannot_be_read_is_said_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").mkdir()
    trust = known("accept-new", False, tmp_path / "accepted", tmp_path / "known_hosts")
    codes = [event.code for event in check(trust) if isinstance(event, Notice)]
    assert codes == ["known_hosts_unreadable", "host_key_accepted"]


def test_an_accepted_key_that_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        check(known("accept-new", False, tmp_path / "file" / "accepted"))


def test_a_key_type_from_the_network_is_shown_without_its_control_characters(tmp_path: Path) -> None:
    error = refused(known("yes", False, tmp_path / "accepted"), blob_of("\x1b[31mtype"))
    assert "\x1b" not in error.message
