"""Our key on the VM, and the VM's keys for us."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import keys
from remote_runtime.errors import (
    AuthenticationFailed,
    GuestError,
    HostKeyError,
    InstanceError,
    NetworkError,
    RemoteRuntimeError,
    UsageError,
)
from remote_runtime.providers.gce import hostkeys, metadata, oslogin, patience

NOW = 1_800_000_000.0
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBsE ada@laptop"


def line(user: str = "ada", expires: float = NOW + 60, public: str = PUBLIC) -> str:
    return metadata.key_line(user, public, expires)


# -- metadata -------------------------------------------------------------------------------------------------------


def test_line_is_as_the_guest_wants_it() -> None:
    assert line(expires=1795297200) == (
        "ada:ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBsE google-ssh "
        '{"userName":"ada","expireOn":"2026-11-21T21:40:00+0000"}'
    )
    assert metadata.expiry(line(expires=NOW)) == NOW


@pytest.mark.parametrize(
    "text", ["", "ada:ssh-rsa AAAA me", "ada:ssh-rsa AAAA google-ssh {}", "a:b c google-ssh [1]", "a google-ssh x"]
)
def test_line_without_a_readable_end_never_expires(text: str) -> None:
    assert metadata.expiry(text) is None


def test_merge_keeps_the_others_and_drops_what_expired() -> None:
    bob, old, forever = line("bob", NOW + 5), line("eve", NOW - 5), "carl:ssh-rsa AAAA carl@home"
    before = "\n".join([bob, line(), old, forever, ""])
    fresh = line(expires=NOW + 9999)
    assert metadata.merged(before, fresh, NOW).splitlines() == [bob, forever, fresh]
    assert metadata.without(metadata.merged(before, fresh, NOW), "ada", PUBLIC).splitlines() == [bob, forever]


def test_same_key_of_another_user_is_another_line() -> None:
    both = metadata.merged(line("bob"), line("ada"), NOW)
    assert len(both.splitlines()) == 2


def test_full_metadata_locks_nobody_out() -> None:
    with pytest.raises(InstanceError) as caught:
        metadata.merged("\n".join(f"user{n}:ssh-rsa {'A' * 400} x" for n in range(640)), line(), NOW)
    assert caught.value.code == "metadata_full"


_LINES = st.lists(
    st.one_of(
        st.builds(line, st.sampled_from(["ada", "bob", "eve"]), st.floats(NOW - 1e6, NOW + 1e6)),
        st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=40),
    ),
    max_size=8,
)


@given(_LINES, st.floats(NOW, NOW + 1e6))
def test_merge_is_idempotent_and_our_key_gets_in(lines: list[str], expires: float) -> None:
    fresh = line(expires=expires)
    once = metadata.merged("\n".join(lines), fresh, NOW)
    assert metadata.merged(once, fresh, NOW) == once
    assert once.split("\n")[-1] == fresh
    assert metadata.expires_at(once, "ada", PUBLIC) == int(expires)


def test_body_keeps_every_entry_and_the_fingerprint() -> None:
    before = {"fingerprint": "f", "items": [{"key": "a", "value": "1"}, {"key": "ssh-keys", "value": "x"}]}
    assert metadata.replaced(before, "ssh-keys", "y") == {
        "fingerprint": "f",
        "items": [{"key": "a", "value": "1"}, {"key": "ssh-keys", "value": "y"}],
    }
    assert metadata.replaced(before, "ssh-keys", "")["items"] == [{"key": "a", "value": "1"}]
    assert metadata.replaced({}, "ssh-keys", "y") == {"items": [{"key": "ssh-keys", "value": "y"}]}


@pytest.mark.parametrize(
    ("local", "name"),
    [("ada", "ada"), ("Ada.Lovelace", "ada_lovelace"), ("CORP\\Ada", "ada"), ("ada@corp", "ada"), ("1ab", "_1ab")],
)
def test_local_name_is_made_fit(local: str, name: str) -> None:
    assert metadata.user_name(None, local) == name


@pytest.mark.parametrize(
    ("wanted", "local"), [(None, "root"), ("root", "ada"), ("Ada", "ada"), ("a b", "ada"), (None, "")]
)
def test_names_that_can_be_no_account(wanted: str | None, local: str) -> None:
    with pytest.raises(UsageError) as caught:
        metadata.user_name(wanted, local)
    assert caught.value.code == "bad_user"
    assert "--user" in caught.value.hint


# -- OS Login -------------------------------------------------------------------------------------------------------


def test_instance_beats_project() -> None:
    assert oslogin.is_on({}, {"enable-oslogin": "TRUE"})
    assert not oslogin.is_on({"enable-oslogin": "FALSE"}, {"enable-oslogin": "TRUE"})
    assert not oslogin.is_on({}, {})


def test_profile_is_read() -> None:
    profile = {
        "posixAccounts": [{"username": "x"}, {"username": "ada_example_com", "primary": True}],
        "sshPublicKeys": {"f": {"key": PUBLIC, "expirationTimeUsec": "1800000000000000"}, "g": {"key": "ssh-rsa A"}},
    }
    assert oslogin.user_name(profile, None) == "ada_example_com"
    assert oslogin.user_name(profile, "x") == "x"
    assert oslogin.user_name({"posixAccounts": [{"username": "first"}]}, "nobody") == "first"
    assert oslogin.key_end(profile, PUBLIC) == NOW
    assert oslogin.key_end(profile, "ssh-rsa A comment") == float("inf")
    assert oslogin.key_end(profile, "ssh-rsa B") is None
    with pytest.raises(AuthenticationFailed) as caught:
        oslogin.user_name({}, None)
    assert caught.value.code == "no_posix_account"


# -- host keys ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host_key() -> str:
    return " ".join(keys.generate("x")[1].split()[:2])


@pytest.fixture(scope="module")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("keys") / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(path)], check=True, timeout=60)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def test_guest_attributes(host_key: str, rsa_key: str) -> None:
    def item(line: str, namespace: str = "hostkeys") -> dict[str, str]:
        kind, blob = line.split()
        return {"namespace": namespace, "key": kind, "value": f"{blob} root@vm"}

    bad = {"namespace": "hostkeys", "key": "ssh-ed25519", "value": base64.b64encode(b"nonsense" * 5).decode()}
    answer = {
        "queryValue": {
            "items": [item(rsa_key), bad, item(host_key), item(host_key, "other"), {"namespace": "hostkeys"}]
        }
    }
    assert hostkeys.from_guest_attributes(answer) == (host_key, rsa_key)
    assert hostkeys.from_guest_attributes({}) == ()


def test_first_block_of_a_console_that_is_whole(host_key: str, rsa_key: str) -> None:
    marks = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
    first = "\r\n".join([marks[0], f"{host_key} root@vm", f"{rsa_key} root@vm", marks[1], ""])
    forged = first.replace(host_key, " ".join(keys.generate("x")[1].split()[:2]))
    console = {"contents": f"[    0.0] Linux\n{first}login:\n{forged}", "start": "0"}
    assert hostkeys.from_serial_console(console) == (host_key, rsa_key)
    assert hostkeys.from_serial_console({**console, "start": "1048576"}) == ()
    assert hostkeys.from_serial_console({"contents": "-----BEGIN SSH HOST KEY KEYS-----\n" + host_key}) == ()
    assert hostkeys.last_line({"contents": "one\r\ntwo \r\n\r\n"}) == "two"
    assert hostkeys.last_line({}) == ""


@given(st.text(max_size=300), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_whatever_the_machine_says_is_no_key(text: str, item: dict[str, str]) -> None:
    block = f"-----BEGIN SSH HOST KEY KEYS-----{text}-----END SSH HOST KEY KEYS-----"
    assert hostkeys.from_serial_console({"contents": block}) == ()
    assert hostkeys.from_guest_attributes({"queryValue": {"items": [item, {**item, "namespace": "hostkeys"}]}}) == ()


# -- patience -------------------------------------------------------------------------------------------------------

LONG = float("inf")


@pytest.mark.parametrize(
    ("error", "since_boot", "since_key", "worth"),
    [
        (NetworkError("", code="connection_refused"), 10, LONG, True),
        (NetworkError("", code="connection_refused"), LONG, LONG, True),  # for a breath
        (NetworkError("", code="unreachable"), 100, LONG, True),
        (NetworkError("", code="unreachable"), LONG, LONG, False),
        (NetworkError("", code="unreachable"), 300, LONG, False),
        (AuthenticationFailed(""), 5, LONG, True),
        (AuthenticationFailed(""), LONG, 5, True),
        (AuthenticationFailed(""), LONG, LONG, False),
        (HostKeyError(""), 1, 1, False),
        (GuestError(""), 1, 1, False),
    ],
)
def test_what_a_boot_excuses(error: RemoteRuntimeError, since_boot: float, since_key: float, worth: bool) -> None:
    assert patience.worth_waiting(error, since_boot=since_boot, since_key=since_key, since_first=0.0) is worth


def test_breath_ends() -> None:
    refused = NetworkError("", code="connection_refused")
    assert not patience.worth_waiting(refused, since_boot=LONG, since_key=LONG, since_first=11)


def test_pauses_grow_to_a_bound() -> None:
    refused, denied = NetworkError("", code="connection_refused"), AuthenticationFailed("")
    assert [patience.pause(refused, n) for n in (1, 2, 3, 4, 50)] == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert [patience.pause(denied, n) for n in (1, 2, 3, 4, 50)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_moment_at_which_the_guest_says_one_can_log_in() -> None:
    item = {"namespace": "guest-agent", "key": "sshable", "value": "1800000000"}
    assert hostkeys.sshable_since({"queryValue": {"items": [{"namespace": "x"}, item]}}) == NOW
    assert hostkeys.sshable_since({"queryValue": {"items": [{**item, "value": "soon"}]}}) is None
    assert hostkeys.sshable_since({}) is None


def test_expiry_is_the_json_that_gcloud_writes() -> None:
    detail = json.loads(line().partition(" google-ssh ")[2])
    assert list(detail) == ["userName", "expireOn"]
