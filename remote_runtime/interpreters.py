"""A Python on this computer: which one is meant, and what it says about its Jupyter and the extension in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_runtime._threads import Deadline, timed_out
from remote_runtime.errors import ExtensionError
from remote_runtime.guest.probe import script_interpreter
from remote_runtime.guest.wheel import NAME

COMMANDS = ("jupyter", "jupyter-server", "jupyter-lab", "jupyter-notebook")
INTERPRETERS = ("python3", "python")
ASK_SECONDS = 60.0
OURS = "+remote.runtime."
"""What only versions of our build have in them."""

# Runs in any Python 3.8.  The first entry of its path is the current directory, where anything may lie about.
QUESTION = """
import sys
sys.path[:] = [entry for entry in sys.path if entry not in ("", ".")]
import importlib.util, json, os, re, sysconfig
from importlib.metadata import PackageNotFoundError, distributions, version as version_of

NAME = sys.argv[1]

def version(name):
    try:
        return version_of(name)
    except PackageNotFoundError:
        return ""

def enabled():
    try:
        from jupyter_core.paths import jupyter_config_path
        from jupyter_server.extension.config import ExtensionConfigManager
        manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
        return bool(manager.get_jpserver_extensions().get(NAME, False))
    except ImportError:
        return False

def copies():
    for found in distributions(path=list(dict.fromkeys(sys.path))):
        if re.sub("[-_.]+", "_", found.metadata["Name"] or "").lower() == NAME:
            yield {"version": found.version, "directory": str(found.locate_file(""))}

spec = importlib.util.find_spec(NAME)
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
print("\\n" + json.dumps({
    "python": sys.executable,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "jupyter_server": version("jupyter_server"),
    "notebook": version("notebook"),
    "tornado": version("tornado"),
    "has_pip": importlib.util.find_spec("pip") is not None,
    "managed": sys.prefix == sys.base_prefix and os.path.exists(marker),
    "copies": list(copies()),
    "module": (spec.origin or "") if spec else "",
    "enabled": enabled(),
}))
"""


@dataclass(frozen=True)
class Copy:
    """A distribution of the extension: its version, and the directory on ``sys.path`` that it is in."""

    version: str
    directory: str

    @property
    def ours(self) -> bool:
        """Whether it is our build; else it is the original, or somebody else's."""
        return OURS in self.version


@dataclass(frozen=True)
class Interpreter:
    """What a Python said about itself; a version is ``""`` for what it has not.

    ``managed``: the system's package manager alone may change it.  ``copies`` of the extension come in the order of
    ``sys.path``; ``module`` is the file that an import of it loads.  ``enabled`` is what Jupyter's JSON files say.
    """

    python: str
    version: str
    jupyter_server: str
    notebook: str
    tornado: str
    has_pip: bool
    managed: bool
    copies: tuple[Copy, ...]
    module: str
    enabled: bool

    @property
    def installed(self) -> Copy | None:
        """Our build of the extension, if it is there."""
        return next((copy for copy in self.copies if copy.ours), None)

    @property
    def shadow(self) -> str:
        """The file that is loaded in place of our build; ``""`` if nothing is in its way."""
        ours = self.installed
        if ours is None or not self.module:
            return ""
        return "" if _same(Path(self.module).parent, Path(ours.directory) / NAME) else self.module


def locate(python: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """The Python that is meant, and how it was found, in words.

    ``python`` is a path or a name; without one it is the Python of the ``jupyter`` that is first on ``PATH``, else
    the first ``python3``.  Raises :class:`ExtensionError` (``extension_no_python``) if there is none.
    """
    path = environ.get("PATH", os.defpath)
    if python:
        found = shutil.which(os.path.expanduser(python), path=path)  # noqa: PTH111 - a bare name is to stay one
        if not found:
            raise ExtensionError(
                f"There is no Python {python!a}",
                hint="--python takes the path of an interpreter, such as ~/venv/bin/python.",
                code="extension_no_python",
            )
        return found, "as you said"
    for name in COMMANDS:
        command = shutil.which(name, path=path)
        for candidate in _pythons_of(Path(command)) if command else ():
            return candidate, f"the one of {command}"
    for name in INTERPRETERS:
        found = shutil.which(name, path=path)
        if found:
            return found, "the first on PATH"
    raise ExtensionError(
        "Neither a jupyter nor a python3 is on PATH",
        hint="Say which Python is meant: --python PATH",
        code="extension_no_python",
    )


def ask(python: str, deadline: Deadline) -> Interpreter:
    """What ``python`` says about itself.

    Raises :class:`ExtensionError` (``extension_no_python``) if it does not run or is too old, and
    :class:`~remote_runtime.errors.TimedOut`.
    """
    answer = run([python, "-B", "-c", QUESTION, NAME], doing=f"asking {python}", deadline=deadline.sooner(ASK_SECONDS))
    found = parse(answer.stdout) if answer.returncode == 0 else None
    if found is None:
        raise ExtensionError(
            f"{python} does not work as a Python of 3.8 or newer: {last_line(answer)}",
            hint="Name another one: --python PATH",
            code="extension_no_python",
        )
    return found


def parse(output: str) -> Interpreter | None:
    """What the last line of ``output`` says, None if it is no answer."""
    try:
        said: dict[str, Any] = json.loads(output.strip().rpartition("\n")[2])
        copies = tuple(Copy(str(copy["version"]), str(copy["directory"])) for copy in said.pop("copies"))
        return Interpreter(copies=copies, **said)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def run(argv: list[str], *, doing: str, deadline: Deadline) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its output.

    Raises :class:`ExtensionError` (``extension_no_python``) if it can't be started, and
    :class:`~remote_runtime.errors.TimedOut`.
    """
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=deadline.remaining(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise timed_out(doing, deadline.seconds) from error
    except OSError as error:
        raise ExtensionError(
            f"{argv[0]} can't be started: {error.strerror or error}",
            hint="Name another Python: --python PATH",
            code="extension_no_python",
        ) from error


def last_line(answer: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed said in the end."""
    lines = (answer.stderr or answer.stdout).strip().splitlines()
    return lines[-1].strip() if lines else f"it ended with status {answer.returncode}"


def _pythons_of(command: Path) -> Iterator[str]:
    """The Pythons that ``command`` may be a script of: the one that its first line names, else those beside it."""
    try:
        with command.open("rb") as file:
            named = script_interpreter(file.read(1024))
    except OSError:
        named = ""
    beside = [command.parent / name for name in ("python3", "python", "python.exe")]
    for candidate in (Path(named), *beside, command.parent.parent / "python.exe") if named else beside:
        if candidate.is_file():
            yield str(candidate)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
