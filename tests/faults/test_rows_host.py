"""Rows of the fault table: what can be wrong with this computer, where the command runs."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from remote_runtime.store import Store
from tests.cli.conftest import Running
from tests.faults.person import Outcome, Person
from tests.faults.rough import entering
from tests.faults.table import fails, works
from tests.jupyter.machine import PATH_WITH_JUPYTER, Machine
from tests.netlab import StartNetlab
from tests.openssh import StartSshd
from tests.tools import need


@pytest.fixture
def alias(person: Person, machine: Machine) -> str:
    """A machine with Jupyter, which is the same for all rows of this module, as the person knows it."""
    return person.knows(machine.sshd)


@pytest.fixture
def as_root() -> None:
    """Skip what only root can take away from itself."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("needs root, to take rights away")


def without(capability: str) -> tuple[str, ...]:
    """The command that runs another one as root without one of root's rights."""
    return (need("setpriv", "util-linux"), "--inh-caps=-all", f"--bounding-set=-{capability}")


# -- ports -----------------------------------------------------------------------------------------------------------


@fails(
    "The port given with --port is in use",
    code="port_in_use",
    says="Choose another one with --port N, or let us choose: --port auto",
)
def test_port_in_use(person: Person, alias: str) -> Outcome:
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = person.connects(alias, "--port", str(other.getsockname()[1]))
    assert f"(process {os.getpid()})" in outcome.message
    return outcome


@works("The port of the last time is in use", says="if it is not yours, connect again with --new-token")
def test_last_port_in_use(person: Person, alias: str) -> Outcome:
    first = person.connects(alias)
    store = Store(person.settings.state_dir)
    [name] = store.names()
    kept = store.load(*name)
    assert kept is not None
    assert first.ready
    with socket.create_server(("127.0.0.1", kept.local_port)):
        return person.connects(alias)


@pytest.mark.usefixtures("as_root")
@fails("The port given with --port needs root", code="port_forbidden", says="choose a higher one with --port")
def test_privileged_port(person: Person, alias: str) -> Outcome:
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() != "1024":
        pytest.skip("every account may use every port here")
    person.through = without("net_bind_service")
    return person.connects(alias, "--port", "1023")


@pytest.mark.netns
@works("It has no IPv6")
def test_no_ipv6(person: Person, start_sshd: StartSshd, netlab: StartNetlab) -> Outcome:
    with netlab() as lab, lab.near.in_namespace():
        for device in ("all", "lo"):
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
        with pytest.raises(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
        return person.connects(person.knows(start_sshd(environment={"PATH": PATH_WITH_JUPYTER})))


# -- what is remembered ------------------------------------------------------------------------------------------------


def kept_file(person: Person) -> Path:
    """The file in which the one machine is remembered."""
    [path] = (person.settings.state_dir / "machines").glob("*/machine.json")
    return path


@fails(
    "The state of a machine is damaged",
    code="state_damaged",
    says="Remove that file: the machine is asked again, at the price of a new local port.",
)
def test_damaged_state(person: Person, alias: str) -> Outcome:
    assert person.connects(alias).ready
    kept_file(person).write_bytes(kept_file(person).read_bytes()[:40])
    outcome = person.connects(alias)
    assert str(kept_file(person)) in outcome.message
    kept_file(person).unlink()
    assert person.connects(alias).ready, "the cure does not cure"
    return outcome


@works("The state was written by another version")
def test_state_of_another_version(person: Person, alias: str) -> Outcome:
    first = person.connects(alias)
    kept = json.loads(kept_file(person).read_text())
    del kept["server_pid"]
    kept_file(person).write_text(json.dumps({**kept, "of_the_future": {"a": [1]}}))
    outcome = person.connects(alias)
    assert outcome.token == first.token
    return outcome


@pytest.mark.usefixtures("as_root")
@fails(
    "The directory for its state is read-only",
    code="state_unusable",
    says="Check the directory's owner, mode and free space, or set REMOTE_RUNTIME_HOME to another one.",
)
def test_read_only_state(person: Person, alias: str) -> Outcome:
    assert person.connects(alias).ready
    person.through = without("dac_override")
    for path in kept_file(person).parent.iterdir():
        path.chmod(0o400)
    kept_file(person).parent.chmod(0o500)
    assert person.runs("status", alias).code == "state_unusable"
    outcome = person.connects(alias)
    kept_file(person).parent.chmod(0o700)
    return outcome


@pytest.mark.usefixtures("as_root")
@fails(
    "The disk with its state is full",
    code="state_unusable",
    says="Check the directory's owner, mode and free space, or set REMOTE_RUNTIME_HOME to another one.",
)
def test_full_state(person: Person, alias: str) -> Outcome:
    """As full as can be: of its few kilobytes one file has taken all."""
    place = str(person.settings.state_dir.parent)
    full = entering([("-t", "tmpfs", "-o", "size=8k,nr_inodes=20", "tmpfs", place)])
    fill = ("sh", "-c", f'cat /dev/zero >"{place}/full" 2>/dev/null; exec "$@"', "sh")
    person.through = (*full, *fill)
    return person.connects(alias)


@fails("It is connected already", code="already_connected", says="Use its URL.")
def test_already_connected(person: Person, alias: str, tmp_path: Path) -> Outcome:
    with Running(tmp_path / "first", "connect", "--provider", "ssh", alias, "--port", "auto") as first:
        first.until("http://")
        outcome = person.connects(alias)
        assert first.out.strip() in outcome.told
        assert "To end only that connection, end process" in outcome.hint
    return outcome


# -- limits ------------------------------------------------------------------------------------------------------------


@works("The command may have no more than 64 files open, and has a hundred clients")
def test_few_files(person: Person, alias: str) -> Outcome:
    person.through = (need("prlimit", "util-linux"), "--nofile=64:64")
    return person.connects(alias, clients=100)


# -- terminals and locales ---------------------------------------------------------------------------------------------


@works("Its locale is not UTF-8")
def test_locale(person: Person, alias: str) -> Outcome:
    return person.connects(alias, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="latin-1")


@works("TERM is dumb, or NO_COLOR is set")
def test_dumb(person: Person, alias: str) -> Outcome:
    return person.connects(alias, TERM="dumb", NO_COLOR="1")
