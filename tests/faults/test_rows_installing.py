"""Rows of the fault table: Jupyter has to be put on the machine, or the one that is there can't be used."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.guest.install import describe_target
from remote_runtime.wheelhouse import wheels_for
from tests.cli.conftest import Running
from tests.faults.other_pythons import (
    SYSTEM_PATH,
    commands_of,
    make_bare_python,
    make_empty_environment,
    make_environment,
    with_path,
)
from tests.faults.person import Outcome, Person
from tests.faults.rough import StartRough
from tests.faults.table import fails, works
from tests.jupyter.packages import LocalIndex, make_authority, nowhere, serving
from tests.openssh import Sshd, StartSshd

INSTALL_SECONDS = 120.0


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All that an installation needs, for the system's Python."""
    system = shutil.which("python3", path=SYSTEM_PATH)
    if system is None:
        pytest.skip("this system has no python3 of its own")
    target = describe_target(system)
    return wheels_for(
        target, ui="none", cache_dir=tmp_path_factory.mktemp("wheels"), say=print, deadline=Deadline(INSTALL_SECONDS)
    )


@pytest.fixture
def index(wheels: list[Path]) -> Iterator[LocalIndex]:
    """A package index that has them."""
    with serving() as local:
        local.add(*wheels)
        yield local


def using(index: str, **options: str) -> dict[str, str]:
    """The environment of a machine, or of a person, that knows this package index alone."""
    named = {"INDEX_URL": index, "CONFIG_FILE": os.devnull, "FIND_LINKS": "", "RETRIES": "0", **options}
    return {f"PIP_{name}": value for name, value in named.items()}


def installs(person: Person, sshd: Sshd, *, seconds: float = INSTALL_SECONDS, **environment: str) -> Outcome:
    """What comes of a connect that may have to install Jupyter there."""
    return person.connects(person.knows(sshd), "--ui", "none", timeout=seconds, **environment)


@pytest.mark.egress
@works("It has no Jupyter, and its Python neither venv nor ensurepip nor pip", says="Installed")
def test_bare_python(person: Person, start_sshd: StartSshd, index: LocalIndex, tmp_path: Path) -> Outcome:
    there = make_bare_python(tmp_path / "bare").parent
    return installs(person, with_path(start_sshd, there, **using(index.url)))


@pytest.mark.egress
@works("It reaches its package index through a proxy alone", says="Installed")
def test_proxy(person: Person, start_sshd: StartSshd, index: LocalIndex) -> Outcome:
    proxy = index.url.removesuffix("/simple")
    environment = using("http://index.invalid/simple", PROXY=proxy, TRUSTED_HOST="index.invalid")
    return installs(person, with_path(start_sshd, **environment))


@pytest.mark.egress
@works("Its package index has a certificate that pip's configuration names", says="Installed")
def test_certificate(person: Person, start_sshd: StartSshd, wheels: list[Path], tmp_path: Path) -> Outcome:
    certificate, context = make_authority(tmp_path)
    with serving(context) as index:
        index.add(*wheels)
        return installs(person, with_path(start_sshd, **using(index.url, CERT=str(certificate))))


