"""From a target and ssh_config to an Endpoint, by OpenSSH's own reader and by the other one."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import keys
from remote_runtime._threads import Deadline
from remote_runtime.errors import TimedOut, UsageError
from remote_runtime.model import Command, Direct, Endpoint, Fingerprint, Identity, Jump, KnownHosts
from remote_runtime.settings import Settings
from remote_runtime.ssh.config import lookup
from remote_runtime.ssh.identities import certifies
from remote_runtime.ssh.resolved import Here, Target, parse_options, parse_target, resolve, split_paths, strictness

FINGERPRINT = "SHA256:" + "A" * 43
Look = Callable[..., Endpoint]


@pytest.fixture(params=["ssh", "paramiko"])
def look(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Look:
    """``look(target, config_text, **options)`` by one of the two readers."""
    environ = dict(settings.environ)
    if request.param == "paramiko":
        environ["PATH"] = str(tmp_path)
    elif not shutil.which("ssh"):
        pytest.skip("OpenSSH's client is not installed")
    changed = dataclasses.replace(settings, environ=environ)

    def find(target: str, config: str | None = None, **options: object) -> Endpoint:
        if config is not None:
            write_config(settings, config)
        return lookup(target, changed, deadline=Deadline(20), **options)  # type: ignore[arg-type]

    return find


def write_config(settings: Settings, text: str) -> None:
    (settings.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (settings.home / ".ssh" / "config").write_text(text)


# -- targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("vm", Target("vm")),
        ("ada@vm", Target("vm", "ada")),
        ("ada@vm:2222", Target("vm", "ada", 2222)),
        ("vm:2222", Target("vm", None, 2222)),
        ("[::1]", Target("::1")),
        ("[::1]:2222", Target("::1", None, 2222)),
        ("ada@[fe80::1%eth0]:22", Target("fe80::1%eth0", "ada", 22)),
        ("::1", Target("::1")),
        ("ada@::1", Target("::1", "ada")),
        ("ada@corp.example@vm", Target("vm", "ada@corp.example")),
        ("CORP\\ada@vm", Target("vm", "CORP\\ada")),
        ("ssh://ada@vm:2222/", Target("vm", "ada", 2222)),
    ],
)
def test_a_target_is_taken_apart(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "@vm", "ada@", "vm:", "vm:x", "vm:0", "vm:65536", "[::1", "[::1]x", "[::1]:", "-oProxyCommand=x", "ada@-v",
     "-l@vm", "vm;id", "$(id)", "`id`", "v m", "vm\n", "a'b", "ada;id@vm", "a:b", "[a]b:22", "vm\\", "ada\\@vm"],
)  # fmt: skip
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert caught.value.code == "bad_target"


@given(st.text())
def test_no_target_passes_that_ssh_or_a_shell_would_misread(text: str) -> None:
    try:
        target = parse_target(text)
    except UsageError:
        return
    for name in (target.host, target.user or "x"):
        assert name
        assert not name.startswith("-")
        assert not set(name) & set(" \t\n\"'`;&<>|(){}")
    assert "$" not in target.host


@given(st.text())
def test_no_text_makes_the_reader_of_options_raise(text: str) -> None:
    options = parse_options(text)
    try:
        resolve(options, "vm", Here("/home/ada", "/home/ada", "ada", {}))
    except UsageError as error:
        assert error.code in ("ssh_config_invalid", "ssh_config_unsupported")


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("/a /b", ["/a", "/b"]),
        ("/a b /c", ["/a b", "/c"]),
        ("~/a ~/b c", ["~/a", "~/b c"]),
        ('~/a "/b c"', ["~/a", "/b c"]),
        ("C:/a b D:\\c", ["C:/a b", "D:\\c"]),
        ("none", ["none"]),
        ("", []),
    ],
)
def test_lists_of_files(value: str, paths: list[str]) -> None:
    assert split_paths(value) == paths


@pytest.mark.parametrize(
    ("value", "strict"),
    [(None, "ask"), ("ask", "ask"), ("true", "yes"), ("yes", "yes"), ("false", "accept-new"), ("no", "accept-new"),
     ("off", "accept-new"), ("accept-new", "accept-new")],
)  # fmt: skip
def test_strictness(value: str | None, strict: str) -> None:
    assert strictness(value) == strict


# -- endpoints, by both readers -----------------------------------------------------------------------------------


def test_without_a_configuration(look: Look, settings: Settings) -> None:
    endpoint = look("ada@vm.example:2222")
    folder = settings.home / ".ssh"
    assert (endpoint.host, endpoint.user, endpoint.port) == ("vm.example", "ada", 2222)
    assert endpoint.via == Direct()
    assert endpoint.identities == ()
    assert endpoint.agent is None
    assert endpoint.trust == KnownHosts(
        "vm.example",
        (
            folder / "known_hosts",
            folder / "known_hosts2",
            Path("/etc/ssh/ssh_known_hosts"),
            Path("/etc/ssh/ssh_known_hosts2"),
        ),
        settings.state_dir / "known_hosts",
    )


def test_the_local_user_and_port_22_are_the_defaults(look: Look) -> None:
    import getpass

    endpoint = look("vm.example")
    assert (endpoint.user, endpoint.port) == (getpass.getuser(), 22)


def test_an_alias_is_looked_up(look: Look, settings: Settings) -> None:
    endpoint = look(
        "trainer",
        """
