"""What we may have to bring: the extension, and an environment of ours where the VM has no Jupyter."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import zipfile

from . import plan, prepared, probe
from .loader import PACKAGE, GuestFailure, private_directory
from .wheel import build_wheel, extension_files, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context


def unpack_extension(context: Context) -> tuple[str, list[str]]:
    """Put the extension into a directory of its own, named by its content: the directory, and what was new.

    Nothing is done where the machine was prepared with the same one.
    """
    name, content = build_wheel(extension_files())
    directory = prepared.extension(_key_in(name))
    if directory:
        return directory, []
    directory = os.path.join(private_directory(context.state.extensions), _key_in(name))
    installed = [] if os.path.isdir(directory) else [" ".join(name.split("-")[:2])]
    unpack(content, directory)
    return directory, installed


def extension_place(key: str, context: Context) -> str:
    """Where the extension with that key is."""
    return prepared.extension(key) or os.path.join(context.state.extensions, key)


def extension_key() -> str:
    """The name of the directory of the extension that this program brings."""
    return _key_in(build_wheel(extension_files())[0])


def _own_files(context: Context, prefix: str) -> dict[str, bytes]:
    """The files of this program below ``prefix``."""
    with zipfile.ZipFile(context.program) as program:
        return {name: program.read(name) for name in program.namelist() if name.startswith(prefix)}


def _key_in(wheel: str) -> str:
    """The hash that the wheel's version ends in."""
    found = re.search(r"([0-9a-f]{8})-py3-none-any\.whl$", wheel)
    if not found:
        raise GuestFailure("guest_damaged", "The extension has an unknown name: " + wheel)
    return found.group(1)


def own_environment(ui: str, upgrade: bool, context: Context) -> tuple[plan.Found, str, list[str]]:
    """An environment of ours with Jupyter: what it has, its key, and what was installed for it.

    One that was built before is used as it is unless an upgrade is asked for.  The one that a startup script has built
    for all users is nobody's own: its key is empty.
    """
    current = environment_key(ui, context)
    used = os.path.basename(context.state.record().get("environment", ""))
    common = "" if used else prepared.environment()
    if common and (not upgrade or os.path.basename(common) == current):
        found = probe.ask(python_of(common), context.deadline)
        if found and serves(found, ui):
            return found, "", []
    parent = private_directory(context.state.environments)
    for key in [current] if upgrade or not used else [used, current]:
        found = probe.ask(python_of(os.path.join(parent, key)), context.deadline)
        if found and serves(found, ui):
            return found, key, []
    directory = os.path.join(parent, current)
    python = build(directory, ui, context)
    built = probe.ask(python, context.deadline)
    if built is None or not serves(built, ui):
        raise GuestFailure(
            "environment_broken", "The environment that was just built does not work: " + directory, retryable=True
        )
    names = (("jupyter_server", built.server), ("ipykernel", built.ipykernel), ("jupyterlab", built.lab))
    return built, current, ["%s %s" % pair for pair in names if pair[1]]


def python_of(environment: str) -> str:
    """The interpreter of a virtual environment."""
    return os.path.join(environment, "bin", "python")


def serves(found: plan.Found, ui: str) -> bool:
    """Whether a server with that user interface runs there, and kernels too."""
    return plan.usable(found) and bool(found.ipykernel) and (ui == "none" or bool(found.lab))


def environment_key(ui: str, context: Context) -> str:
    """The name of an environment: another lock, interpreter or machine makes another one."""
    digest = hashlib.sha256()
    for name, data in sorted(_own_files(context, PACKAGE + "/").items()):
        if name.endswith(".txt"):  # the locks
            digest.update(name.encode() + b"\0" + data)
    kind = (sys.implementation.cache_tag, platform.system(), platform.machine(), sys.executable, ui)
    digest.update(repr(kind).encode())
    return digest.hexdigest()[:12]


def build(directory: str, ui: str, context: Context) -> str:
    """Build the environment; its interpreter."""
    from .install import InstallError, beside, build_environment

    received = beside(directory)

    def need(asked: dict[str, Any]) -> list[str] | None:
        os.makedirs(received, 0o700)
        return context.wire.need("wheels", received, asked)

    try:
        return build_environment(
            directory,
            python=sys.executable,
            ui=ui,
            say=context.wire.say,
            need=need,
            deadline_seconds=context.deadline.left(),
        )
    except InstallError as error:
        raise GuestFailure(error.code, error.message, error.hint, retryable=error.retryable, log=error.log) from error
    finally:
        shutil.rmtree(received, ignore_errors=True)
