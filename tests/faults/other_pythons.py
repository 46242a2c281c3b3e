"""Pythons of a machine, made from the one that runs the tests: with its Jupyter, with half of it, or with nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path

from tests.openssh import Sshd, StartSshd

SYSTEM_PATH = "/usr/bin:/bin"


def with_path(start_sshd: StartSshd, *first: Path, **environment: str) -> Sshd:
    """A machine whose commands find these directories, and the system's."""
    path = os.pathsep.join([*map(str, first), SYSTEM_PATH])
    return start_sshd(environment={"PATH": path, **environment})


def make_environment(directory: Path, *, without: Collection[str] = ()) -> None:
    """A virtual environment with what the tests' own has, but for the modules and packages ``without``."""
    make_empty_environment(directory)
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.suffix != ".pth" and not entry.name.startswith(("__pycache__", *without)):
            (packages_of(directory) / entry.name).symlink_to(entry)


def make_empty_environment(directory: Path, *packages: str) -> None:
    """A virtual environment with these packages from the index alone, and nothing that they require."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    if packages:
        install(directory, *packages)


def install(environment: Path, *packages: str) -> None:
    """Put packages into it, from the index, without what they require."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--root-user-action=ignore"]
    subprocess.run([*pip, "--no-deps", "--target", packages_of(environment), *packages], check=True, timeout=120)


def commands_of(environment: Path) -> Path:
    """A directory with its Jupyter's command alone, to be on a PATH that leads to another python3."""
    directory = environment / "commands"
    directory.mkdir()
    script = directory / "jupyter"
    script.write_text(f"#!{environment}/bin/python3\nfrom jupyter_server.serverapp import main\nmain()\n")
    script.chmod(0o755)
    return directory


def packages_of(environment: Path) -> Path:
    """Where its packages are."""
    (found,) = (environment / "lib").glob("python3*/site-packages")
    return found


def make_bare_python(directory: Path) -> Path:
    """A Python that has neither venv nor ensurepip nor pip, as some systems split it up; the program."""
    library = Path(sysconfig.get_path("stdlib"))
    copy = directory / "lib" / library.name
    copy.mkdir(parents=True)
    for entry in library.iterdir():
        if entry.name not in ("venv", "ensurepip", "site-packages", "dist-packages"):
            (copy / entry.name).symlink_to(entry)
    (copy / "site-packages").mkdir()
    program = directory / "bin" / "python3"
    program.parent.mkdir()
    program.write_bytes(Path(sys.executable).resolve().read_bytes())
    program.chmod(0o755)
    return program
