"""Rows of the fault table: the machine can't be reached, or only by a detour."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.hints import CHECK_LOGIN, NO_FORWARDING
from tests.faults.other_servers import asyncssh, dropbear
from tests.faults.person import Outcome, Person
from tests.faults.table import fails, works
from tests.jupyter.machine import PATH_WITH_JUPYTER, Machine
from tests.openssh import StartSshd, prepare
from tests.ssh.peers import Serve, serving


@pytest.fixture
def unused_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose packets are dropped as a firewall does it: its queue of new connections is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = opened.enter_context(socket.socket())
            filler.settimeout(0.1)
            with suppress(TimeoutError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def relay_to(port: int, first: bytes) -> Serve:
    """Say ``first``, then be a way to that port."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve(client: socket.socket) -> None:
        client.sendall(first)
        with socket.create_connection(("127.0.0.1", port)) as server:
            up = threading.Thread(target=copy, args=(client, server))
            up.start()
            copy(server, client)
            up.join()

    return serve


def says(content: bytes) -> Serve:
    """Say that at once, and read until the client has gone."""

    def serve(client: socket.socket) -> None:
        client.sendall(content)
        while client.recv(65536):
            pass

    return serve


# -- nobody, or somebody else, is there ------------------------------------------------------------------------------


@fails("Its name does not exist", code="unknown_host", says="Check the name, and that this computer is online.")
def test_unknown_host(person: Person) -> Outcome:
    return person.connects("ada@no-such-machine.invalid")


@fails(
    "Nothing listens at its SSH port",
    code="connection_refused",
    says="The machine is up but no SSH server listens there: is the port right, has it finished booting?",
)
def test_refused(person: Person, unused_port: int) -> Outcome:
    return person.connects(f"ada@127.0.0.1:{unused_port}")


@fails(
    "A firewall drops what is sent to it, or it is off",
    code="unreachable",
    says="The machine may be off, or a firewall drops the packets.",
)
def test_filtered(person: Person) -> Outcome:
    with full_backlog() as port:
        return person.connects(f"ada@127.0.0.1:{port}", timeout=2)


@fails(
    "Its network can't be reached from here",
    code="unreachable",
    says="Check the address and the network of this computer.",
)
def test_no_route(person: Person) -> Outcome:
    return person.connects("ada@255.255.255.255")


@fails("Something else than an SSH server answers at that port", code="not_ssh", says="Is the port right?")
def test_not_ssh(person: Person) -> Outcome:
    with serving(says(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)) as port:
        return person.connects(f"ada@127.0.0.1:{port}")


@fails(
    "The port accepts connections and says nothing",
    code="timeout",
    says="Does an SSH server listen there? One that is overloaded or still booting may answer later.",
)
def test_silent(person: Person) -> Outcome:
    with serving(says(b"")) as port:
        return person.connects(f"ada@127.0.0.1:{port}", timeout=3)


@fails("The SSH server hangs up at once", code="not_ssh", says="Is the port right?")
def test_hangs_up(person: Person) -> Outcome:
    with serving(lambda client: None) as port:
        return person.connects(f"ada@127.0.0.1:{port}")


# -- SSH servers of other kinds --------------------------------------------------------------------------------------


@works("A gateway says something before the SSH server does")
def test_lines_before_ssh(person: Person, warm: Machine) -> Outcome:
    noise = "".join(f"Willkommen, Gerät {n}!\x1b[31m\r\n" for n in range(20)).encode()
    with serving(relay_to(warm.sshd.port, noise)) as port:
        return person.connects(person.knows(warm.sshd, Port=str(port), HostKeyAlias=f"[127.0.0.1]:{warm.sshd.port}"))


@fails(
    "Its SSH server is so old that it has only algorithms that are no longer safe",
    code="ssh_too_old",
    says="Update the SSH server on that machine.",
)
@pytest.mark.parametrize("old", [{"KexAlgorithms": "diffie-hellman-group14-sha1"}, {"Ciphers": "aes128-cbc"}])
def test_too_old(person: Person, start_sshd: StartSshd, old: dict[str, str]) -> Outcome:
    return person.connects(person.knows(start_sshd(**old)))