@fails(
    "Its package index has a certificate that nobody vouches for",
    code="install_certificate",
    says=(
        "Put the certificate authority of your network into the VM's trust store, or name its file as `cert` "
        "in /etc/pip.conf there."
    ),
)
def test_unknown_certificate(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    _, context = make_authority(tmp_path)
    with serving(context) as index:
        return installs(person, with_path(start_sshd, **using(index.url)), seconds=60, **using(nowhere()))


@pytest.mark.egress
@works("It reaches no package index, but this computer does", says="Fetching")
def test_no_egress(person: Person, start_sshd: StartSshd, index: LocalIndex) -> Outcome:
    return installs(person, with_path(start_sshd, **using(nowhere())), **using(index.url))


@fails(
    "Neither it nor this computer reaches a package index",
    code="install_no_egress",
    says=(
        "Give the VM a way to a package index (Cloud NAT, a proxy, or a mirror named in /etc/pip.conf), or "
        "let the machine that you connect from reach one."
    ),
)
def test_no_egress_at_all(person: Person, start_sshd: StartSshd) -> Outcome:
    return installs(person, with_path(start_sshd, **using(nowhere())), seconds=60, **using(nowhere()))


@fails(
    "Its package index refuses",
    code="install_index_refused",
    says="See whether `pip download pip` works on the VM, and correct the index in pip's configuration there.",
)
def test_index_refuses(person: Person, start_sshd: StartSshd) -> Outcome:
    with serving() as index:
        index.answers["/"] = 403
        return installs(person, with_path(start_sshd, **using(index.url)), seconds=60, **using(nowhere()))


@pytest.mark.egress
@fails(
    "Its disk is full while Jupyter is installed",
    code="install_disk_full",
    says="Free some space in the home directory on the VM (about 400 MB are needed), then connect again.",
)
def test_full_disk(person: Person, rough: StartRough, index: LocalIndex) -> Outcome:
    size = ("-t", "tmpfs", "-o", "size=50m,mode=700", "tmpfs", "/home")
    sshd = rough(size, environment={"PATH": SYSTEM_PATH, "HOME": "/home", **using(index.url)})
    return installs(person, sshd)


@pytest.mark.egress
@works("It went down while Jupyter was installed, and is back", says="Installed")
def test_killed_installation(person: Person, start_sshd: StartSshd, index: LocalIndex) -> Outcome:
    sshd = with_path(start_sshd, **using(index.url))
    alias = person.knows(sshd)
    index.answers["/files/jupyter_server"] = 0
    argv = ("connect", "--provider", "ssh", alias, "--ui", "none", "--json")
    with Running(sshd.files.directory / "first", *argv) as first:
        first.until("Resolved")
        sshd.stop()
    index.answers.clear()
    sshd.start()
    return person.connects(alias, "--ui", "none", timeout=INSTALL_SECONDS)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environment of ours is kept that one row had made, for those that would make the same."""
    return tmp_path_factory.mktemp("environments")


def falls_back(person: Person, sshd: Sshd, environments: Path) -> Outcome:
    """What comes of a connect to a machine whose Jupyter is not to be used."""
    made = sshd.home / ".remote-runtime" / "env"
    made.mkdir(parents=True, mode=0o700)
    for kept in environments.iterdir():
        (made / kept.name).symlink_to(kept)
    outcome = installs(person, sshd)
    for new in made.iterdir():
        if not new.is_symlink() and new.name != "tools":
            new.rename(environments / new.name)
    # Ours alone, however often: another program may take the port that it was to have.
    assert len(set(re.findall(r"Starting Jupyter Server (\S+)", outcome.told))) == 1 or "is broken" in outcome.told
    return outcome


@pytest.mark.egress
@works("Its Jupyter Server is older than 2", says="is too old")
def test_old_jupyter(
    person: Person, start_sshd: StartSshd, index: LocalIndex, environments: Path, tmp_path: Path
) -> Outcome:
    make_empty_environment(tmp_path / "there", "jupyter_server==1.24.0")
    sshd = with_path(start_sshd, commands_of(tmp_path / "there"), **using(index.url))
    return falls_back(person, sshd, environments)


@pytest.mark.egress
@works("Its Jupyter is the classic Notebook 6")
def test_classic_notebook(
    person: Person, start_sshd: StartSshd, index: LocalIndex, environments: Path, tmp_path: Path
) -> Outcome:
    make_empty_environment(tmp_path / "there", "notebook==6.4.13")
    sshd = with_path(start_sshd, commands_of(tmp_path / "there"), **using(index.url))
    return falls_back(person, sshd, environments)


@pytest.mark.egress
@works("Its Jupyter is broken: a package is missing", says="is broken, so it is left alone")
def test_broken_jupyter(
    person: Person, start_sshd: StartSshd, index: LocalIndex, environments: Path, tmp_path: Path
) -> Outcome:
    make_environment(tmp_path / "there", without=("tornado",))
    sshd = with_path(start_sshd, commands_of(tmp_path / "there"), **using(index.url))
    return falls_back(person, sshd, environments)