Host trainer
  HostName %h.lab.example
  User ada
  Port 2222
  IdentityFile ~/.ssh/for-%h-%r
  IdentityFile "~/.ssh/with space"
  IdentitiesOnly yes
  IdentityAgent ~/agent.sock
  UserKnownHostsFile ~/.ssh/lab "~/.ssh/lab two"
  GlobalKnownHostsFile /etc/lab/known
  StrictHostKeyChecking yes
  HostKeyAlias Trainer-Key
Host *
  User nobody
  ProxyJump none
""",
    )
    home = settings.home
    assert (endpoint.host, endpoint.user, endpoint.port) == ("trainer.lab.example", "ada", 2222)
    expected = [home / ".ssh" / "for-trainer.lab.example-ada", home / ".ssh" / "with space"]
    assert [identity.key for identity in endpoint.identities] == expected
    assert endpoint.only_identities
    assert endpoint.agent == str(home / "agent.sock")
    trust = endpoint.trust
    assert isinstance(trust, KnownHosts)
    assert (trust.name.lower(), trust.alias, trust.strict) == ("trainer-key", True, "yes")
    assert trust.files == (home / ".ssh" / "lab", home / ".ssh" / "lab two", Path("/etc/lab/known"))
    assert endpoint.via == Direct()


def test_what_the_caller_says_wins(look: Look) -> None:
    config = "Host vm\n User ada\n Port 2222\n ProxyCommand connect %r@%h:%p"
    endpoint = look("vm", config, user="grace", port=23)
    assert (endpoint.user, endpoint.port) == ("grace", 23)
    assert isinstance(endpoint.via, Command)
    assert endpoint.via.argv[-1] == "exec connect grace@vm:23"
    assert look("grace@vm:24", None).user == "grace"
    for options in ({"user": "ada"}, {"port": 25}):
        with pytest.raises(UsageError):
            look("grace@vm:24", None, **options)
    look("grace@vm:24", None, user="grace", port=24)


def test_default_keys_only_if_they_are_there_and_can_be_used(look: Look, settings: Settings) -> None:
    folder = settings.home / ".ssh"
    folder.mkdir(mode=0o700)
    for name in ("id_ed25519", "id_ed25519-cert.pub", "id_ed25519_sk", "id_dsa"):
        (folder / name).write_text("")
    identities = look("vm", "Host other\n IdentityFile ~/.ssh/x").identities
    assert identities == (Identity(folder / "id_ed25519", folder / "id_ed25519-cert.pub"),)


def test_identity_files_that_are_named_and_missing_stay(look: Look, settings: Settings) -> None:
    identities = look("vm", "Host vm\n IdentityFile ~/.ssh/gone").identities
    assert identities == (Identity(settings.home / ".ssh" / "gone"),)
    assert look("vm", "Host vm\n IdentityFile none").identities == ()


def test_the_agent(look: Look, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = settings.environ
    assert isinstance(environ, dict)
    with_agent = dataclasses.replace(settings, environ={**environ, "SSH_AUTH_SOCK": "/run/agent", "MY": "/run/my"})
    for config, agent in [("", "/run/agent"), ("IdentityAgent none", None), ("IdentityAgent $MY", "/run/my"),
                          ("IdentityAgent SSH_AUTH_SOCK", "/run/agent"), ("IdentityAgent $UNSET", None)]:  # fmt: skip
        write_config(settings, config + "\n")
        assert lookup("vm", with_agent, deadline=Deadline(20)).agent == agent, config


def test_a_proxy_command_goes_through_the_users_shell(look: Look, settings: Settings) -> None:
    endpoint = look("vm", "Host vm\n HostName 10.0.0.1\n User ada\n ProxyCommand nc -X '%%' %h %p %n %r")
    shell = settings.environ.get("SHELL", "/bin/sh")
    assert endpoint.via == Command((shell, "-c", "exec nc -X '%' 10.0.0.1 22 vm ada"))
    assert look("vm", "Host vm\n ProxyCommand none\nHost *\n ProxyCommand x").via == Direct()


def test_a_proxy_command_that_is_chosen_first_beats_a_jump(look: Look) -> None:
    assert isinstance(look("vm", "Host vm\n ProxyCommand x\nHost *\n ProxyJump j").via, Command)
    assert isinstance(look("vm", "Host vm\n ProxyJump j\nHost vm\n ProxyCommand x").via, Jump)
    assert look("vm", "Host vm\n ProxyCommand none\nHost *\n ProxyJump j").via == Direct()


def test_jumps_are_looked_up_themselves(look: Look) -> None:
    config = """
