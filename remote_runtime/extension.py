"""The extension for a Jupyter that one already has, on this computer: put it in, switch it, take it out again.

`connect` needs none of this: what it starts on a machine has the extension anyway.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from remote_runtime import interpreters
from remote_runtime._threads import Deadline
from remote_runtime.errors import ExtensionError
from remote_runtime.guest.wheel import NAME, build_wheel, extension_files
from remote_runtime.interpreters import Copy, Interpreter

OLDEST_SERVER = 2

# Jupyter's own `extension enable` writes to sys.prefix alone: it fails where that may not be written, and does not
# see what `pip install --user` brought.  This changes the entry that counts, or else makes one that counts more.
SWITCH = """
import os, sys
sys.path[:] = [entry for entry in sys.path if entry not in ("", ".")]
from jupyter_core.paths import jupyter_config_dir, jupyter_config_path
from jupyter_server.extension.config import ExtensionConfigManager

name, on = sys.argv[1], sys.argv[2] == "on"

def manager(directory):
    return ExtensionConfigManager(
        read_config_path=[directory], write_config_dir=os.path.join(directory, "jupyter_server_config.d"))

places = [directory for directory in jupyter_config_path() if name in manager(directory).get_jpserver_extensions()]
for directory in (*places[:1], jupyter_config_dir()):
    try:
        (manager(directory).enable if on else manager(directory).disable)(name)
        break
    except OSError as error:
        print(error, file=sys.stderr)
else:
    sys.exit(1)
"""

# What is left of the switch when the wheel's own file is gone: files that say nothing but whether it is on.
FORGET = """
import json, os, sys
sys.path[:] = [entry for entry in sys.path if entry not in ("", ".")]
from jupyter_core.paths import jupyter_config_path

name = sys.argv[1]
for directory in jupyter_config_path():
    path = os.path.join(directory, "jupyter_server_config.d", name + ".json")
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
        if said in ({"ServerApp": {"jpserver_extensions": {name: value}}} for value in (True, False)):
            os.unlink(path)
    except (OSError, ValueError):
        pass
"""


@dataclass(frozen=True)
class Changed:
    """What was done to a Python: the extension's version there (``""``: none), and which copies had to go for it."""

    interpreter: Interpreter
    version: str
    removed: tuple[Copy, ...] = ()


def available() -> str:
    """The version that this program brings."""
    return _version(build_wheel(extension_files())[0])


def write_wheel(directory: Path) -> Path:
    """Write the extension's wheel into ``directory``, which is made if it is not there; the wheel's path.

    Raises :class:`ExtensionError` (``extension_wheel_unwritable``).
    """
    name, content = build_wheel(extension_files())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    except OSError as error:
        raise ExtensionError(
            f"The wheel can't be written to {directory}: {error.strerror or error}",
            hint="Name a directory that you may write to: remote-runtime extension wheel DIRECTORY",
            code="extension_wheel_unwritable",
        ) from error
    return directory / name


def install(python: str, deadline: Deadline) -> Changed:
    """Put the extension into ``python``, in place of any copy that is there, and switch it on.

    Nothing else is installed or changed, and no package index is asked.  Raises :class:`ExtensionError` with the codes
    ``extension_no_jupyter``, ``extension_externally_managed``, ``extension_no_installer``,
    ``extension_install_failed``, ``extension_shadowed``, and those of :func:`enable`.
    """
    before = interpreters.ask(python, deadline)
    _check_jupyter(before)
    _check_changeable(before)
    with tempfile.TemporaryDirectory(prefix="remote-runtime-") as directory:
        wheel = write_wheel(Path(directory))
        _run(installer(before, "install", str(wheel)), "installing the extension", deadline)
    after = interpreters.ask(python, deadline)
    ours = after.installed
    if ours is None or after.shadow:
        raise ExtensionError(
            f"Another copy of {NAME} goes before ours in {after.python}: {after.shadow or after.module}",
            hint=f"Remove it (maybe it is one of pip install --user): {after.python} -m pip uninstall {NAME}",
            code="extension_shadowed",
        )
    if not after.enabled:
        after = _switch(after, True, deadline)
    return Changed(after, ours.version, tuple(copy for copy in before.copies if not copy.ours))


def enable(python: str, deadline: Deadline) -> Changed:
    """Let the servers of ``python`` load the extension.

    Raises :class:`ExtensionError` with the codes ``extension_not_installed`` and ``extension_not_switched``.
    """
    return _toggle(python, True, deadline)


def disable(python: str, deadline: Deadline) -> Changed:
    """Let the servers of ``python`` do without the extension, which stays installed; errors as :func:`enable`."""
    return _toggle(python, False, deadline)