@works("Its SSH server is Dropbear")
def test_dropbear(person: Person, tmp_path: Path) -> Outcome:
    files = prepare(tmp_path / "dropbear")
    (files.home / ".profile").write_text(f"PATH={PATH_WITH_JUPYTER}\n")
    with dropbear(files) as (port, host_key):
        person.watches(files.home)
        person.trusts(f"[127.0.0.1]:{port}", host_key)
        person.configures("router", HostName="127.0.0.1", Port=str(port), IdentityFile=str(files.client_key))
        return person.connects("router")


@works("Its SSH server is AsyncSSH")
def test_asyncssh(person: Person, warm: Machine, tmp_path: Path) -> Outcome:
    files = prepare(tmp_path / "asyncssh")
    with asyncssh(files, warm.home, PATH_WITH_JUPYTER) as port:
        person.watches(warm.home)
        person.trusts(f"[127.0.0.1]:{port}", *files.host_keys)
        person.configures("embedded", HostName="127.0.0.1", Port=str(port), IdentityFile=str(files.client_key))
        return person.connects("embedded")


# -- by a detour -----------------------------------------------------------------------------------------------------


@works("It is reached by ProxyJump over two hops")
def test_two_hops(person: Person, warm: Machine, start_sshd: StartSshd) -> Outcome:
    person.knows(start_sshd(), "gate")
    person.knows(start_sshd(), "court", ProxyJump="gate")
    return person.connects(person.knows(warm.sshd, ProxyJump="court"))


@fails(
    "Its jump host can't reach it",
    code="unreachable",
    says="See whether the machine is up, and whether the jump host knows and reaches it under that name.",
)
def test_jump_host_without_a_way(person: Person, start_sshd: StartSshd, unused_port: int) -> Outcome:
    person.knows(start_sshd(), "gate")
    return person.connects(person.configures("inner", HostName="127.0.0.1", Port=str(unused_port), ProxyJump="gate"))


@fails(
    "Its jump host may not forward",
    code="forwarding_forbidden",
    says=NO_FORWARDING,
)
def test_jump_host_that_may_not(person: Person, start_sshd: StartSshd, warm: Machine) -> Outcome:
    person.knows(start_sshd(AllowTcpForwarding="no"), "gate")
    return person.connects(person.knows(warm.sshd, ProxyJump="gate"))


@fails("Its jump host refuses the login", code="authentication_failed", says=CHECK_LOGIN)
def test_jump_host_refuses(person: Person, start_sshd: StartSshd, warm: Machine) -> Outcome:
    person.knows(start_sshd(AuthorizedKeysFile="none"), "gate")
    outcome = person.connects(person.knows(warm.sshd, ProxyJump="gate"))
    assert outcome.message.startswith("At the jump host ")
    return outcome


@fails(
    "ProxyJump leads back to itself",
    code="ssh_config_unsupported",
    says="Give the jump host a ProxyJump of none in ssh_config.",
    status=2,
)
def test_jumps_in_circles(person: Person) -> Outcome:
    person.configures("one", ProxyJump="two")
    return person.connects(person.configures("two", ProxyJump="one"))


@fails("Its ProxyCommand dies", code="proxy_command_failed", says="Check ProxyCommand in your ssh_config.")
@pytest.mark.parametrize("command", ["echo no tunnel today >&2; exit 3", "sleep 0.3", "kill -9 $$", "/no/such/program"])
def test_proxy_command_dies(person: Person, warm: Machine, command: str) -> Outcome:
    return person.connects(person.knows(warm.sshd, ProxyCommand=command), timeout=10)


@works("It has an IPv6 address only")
def test_ipv6_only(person: Person, start_sshd: StartSshd) -> Outcome:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this computer has no IPv6")
    sshd = start_sshd(environment={"PATH": PATH_WITH_JUPYTER}, ListenAddress="::1")
    person.trusts(f"[::1]:{sshd.port}", *sshd.files.host_keys)
    return person.connects(person.knows(sshd, HostName="::1"))
