"""Rows of the fault table: the machine's Python, and the Jupyter that is there or is to be put there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from remote_runtime._threads import Deadline
from remote_runtime.processes import end
from tests.faults.other_pythons import install, make_environment, with_path
from tests.faults.person import Outcome, Person
from tests.faults.table import fails, works
from tests.openssh import Sshd, StartSshd
from tests.pythons import python
from tests.tools import need

# -- Python ----------------------------------------------------------------------------------------------------------


@fails(
    "It has no python3",
    code="guest_python_missing",
    says="Install Python 3.8 or newer there (on Debian: sudo apt-get install python3).",
)
def test_no_python(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    return person.connects(person.knows(start_sshd(environment={"PATH": str(tmp_path / "nothing")})))


@fails(
    "Its python3 is older than 3.8",
    code="guest_python_too_old",
    says="Install Python 3.8 or newer there, so that `python3` starts it.",
)
def test_old_python(person: Person, start_sshd: StartSshd) -> Outcome:
    outcome = person.connects(person.knows(with_path(start_sshd, python("3.7").parent)))
    assert "3.7." in outcome.message
    return outcome


def python3(version: str, directory: Path) -> Path:
    """A directory in which ``python3`` is of that version."""
    directory.mkdir()
    (directory / "python3").symlink_to(python(version))
    return directory


@works("Its python3 is 3.8")
def test_python_3_8(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    found = python3("3.8", tmp_path / "first")
    return person.connects(person.knows(with_path(start_sshd, found, Path(sys.executable).parent)))


@works("Its python3 is 3.13")
def test_python_3_13(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    found = python3("3.13", tmp_path / "first")
    return person.connects(person.knows(with_path(start_sshd, found, Path(sys.executable).parent)))


# -- a Jupyter that is there -----------------------------------------------------------------------------------------


@works("Jupyter is in a conda environment that no command of SSH sees", says="miniconda3/bin/python")
def test_conda(person: Person, start_sshd: StartSshd) -> Outcome:
    """A conda installation's layout; what activates it stands where only an interactive shell reads it."""
    sshd = with_path(start_sshd)
    make_environment(sshd.home / "miniconda3")
    (sshd.home / ".bashrc").write_text('[ -z "$PS1" ] && return\nPATH=$HOME/miniconda3/bin:$PATH\n')
    return person.connects(person.knows(sshd))


@works("Jupyter is in a Python of pyenv, which only a login shell knows", says="Found Jupyter Server")
def test_pyenv(person: Person, start_sshd: StartSshd) -> Outcome:
    sshd = with_path(start_sshd)
    shims = sshd.home / ".pyenv" / "shims"
    shims.mkdir(parents=True)
    shim = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    for name in ("python3", "jupyter-server"):
        (shims / name).write_text(shim)
        (shims / name).chmod(0o755)
    (sshd.home / ".profile").write_text("PATH=$HOME/.pyenv/shims:$PATH\n")
    return person.connects(person.knows(sshd))


@works("It has upstream's jupyter_http_over_ws already")
@pytest.mark.egress
def test_upstream(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    there = tmp_path / "there"
    make_environment(there)
    install(there, "jupyter_http_over_ws==0.0.8")
    sshd = with_path(start_sshd, there / "bin")
    enabled = {"ServerApp": {"jpserver_extensions": {"jupyter_http_over_ws": True}}}
    configure(sshd, json.dumps(enabled), "jupyter_server_config.json")
    return person.connects(person.knows(sshd))


def configure(sshd: Sshd, text: str, name: str = "jupyter_server_config.py") -> None:
    """Write a configuration file of Jupyter, as its user on that machine has it."""
    (sshd.home / ".jupyter").mkdir()
    (sshd.home / ".jupyter" / name).write_text(text)


@fails(
    "Jupyter ends while it starts",
    code="server_died",
    says="Its last lines say why; remote-runtime logs shows them again.",
)
def test_jupyter_dies(person: Person, start_sshd: StartSshd) -> Outcome:
    sshd = with_path(start_sshd, Path(sys.executable).parent)
    configure(sshd, "import os\nprint('the disk of the notebooks is not there', flush=True)\nos._exit(3)\n")
    outcome = person.connects(person.knows(sshd))
    assert "the disk of the notebooks is not there" in outcome.told
    return outcome


@fails(
    "Jupyter starts and never answers", code="server_not_answering", says="Its log may say why: remote-runtime logs."
)
def test_jupyter_hangs(person: Person, start_sshd: StartSshd) -> Outcome:
    sshd = with_path(start_sshd, Path(sys.executable).parent)
    configure(sshd, "import time\nprint('waiting for a licence', flush=True)\ntime.sleep(600)\n")
    outcome = person.connects(person.knows(sshd), timeout=15)
    assert "waiting for a licence" in outcome.told
    return outcome


BROKEN = """
from jupyter_server.services.api.handlers import APIStatusHandler
async def get(self):
    raise ValueError("a plugin is broken")
APIStatusHandler.get = get
"""


@fails(
    "Jupyter answers every request with an error",
    code="server_not_answering",
    says="Its log may say why: remote-runtime logs. To start it anew: remote-runtime stop, then connect again.",
)
def test_jupyter_fails(person: Person, start_sshd: StartSshd) -> Outcome:
    sshd = with_path(start_sshd, Path(sys.executable).parent)
    configure(sshd, BROKEN)
    outcome = person.connects(person.knows(sshd), timeout=15)
    assert "status 500" in outcome.message
    assert "a plugin is broken" in outcome.told
    return outcome


# -- ports -----------------------------------------------------------------------------------------------------------


@fails(
    "The port wanted for Jupyter is in use there",
    code="server_port_taken",
    says="Choose another one with --remote-port, or leave that option out.",
)
def test_remote_port_taken(person: Person, start_sshd: StartSshd) -> Outcome:
    sshd = with_path(start_sshd, Path(sys.executable).parent)
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        return person.connects(person.knows(sshd), "--remote-port", str(port))


LISTENER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    print(server.accept()[0].recv(65536), flush=True)
"""


@works("Another user of the machine has taken the port of a Jupyter that died")
def test_squatter(person: Person, start_sshd: StartSshd) -> Outcome:
    if os.getuid() != 0:
        pytest.skip("needs root, to be another user too")
    alias = person.knows(with_path(start_sshd, Path(sys.executable).parent))
    first = person.connects(alias)
    assert first.ready
    [record] = Path(person.home).parent.glob("sshd-*/home/.remote-runtime/machines/*/server.json")
    server = json.loads(record.read_text())
    assert end([psutil.Process(server["pid"])], Deadline(20))
    setpriv = need("setpriv", "util-linux")
    argv = [setpriv, "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-I", "-c", LISTENER, str(server["port"])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/") as squatter:
        assert squatter.stdout
        assert squatter.stdout.readline() == "listening\n"
        outcome = person.connects(alias)
        squatter.kill()
        assert squatter.stdout.read() == "", "it heard something"
    assert outcome.token == first.token
    return outcome