Host inner
  HostName 10.0.0.3
  ProxyJump outer,grace@[::1]:2201
Host outer
  HostName 203.0.113.1
  User gate
  ProxyJump first
Host ::1
  ProxyJump never-asked
"""
    endpoint = look("inner", config, host_key=FINGERPRINT)
    assert isinstance(endpoint.via, Jump)
    second = endpoint.via.endpoint
    assert (second.host, second.user, second.port) == ("::1", "grace", 2201)
    assert isinstance(second.via, Jump)
    outer = second.via.endpoint
    assert (outer.host, outer.user) == ("203.0.113.1", "gate")
    assert isinstance(outer.via, Jump)
    assert outer.via.endpoint.host == "first"
    assert outer.via.endpoint.via == Direct()
    # The fingerprint is the machine's own; the hops are verified by what is known of them.
    assert endpoint.trust == Fingerprint(FINGERPRINT)
    assert isinstance(second.trust, KnownHosts)


def test_a_jump_host_for_all_is_reached_directly_itself(look: Look) -> None:
    config = "Host bastion\n HostName 203.0.113.1\nHost *\n ProxyJump bastion"
    assert look("bastion", config).via == Direct()
    endpoint = look("vm")
    assert isinstance(endpoint.via, Jump)
    assert endpoint.via.endpoint.host == "203.0.113.1"
    assert endpoint.via.endpoint.via == Direct()


def test_jumps_in_circles_are_refused(look: Look) -> None:
    with pytest.raises(UsageError) as caught:
        look("a", "Host a\n ProxyJump b\nHost b\n ProxyJump c\nHost c\n ProxyJump a")
    assert caught.value.code == "ssh_config_unsupported"


def test_a_hostile_jump_is_refused(look: Look) -> None:
    with pytest.raises(UsageError):
        look("vm", "Host vm\n ProxyJump -oProxyCommand=id")


def test_passing_a_descriptor_is_not_supported(look: Look) -> None:
    with pytest.raises(UsageError) as caught:
        look("vm", "Host vm\n ProxyCommand x\n ProxyUseFdpass yes")
    assert caught.value.code == "ssh_config_unsupported"


@pytest.mark.parametrize("host_key", ["SHA256:short", "MD5:00:11", "", "A" * 43, FINGERPRINT + "!"])
def test_a_host_key_that_is_no_fingerprint(look: Look, host_key: str) -> None:
    with pytest.raises(UsageError) as caught:
        look("vm", host_key=host_key)
    assert caught.value.code == "bad_host_key"


@pytest.mark.parametrize("config", ["Port lots", 'Host "unfinished'])
def test_a_broken_configuration_is_an_error_with_its_file(look: Look, settings: Settings, config: str) -> None:
    with pytest.raises(UsageError) as caught:
        look("vm", config + "\n")
    assert caught.value.code == "ssh_config_invalid"


# -- one reader alone ---------------------------------------------------------------------------------------------


@pytest.fixture
def only_ssh(settings: Settings) -> Settings:
    if not shutil.which("ssh"):
        pytest.skip("OpenSSH's client is not installed")
    return settings


def test_ssh_reads_include_and_match(only_ssh: Settings) -> None:
    settings = only_ssh
    write_config(settings, f"Include {settings.home}/more\nMatch originalhost vm\n Port 2222\n")
    (settings.home / "more").write_text("Host vm\n HostName 10.1.1.1\n")
    endpoint = lookup("vm", settings, deadline=Deadline(20))
    assert (endpoint.host, endpoint.port) == ("10.1.1.1", 2222)


def test_the_configuration_is_the_one_in_home_and_no_other(only_ssh: Settings) -> None:
    """``ssh`` itself would read the one in the account's home."""
    endpoint = lookup("vm", only_ssh, deadline=Deadline(20))
    assert isinstance(endpoint.trust, KnownHosts)
    assert endpoint.trust.files[0] == only_ssh.home / ".ssh" / "known_hosts"


