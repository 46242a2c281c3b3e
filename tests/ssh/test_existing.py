"""The provider ``ssh``, and the choice of a provider."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from remote_runtime import keys, ssh
from remote_runtime._threads import Deadline
from remote_runtime.errors import HostKeyError, InstanceError, UsageError
from remote_runtime.events import Event
from remote_runtime.model import Fingerprint, InstanceSpec, KnownHosts
from remote_runtime.providers import Provider, load_provider
from remote_runtime.settings import Settings
from remote_runtime.ssh.config import lookup
from tests.openssh import USER, Sshd, StartSshd

SECONDS = 60.0


def quiet(event: Event) -> None:
    """Nobody listens."""


@pytest.fixture
def provider(settings: Settings) -> Provider:
    return load_provider("ssh", settings, lookup=lookup)


def write_config(settings: Settings, text: str) -> None:
    (settings.home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (settings.home / ".ssh" / "config").write_text(text)


def known_line(server: Sshd, name: str) -> str:
    return f"{name} {server.files.host_keys[0]}\n"


def run(provider: Provider, name: str, ask: Callable[[str, bool], str] | None = None) -> list[bytes]:
    endpoint = provider.ensure(name, Deadline(SECONDS), quiet).resolve(Deadline(SECONDS))
    with (
        ssh.connect(endpoint, ask=ask, on_event=quiet, deadline=Deadline(SECONDS)) as connection,
        connection.execute("echo here", Deadline(SECONDS)) as process,
    ):
        return list(process.lines())


def test_an_instance_reads_ssh_config_anew_each_time(provider: Provider, settings: Settings) -> None:
    write_config(settings, "Host trainer\n HostName 10.0.0.1\n")
    instance = provider.ensure("trainer", Deadline(SECONDS), quiet)
    assert (instance.name, instance.provider, instance.state) == ("trainer", "ssh", "unknown")
    assert instance.resolve(Deadline(SECONDS)).host == "10.0.0.1"
    write_config(settings, "Host trainer\n HostName 10.0.0.2\n")
    assert instance.resolve(Deadline(SECONDS)).host == "10.0.0.2"


def test_options_are_bound_to_the_lookup(settings: Settings) -> None:
    bound = partial(lookup, user="ada", host_key="SHA256:" + "A" * 43)
    instance = load_provider("ssh", settings, lookup=bound).find("vm:2222")
    assert instance
    endpoint = instance.resolve(Deadline(SECONDS))
    assert (endpoint.user, endpoint.port, endpoint.trust) == ("ada", 2222, Fingerprint("SHA256:" + "A" * 43))


def test_a_login_by_ssh_config_and_known_hosts(provider: Provider, settings: Settings, sshd: Sshd) -> None:
    write_config(
        settings,
        f"Host trainer\n HostName 127.0.0.1\n Port {sshd.port}\n User {USER}\n IdentityFile {sshd.files.client_key}\n",
    )
    known = settings.home / ".ssh" / "known_hosts"
    with pytest.raises(HostKeyError) as caught:
        run(provider, "trainer")
    assert caught.value.code == "host_key_unknown"
    known.write_text(known_line(sshd, f"[127.0.0.1]:{sshd.port}"))
    assert run(provider, "trainer") == [b"here"]


def test_a_yes_is_asked_for_once(provider: Provider, settings: Settings, sshd: Sshd) -> None:
    write_config(settings, f"IdentityFile {sshd.files.client_key}\n")
    asked: list[str] = []

    def yes(prompt: str, echo: bool) -> str:
        asked.append(prompt)
        return "yes"

    target = f"{USER}@127.0.0.1:{sshd.port}"
    assert run(provider, target, yes) == [b"here"]
    assert run(provider, target) == [b"here"]
    assert len(asked) == 1
    assert keys.fingerprint(keys.parse_public(sshd.files.host_keys[0])[1]) in asked[0]
    assert not (settings.home / ".ssh" / "known_hosts").exists()


def test_the_known_type_of_key_is_asked_for_first(
    provider: Provider, settings: Settings, start_sshd: StartSshd
) -> None:
    server = start_sshd(host_keys=("ed25519", "rsa", "ecdsa"))
    write_config(settings, f"IdentityFile {server.files.client_key}\n")
    known = settings.home / ".ssh" / "known_hosts"
    for line in server.files.host_keys:
        known.write_text(f"[127.0.0.1]:{server.port} {line}\n")
        assert run(provider, f"{USER}@127.0.0.1:{server.port}") == [b"here"], line


def test_by_way_of_a_jump_host(provider: Provider, settings: Settings, start_sshd: StartSshd) -> None:
    gate, inner = start_sshd(), start_sshd()
    known = settings.home / "known"
    known.write_text(known_line(gate, f"[127.0.0.1]:{gate.port}") + known_line(inner, "inner-key"))
    write_config(
        settings,
        f"Host gate\n HostName 127.0.0.1\n Port {gate.port}\n IdentityFile {gate.files.client_key}\n"
        f"Host inner\n HostName 127.0.0.1\n Port {inner.port}\n IdentityFile {inner.files.client_key}\n"
        " ProxyJump gate\n HostKeyAlias inner-key\n"
        f"Host *\n User {USER}\n UserKnownHostsFile {known}\n",
    )
    assert run(provider, "inner") == [b"here"]
    assert gate.log.count("Accepted publickey") == inner.log.count("Accepted publickey") == 1


def test_by_a_proxy_command(provider: Provider, settings: Settings, sshd: Sshd, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "peer = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def back():\n"
        "    while chunk := peer.recv(65536):\n"
        "        os.write(1, chunk)\n"
        "threading.Thread(target=back, daemon=True).start()\n"
        "while chunk := os.read(0, 65536):\n"
        "    peer.sendall(chunk)\n"
    )
    (settings.home / "known").write_text(known_line(sshd, f"[vm.invalid]:{sshd.port}"))
    write_config(
        settings,
        f"Host vm\n HostName vm.invalid\n Port {sshd.port}\n User {USER}\n IdentityFile {sshd.files.client_key}\n"
        f" ProxyCommand {sys.executable} {relay} %p\n UserKnownHostsFile ~/known\n StrictHostKeyChecking yes\n",
    )
    assert run(provider, "vm") == [b"here"]


@pytest.mark.parametrize(
    "do",
    [
        lambda provider: provider.create(InstanceSpec("vm"), Deadline(SECONDS), lambda _: None),
        lambda provider: provider.start("vm", Deadline(SECONDS), lambda _: None),
        lambda provider: provider.stop("vm", Deadline(SECONDS)),
        lambda provider: provider.delete("vm", Deadline(SECONDS)),
    ],
    ids=["create", "start", "stop", "delete"],
)
def test_what_it_cannot_do_is_said(provider: Provider, do: Callable[[Provider], object]) -> None:
    with pytest.raises(InstanceError) as caught:
        do(provider)
    assert caught.value.code == "not_supported"
    assert caught.value.hint
    assert provider.list() == []


def test_the_state_of_a_target_that_is_none_shows_when_it_is_used(provider: Provider) -> None:
    with pytest.raises(UsageError) as caught:
        provider.ensure("-oProxyCommand=id", Deadline(SECONDS), quiet).resolve(Deadline(SECONDS))
    assert caught.value.code == "bad_target"


def test_providers_by_name(settings: Settings) -> None:
    assert load_provider("sandbox", settings, lookup=lookup).name == "sandbox"
    assert load_provider("gce", settings, lookup=lookup).name == "gce"
    with pytest.raises(UsageError) as unknown:
        load_provider("sandbax", settings, lookup=lookup)
    assert "sandbox" in unknown.value.hint
    with pytest.raises(UsageError) as far:
        load_provider("zzz", settings, lookup=lookup)
    assert "ssh" in far.value.hint


def test_our_own_file_is_where_new_keys_go(provider: Provider, settings: Settings) -> None:
    endpoint = provider.ensure("vm", Deadline(SECONDS), quiet).resolve(Deadline(SECONDS))
    assert isinstance(endpoint.trust, KnownHosts)
    assert endpoint.trust.accepted == settings.state_dir / "known_hosts"
