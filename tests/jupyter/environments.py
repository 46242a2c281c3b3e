"""Python environments with a Jupyter in them, for tests that change them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from remote_runtime.guest import pipconf
from remote_runtime.guest.installers import uv_environment

NOT_LINKED = ("remote_runtime", "__editable__", "_remote_runtime", "jupyter_http_over_ws")


class Environment:
    """A virtual environment at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "bin" / "python"

    @property
    def packages(self) -> Path:
        [found] = self.root.glob("lib/python*/site-packages")
        return found

    @property
    def switch(self) -> Path:
        """The file by which the extension is enabled."""
        return self.root / "etc/jupyter/jupyter_server_config.d/jupyter_http_over_ws.json"

    def run(self, *arguments: str, **environment: str) -> str:
        """What its Python prints, on both of its outputs."""
        ran = subprocess.run(
            [str(self.python), *arguments],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def pip(self, *arguments: str) -> str:
        return self.run("-m", "pip", "--disable-pip-version-check", *arguments)

    def jupyter_extension(self, *arguments: str) -> str:
        """What Jupyter's own command for extensions says, without colours."""
        return self.run("-m", "jupyter_server", "extension", *arguments).replace("\033[32m", "").replace("\033[0m", "")

    def inventory(self) -> dict[str, str]:
        """All its files with a hash of their content, and its directories; compiled modules and empty logs aside."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(self.root.rglob("*"))
            if "__pycache__" not in path.parts and not path.is_symlink()
        }


def borrowed_environment(root: Path, *, pip: bool = True) -> Environment:
    """An empty environment that sees the packages of the one that the tests run in, without a copy of them.

    The packages are links, so that what belongs to this project, and pip unless it is wanted, can be left out.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    environment = Environment(root)
    links = root.parent / f"{root.name}-packages"
    links.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        unwanted = entry.name.startswith(NOT_LINKED) or entry.suffix == ".pth" or entry.name == "__pycache__"
        if not unwanted and (pip or not entry.name.startswith("pip")):
            (links / entry.name).symlink_to(entry)
    (environment.packages / "borrowed.pth").write_text(f"{links}\n")
    script = root / "bin" / "jupyter"
    script.write_text(f"#!{environment.python}\nfrom jupyter_core.command import main\nmain()\n")
    script.chmod(0o755)
    return environment


def index_environment(root: Path, *packages: str, python: str = sys.executable) -> Environment:
    """An environment with ``packages`` from the package index, and pip."""
    uv("venv", "--seed", "--python", python, str(root))
    environment = Environment(root)
    uv("pip", "install", "--python", str(environment.python), *packages)
    return environment


def uv(*arguments: str) -> None:
    """Run uv against the index that pip's configuration names, as uv itself does not read that."""
    usual_cache = str(Path.home() / ".cache" / "uv")
    environment = uv_environment(os.environ, pipconf.read(), usual_cache)
    subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", "--system-certs", *arguments],
        env={**environment, "UV_INDEX_STRATEGY": "unsafe-best-match"},  # all indexes are alike, as they are to pip
        check=True,
        timeout=240,
    )


def read_switch(environment: Environment) -> Any:
    return json.loads(environment.switch.read_text())["ServerApp"]["jpserver_extensions"]["jupyter_http_over_ws"]
