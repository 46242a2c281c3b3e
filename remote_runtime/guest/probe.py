"""Which Pythons are on the VM, and which of them has Jupyter."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
from collections import namedtuple

from .clock import Deadline
from .paths import in_home
from .plan import Found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Mapping

ASK_SECONDS = 20.0
LOGIN_SECONDS = 10.0
COMMANDS = ("jupyter-server", "jupyter-lab", "jupyter")
INTERPRETERS = ("python3", "python")
# Environments where people keep Jupyter, below the home and elsewhere.
WELL_KNOWN = (
    "~/.venv", "~/venv", "~/env", "~/.virtualenvs/*", "~/venvs/*", "~/.venvs/*",
    "~/miniconda3", "~/anaconda3", "~/miniforge3", "~/mambaforge", "~/micromamba",
    "/opt/conda", "/opt/*", "/opt/*/*env*",
)  # fmt: skip
MARK = "remote-runtime-path:"

# Runs in any Python 3; the first entry of its path is the current directory, where anything may lie about.
QUESTION = """
import sys
sys.path.pop(0)
import importlib.util, json
def version(name):
    try:
        if importlib.util.find_spec(name) is None:
            return ""
        from importlib.metadata import version
        return version(name)
    except Exception:
        return ""
print("\\n" + json.dumps({"executable": sys.executable, "python_version": "%d.%d.%d" % sys.version_info[:3],
    "server": version("jupyter_server"), "lab": version("jupyterlab"), "ipykernel": version("ipykernel")}))
"""


Asker = namedtuple("Asker", "prefix environ cwd")
"""As whom Pythons are asked, since that runs whatever their owners have put there: ``prefix`` is the command that
becomes another user, ``environ`` all that it gets (None: what we have), ``cwd`` where it runs (None: here)."""

OURSELVES = Asker((), None, None)


def ask(python: str, deadline: Deadline, asker: Asker = OURSELVES) -> Found | None:
    """What that Python has; None if it does not run."""
    answer = _run(python, QUESTION, deadline, asker)
    return parse_answer(python, answer.stdout) if answer else None


def parse_answer(python: str, output: bytes) -> Found | None:
    """What a Python said to the question; noise before the last line does no harm."""
    try:
        said = json.loads(output.strip().rpartition(b"\n")[2].decode())
        values = [said[name] for name in Found._fields[1:]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Found(python, *values) if all(isinstance(value, str) for value in values) else None


def find(environ: Mapping[str, str], home: str, deadline: Deadline, asker: Asker = OURSELVES) -> Iterator[Found]:
    """The Pythons that run, each once: those of PATH, of the well-known places, of a login shell's PATH."""
    asked: set[str] = set()
    for python in _candidates(environ, home, deadline):
        if python not in asked:
            asked.add(python)
            found = ask(python, deadline, asker)
            if found:
                yield found


def can_serve(python: str, deadline: Deadline, asker: Asker = OURSELVES) -> bool:
    """Whether the Jupyter Server there can at least be imported."""
    answer = _run(python, "import sys; sys.path.pop(0); import jupyter_server.serverapp", deadline, asker)
    return answer is not None and answer.returncode == 0


def _run(python: str, code: str, deadline: Deadline, asker: Asker) -> subprocess.CompletedProcess[bytes] | None:
    """``code`` in that Python; None if it does not run, or not in time."""
    try:
        return subprocess.run(
            [*asker.prefix, python, "-B", "-c", code],
            env=asker.environ,
            cwd=asker.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=deadline.bounded(ASK_SECONDS),
            start_new_session=True,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def locate(python: str, environ: Mapping[str, str], home: str) -> str:
    """The path that the user means: ``~`` is the home, a bare name is looked for on PATH."""
    if "/" in python:
        return in_home(home, python)
    return shutil.which(python, path=environ.get("PATH")) or python


def _candidates(environ: Mapping[str, str], home: str, deadline: Deadline) -> Iterator[str]:
    path = environ.get("PATH", "")
    yield from _on_path(path)
    yield from _well_known(home)
    login = login_path(environ, home, deadline)
    if login and login != path:
        yield from _on_path(login)


def _on_path(path: str) -> Iterator[str]:
    for name in COMMANDS:
        script = shutil.which(name, path=path)
        if script:
            yield from _interpreters_of(script)
    for name in INTERPRETERS:
        python = shutil.which(name, path=path)
        if python:
            yield python


def _interpreters_of(script: str) -> Iterator[str]:
    try:
        with open(script, "rb") as file:
            named = script_interpreter(file.read(1024))
    except OSError:
        return
    if named:
        yield named


def script_interpreter(head: bytes) -> str:
    """The Python that a console script starts with, from its first bytes; ``""`` if it is no such script.

    A path that is too long or has a space comes as a shell script that is also a Python one.
    """
    lines = head.decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("#!"):
        return ""
    path = lines[0][2:].strip()
    if path == "/bin/sh" and len(lines) > 1:
        wrapped = re.match(r"""'''exec' (?:"([^"]+)"|(\S+)) """, lines[1])
        path = (wrapped.group(1) or wrapped.group(2)) if wrapped else ""
    return path if path.startswith("/") and os.path.basename(path).startswith("python") else ""


def _well_known(home: str) -> Iterator[str]:
    for pattern in WELL_KNOWN:
        full = os.path.join(glob.escape(home), pattern[2:]) if pattern.startswith("~/") else pattern
        for environment in sorted(glob.glob(full)):
            # Asked only if the files are there: starting a Python costs more than looking.
            packages = os.path.join(glob.escape(environment), "lib", "python3*", "site-packages")
            if glob.glob(os.path.join(packages, "jupyter_server", "__init__.py")):
                yield os.path.join(environment, "bin", "python")


def login_path(environ: Mapping[str, str], home: str, deadline: Deadline) -> str:
    """PATH as a login shell of this user has it; ``""`` if the shell does not tell in time."""
    shell = environ.get("SHELL") or "/bin/sh"
    try:
        answer = subprocess.run(
            # A dash before the name makes a login shell of every kind of shell; the options for it differ.
            ["-" + os.path.basename(shell), "-c", "echo %s; printenv PATH" % MARK],
            executable=shell,
            env=dict(environ),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=deadline.bounded(LOGIN_SECONDS),
            start_new_session=True,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return parse_login_path(answer.stdout.decode("utf-8", "surrogateescape"))


def parse_login_path(output: str) -> str:
    """The line after the last mark."""
    _, found, rest = output.rpartition(MARK + "\n")
    return rest.partition("\n")[0] if found else ""