def test_a_match_command_that_hangs_is_bounded(only_ssh: Settings) -> None:
    write_config(only_ssh, 'Match exec "exec sleep 30"\n Port 2222\n')
    started = time.monotonic()
    with pytest.raises(TimedOut):
        lookup("vm", only_ssh, deadline=Deadline(0.5))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("line", ["Include more", "  match all", "MATCH host x"])
def test_the_other_reader_says_what_it_cannot_read(settings: Settings, tmp_path: Path, line: str) -> None:
    write_config(settings, f"Host vm\n{line}\n")
    without = dataclasses.replace(settings, environ={**settings.environ, "PATH": str(tmp_path)})
    with pytest.raises(UsageError) as caught:
        lookup("vm", without, deadline=Deadline(20))
    assert caught.value.code == "ssh_config_unsupported"
    assert line.split()[0].lower() in caught.value.message.lower()


def test_an_ssh_that_fails_is_quoted_without_control_characters(settings: Settings, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nprintf 'bad \\033[31mthing\\n' >&2; exit 255\n")
    fake.chmod(stat.S_IRWXU)
    changed = dataclasses.replace(
        settings, environ={**settings.environ, "PATH": f"{fake.parent}{os.pathsep}{settings.environ['PATH']}"}
    )
    with pytest.raises(UsageError) as caught:
        lookup("vm", changed, deadline=Deadline(20))
    assert "bad" in caught.value.message
    assert "\x1b" not in caught.value.message


# -- certificates -------------------------------------------------------------------------------------------------


def test_certificates_find_their_keys(only_ssh: Settings, tmp_path: Path) -> None:
    tool = shutil.which("ssh-keygen")
    if not tool:
        pytest.skip("ssh-keygen is not installed")

    def keygen(*arguments: str) -> None:
        subprocess.run([tool, "-q", *arguments], check=True, capture_output=True)

    names = {"authority": "ed25519", "first": "ed25519", "second": "rsa", "third": "ecdsa"}
    for name, kind in names.items():
        keygen("-t", kind, "-N", "", "-f", str(tmp_path / name))
    for name in ("first", "second"):
        keygen("-s", str(tmp_path / "authority"), "-I", "x", "-n", "ada", str(tmp_path / f"{name}.pub"))
        (tmp_path / f"{name}-cert.pub").rename(tmp_path / f"signed-{name}")
    lines = [f" IdentityFile {tmp_path}/{name}" for name in ("first", "second", "third")]
    lines += [f" CertificateFile {tmp_path}/signed-{name}" for name in ("second", "first")]
    write_config(only_ssh, "\n".join(["Host vm", *lines]))
    found = [identity.certificate for identity in lookup("vm", only_ssh, deadline=Deadline(20)).identities]
    assert found == [tmp_path / "signed-first", tmp_path / "signed-second", None]
    # Without the public file there is nothing to compare, but one and one belong together.
    (tmp_path / "first.pub").unlink()
    write_config(only_ssh, f"Host vm\n IdentityFile {tmp_path}/first\n CertificateFile {tmp_path}/signed-first")
    identities = lookup("vm", only_ssh, deadline=Deadline(20)).identities
    assert identities == (Identity(tmp_path / "first", tmp_path / "signed-first"),)


@given(st.binary(), st.binary())
def test_no_bytes_make_the_comparison_raise(certificate: bytes, public: bytes) -> None:
    certifies(certificate, public)


@given(st.binary(min_size=1), st.binary(max_size=40))
def test_a_certificate_holds_its_keys_fields(fields: bytes, nonce: bytes) -> None:
    def string(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    public = string(b"ssh-x") + fields
    assert certifies(string(b"ssh-x-cert-v01@openssh.com") + string(nonce) + fields + b"more", public)
    assert not certifies(string(b"ssh-y-cert-v01@openssh.com") + string(nonce) + fields, public)
    assert not certifies(string(b"ssh-x-cert-v01@openssh.com") + string(nonce) + bytes([fields[0] ^ 1]), public)


def test_the_fingerprint_of_a_generated_key_is_one_that_lookup_takes(look: Look) -> None:
    _, public = keys.generate("")
    fingerprint = keys.fingerprint(keys.parse_public(public)[1])
    assert look("vm", host_key=fingerprint).trust == Fingerprint(fingerprint)
