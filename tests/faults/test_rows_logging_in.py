"""Rows of the fault table: the machine is reached, and does not let its user in, or is not the one that it was."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remote_runtime import keys
from tests.faults.hints import CHECK_LOGIN, ENDED_LOGIN
from tests.faults.person import Outcome, Person
from tests.faults.rough import StartRough
from tests.faults.table import fails, works
from tests.jupyter.machine import Machine
from tests.openssh import USER, Sshd, StartSshd
from tests.tools import need


def make_key(path: Path, passphrase: str = "") -> Path:
    """A new key for a login; its public half is beside it."""
    program = need("ssh-keygen", "openssh-client")
    subprocess.run([program, "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


def admits(start_sshd: StartSshd, key: Path, **options: str) -> Sshd:
    """A machine that lets this key in, and no other."""
    return start_sshd(AuthorizedKeysFile=f"{key}.pub", **options)


def another_key() -> str:
    """The public line of a key that nobody here has."""
    return " ".join(keys.generate("another")[1].split()[:2])


# -- who logs in -------------------------------------------------------------------------------------------------------


@fails("The user name is wrong", code="authentication_failed", says=CHECK_LOGIN)
def test_wrong_user(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(person.knows(sshd, User="no-such-user"))


@fails("The machine does not have your public key", code="authentication_failed", says=CHECK_LOGIN)
def test_wrong_key(person: Person, sshd: Sshd, tmp_path: Path) -> Outcome:
    return person.connects(person.knows(sshd, IdentityFile=str(make_key(tmp_path / "key"))))


@fails(
    "You have no key",
    code="authentication_failed",
    says="No key could be offered: name one by IdentityFile in ssh_config, or load it with ssh-add.",
)
def test_no_key(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(person.knows(sshd, IdentityFile="", IdentitiesOnly=""))


@fails(
    "The key file is missing",
    code="authentication_failed",
    says="No key could be offered: name one by IdentityFile in ssh_config, or load it with ssh-add.",
)
def test_missing_key(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(person.knows(sshd, IdentityFile="~/.ssh/gone"))


@fails(
    "The key file is damaged",
    code="authentication_failed",
    says="No key could be offered: name one by IdentityFile in ssh_config, or load it with ssh-add.",
)
def test_damaged_key(person: Person, sshd: Sshd, tmp_path: Path) -> Outcome:
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    return person.connects(person.knows(sshd, IdentityFile=str(tmp_path / "key")))


@works("Other users can read your key file", says="Other users of this computer can read the key")
def test_key_with_open_permissions(person: Person, warm: Machine, tmp_path: Path) -> Outcome:
    copy = tmp_path / "key"
    copy.write_bytes(warm.sshd.files.client_key.read_bytes())
    copy.chmod(0o644)
    return person.connects(person.knows(warm.sshd, IdentityFile=str(copy)))


@fails(
    "Your key has a passphrase, and there is no terminal",
    code="authentication_failed",
    says="Unlock the key for all programs with ssh-add, or connect in a terminal, where you are asked for it.",
)
def test_encrypted_key_without_a_terminal(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    key = make_key(tmp_path / "key", "correct horse")
    return person.connects(person.knows(admits(start_sshd, key), IdentityFile=str(key)))


@fails(
    "The passphrase was wrong three times",
    code="authentication_failed",
    says="Connect again with the right passphrase: ssh-keygen -y -f and the key's file tell whether it is.",
)
def test_wrong_passphrase(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    key = make_key(tmp_path / "key", "correct horse")
    alias = person.knows(admits(start_sshd, key), IdentityFile=str(key))
    return person.answers(alias, *[("Passphrase for", word) for word in ("battery", "staple", "donkey")])


@contextmanager
def agent_with(tmp_path: Path, number: int) -> Iterator[str]:
    """The address of an agent that holds that many keys."""
    address = tmp_path / "agent"
    program = need("ssh-agent", "openssh-client")
    with subprocess.Popen([program, "-D", "-a", address], stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout
            agent.stdout.readline()  # it listens
            for count in range(number):
                key = make_key(tmp_path / f"held-{count}")
                subprocess.run(["ssh-add", "-q", key], check=True, env={"SSH_AUTH_SOCK": str(address)})
            yield str(address)
        finally:
            agent.terminate()


@fails(
    "Your agent offers so many keys that the server hangs up",
    code="authentication_failed",
    says="Name the right one in ssh_config: IdentityFile, IdentitiesOnly yes.",
)
def test_too_many_keys(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    alias = person.knows(start_sshd(MaxAuthTries="3"), IdentitiesOnly="no", IdentityFile="none")
    with agent_with(tmp_path, 5) as address:
        return person.connects(alias, SSH_AUTH_SOCK=address)


@works("Your agent does not answer")
def test_silent_agent(person: Person, warm: Machine, tmp_path: Path) -> Outcome:
    return person.connects(person.knows(warm.sshd, IdentityAgent=str(tmp_path / "no-agent")))


def certify(tmp_path: Path, validity: str) -> Path:
    """A key with a certificate of the authority ``tmp_path / "authority"``."""
    make_key(tmp_path / "authority")
    key = make_key(tmp_path / "key")
    sign = ["ssh-keygen", "-q", "-s", tmp_path / "authority", "-I", "id", "-n", USER, "-V", validity, f"{key}.pub"]
    subprocess.run(sign, check=True)
    return key


@fails("Your certificate has expired", code="authentication_failed", says="Get a new certificate for that key.")
def test_expired_certificate(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    key = certify(tmp_path, "20200101:20200201")
    sshd = start_sshd(AuthorizedKeysFile="none", TrustedUserCAKeys=str(tmp_path / "authority.pub"))
    return person.connects(person.knows(sshd, IdentityFile=str(key)))


@fails(
    "It wants a password besides your key, or a code, and there is no terminal",
    code="authentication_failed",
    says="It asks for a password or a code: connect in a terminal, where you can answer.",
)
def test_second_factor_without_a_terminal(person: Person, start_sshd: StartSshd) -> Outcome:
    sshd = start_sshd(AuthenticationMethods="publickey,password", PasswordAuthentication="yes")
    return person.connects(person.knows(sshd))


@fails(
    "It wants a password, and there is no terminal",
    code="authentication_failed",
    says="If it has to be a password, connect in a terminal.",
)
def test_password_without_a_terminal(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    sshd = start_sshd(AuthorizedKeysFile="none", PasswordAuthentication="yes")
    return person.connects(person.knows(sshd))


# -- the account -------------------------------------------------------------------------------------------------------


@fails("The account is locked", code="authentication_failed", says=CHECK_LOGIN)
def test_locked_account(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(rough(account="ada", password="!"), User="ada"))


@fails(
    "The account's shell is nologin",
    code="guest_failed",
    says=ENDED_LOGIN,
)
def test_nologin(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(rough(account="ada", shell="nologin"), User="ada"))


@fails("The account's shell does not exist", code="authentication_failed", says=CHECK_LOGIN)
def test_no_such_shell(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(rough(account="ada", shell="/bin/zzsh"), User="ada"))


@fails(
    "The login may run one command only",
    code="guest_failed",
    says=ENDED_LOGIN,
)
@pytest.mark.parametrize("forced", ["echo 'This login is for backups.'", "internal-sftp", "/bin/false"])
def test_forced_command(person: Person, start_sshd: StartSshd, forced: str) -> Outcome:
    return person.connects(person.knows(start_sshd(ForceCommand=forced)))


# -- the host key ------------------------------------------------------------------------------------------------------


def known_hosts(person: Person, sshd: Sshd, *lines: str) -> str:
    """An entry for that server, with these lines of known_hosts only; ``{name}`` and ``{key}`` are its own."""
    alias = person.knows(sshd)
    name, key = f"[127.0.0.1]:{sshd.port}", sshd.files.host_keys[0]
    text = "".join(line.format(name=name, key=key) + "\n" for line in lines)
    (person.home / ".ssh" / "known_hosts").write_text(text)
    return alias


@fails(
    "Its host key is not known here, and there is no terminal",
    code="host_key_unknown",
    says=("If the machine's owner confirms that fingerprint: --host-key SHA256:"),
)
def test_unknown_host_key(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(known_hosts(person, sshd))


@works("Its host key is not known here, and --host-key names it")
def test_vouched_host_key(person: Person, warm: Machine) -> Outcome:
    fingerprint = keys.fingerprint(keys.parse_public(warm.sshd.files.host_keys[0])[1])
    return person.connects(known_hosts(person, warm.sshd), "--host-key", fingerprint)


@fails(
    "Its host key is not the one that --host-key names",
    code="host_key_changed",
    says="Check the fingerprint with the machine's owner; a machine has one for each type of key.",
)
def test_wrongly_vouched_host_key(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(known_hosts(person, sshd), "--host-key", "SHA256:" + "A" * 43)


@fails("Its host key has changed", code="host_key_changed", says="Somebody may be in the middle.")
def test_changed_host_key(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(known_hosts(person, sshd, f"{{name}} {another_key()}"))


@fails(
    "Its host key is revoked",
    code="host_key_revoked",
    says="Don't trust this server: give it a new host key, or ask its owner.",
)
def test_revoked_host_key(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(known_hosts(person, sshd, "@revoked * {key}", "{name} {key}"))


@fails(
    "Its host key is vouched for by a certificate authority alone",
    code="host_key_unknown",
    says="Lines with @cert-authority in known_hosts are not used here",
)
def test_host_key_of_an_authority(person: Person, sshd: Sshd) -> Outcome:
    return person.connects(known_hosts(person, sshd, f"@cert-authority * {another_key()}"))


@works("known_hosts has comments, hashed names, @cert-authority and broken lines")
@pytest.mark.parametrize("hashed", [False, True])
def test_rough_known_hosts(person: Person, warm: Machine, hashed: bool) -> Outcome:
    alias = known_hosts(
        person,
        warm.sshd,
        "# machines of the laboratory",
        "",
        f"@cert-authority *.example.com {another_key()}",
        "@marker-of-tomorrow * {key}",
        "this line is broken",
        "{name} ssh-ed25519 not/base64!",
        "{name} ssh-dss AAAAB3NzaC1kc3MAAACBAOld",
        "\x00\xff\x1b[31m",
        "elsewhere,{name} {key} ada@trainer, since 2019",
    )
    if hashed:
        file = person.home / ".ssh" / "known_hosts"
        subprocess.run(["ssh-keygen", "-H", "-f", file], capture_output=True, check=False)
        file.with_suffix(".old").unlink(missing_ok=True)
    return person.connects(alias)


@fails(
    "The login takes longer than --timeout", code="timeout", says="Try again, or give it longer with --timeout SECONDS."
)
def test_slow_login(person: Person, rough: StartRough) -> Outcome:
    sshd = rough(account="ada", AuthorizedKeysCommand="/bin/sleep 60")
    return person.connects(person.knows(sshd, User="ada"), timeout=3)