def uninstall(python: str, deadline: Deadline) -> Changed:
    """Remove our build of the extension from ``python``, with all that it left; a copy of another origin stays.

    Raises :class:`ExtensionError` as :func:`install` does.
    """
    before = interpreters.ask(python, deadline)
    if before.installed is None:
        return Changed(before, "")
    _check_changeable(before)
    _run(installer(before, "uninstall", NAME), "uninstalling the extension", deadline)
    if before.jupyter_server:
        _run([before.python, "-B", "-c", FORGET, NAME], "removing the extension's settings", deadline)
    after = interpreters.ask(python, deadline)
    left = after.installed
    if left is not None:
        raise ExtensionError(
            f"Another copy of the extension is left in {left.directory}",
            hint="Uninstall once more: there were two.",
            code="extension_shadowed",
        )
    return Changed(after, "", (before.installed,))


def installer(interpreter: Interpreter, verb: str, what: str) -> list[str]:
    """The command by which a package is put into or taken out of ``interpreter``: its own pip, else uv.

    ``verb`` is ``install`` (with the path of a wheel) or ``uninstall`` (with the name of a package).
    Raises :class:`ExtensionError` (``extension_no_installer``).
    """
    python = interpreter.python
    if interpreter.has_pip:
        pip = [python, "-m", "pip", verb, "--disable-pip-version-check", "--no-input"]
        return [*pip, *(["--no-deps", "--no-index", "--force-reinstall"] if verb == "install" else ["--yes"]), what]
    uv = shutil.which("uv")
    if uv:
        extra = ["--no-deps", "--offline", "--reinstall"] if verb == "install" else []
        return [uv, "pip", verb, "--python", python, *extra, what]
    raise ExtensionError(
        f"{python} has no pip, and there is no uv on PATH either",
        hint=f"Give it one: {python} -m ensurepip",
        code="extension_no_installer",
    )


def _toggle(python: str, on: bool, deadline: Deadline) -> Changed:
    found = interpreters.ask(python, deadline)
    if not found.copies:
        raise ExtensionError(
            f"The extension is not installed in {found.python}",
            hint=f"Install it first: remote-runtime extension install --python {found.python}",
            code="extension_not_installed",
        )
    _check_jupyter(found)
    after = _switch(found, on, deadline)
    return Changed(after, after.copies[0].version)


def _switch(found: Interpreter, on: bool, deadline: Deadline) -> Interpreter:
    word = "on" if on else "off"
    answer = interpreters.run(
        [found.python, "-B", "-c", SWITCH, NAME, word], doing=f"switching the extension {word}", deadline=deadline
    )
    after = interpreters.ask(found.python, deadline)
    if after.enabled != on:
        why = interpreters.last_line(answer) if answer.returncode else "a setting elsewhere contradicts it"
        raise ExtensionError(
            f"The extension could not be switched {word} in {found.python}: {why}",
            hint=f"See which file says what: {found.python} -m jupyter_server extension list",
            code="extension_not_switched",
        )
    return after


def _check_jupyter(found: Interpreter) -> None:
    major = found.jupyter_server.partition(".")[0]
    if major.isdigit() and int(major) >= OLDEST_SERVER:
        return
    old = f"jupyter_server {found.jupyter_server}" if found.jupyter_server else f"notebook {found.notebook}"
    has = f"only {old}" if found.jupyter_server or found.notebook else "no Jupyter server"
    raise ExtensionError(
        f"{found.python} has {has}; the extension needs jupyter_server {OLDEST_SERVER} or newer",
        hint=f"Install one ({found.python} -m pip install jupyter_server), or name another Python: --python PATH",
        code="extension_no_jupyter",
    )


def _check_changeable(found: Interpreter) -> None:
    if found.managed:
        raise ExtensionError(
            f"{found.python} is the system's own: nothing but its package manager may install there",
            hint="Use a Jupyter in an environment of its own, and name its Python: --python ~/venv/bin/python",
            code="extension_externally_managed",
        )


def _run(argv: list[str], doing: str, deadline: Deadline) -> None:
    answer = interpreters.run(argv, doing=doing, deadline=deadline)
    if answer.returncode:
        raise ExtensionError(
            f"{doing.capitalize()} failed: {interpreters.last_line(answer)}",
            hint="Check that you may write to the environment of this Python, and that its disk is not full.",
            code="extension_install_failed",
        )


def _version(wheel: str) -> str:
    """The version in the file name of a wheel."""
    return wheel.split("-")[1]
