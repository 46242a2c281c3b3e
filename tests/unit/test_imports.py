"""The host's part must import where Windows and macOS leave modules out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import remote_runtime

POSIX_ONLY = ["fcntl", "grp", "pwd", "resource", "termios"]

IMPORT_ALL = """
import importlib, json, pkgutil, sys, traceback
import asyncssh, psutil  # have an implementation per platform, and need them on this one

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = set(sys.argv[1:])
sys.meta_path.insert(0, Absent())
for name in absent:
    sys.modules.pop(name, None)

def host_modules():
    package = importlib.import_module("remote_runtime")
    yield package.__name__
    for module in pkgutil.walk_packages(package.__path__, "remote_runtime."):
        # the guest's part runs on the VM; __main__ runs the program when it is imported
        if not module.name.startswith("remote_runtime.guest") and not module.name.endswith(".__main__"):
            yield module.name

failed, imported = {}, []
for name in [*absent, *host_modules()]:
    try:
        importlib.import_module(name)
        imported.append(name)
    except ImportError as error:
        failed[name] = traceback.format_exc()
json.dump({"failed": failed, "imported": imported}, sys.stdout)
"""


def test_every_host_module_imports_without_posix() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *POSIX_ONLY], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    blocked = {name: result["failed"].pop(name) for name in POSIX_ONLY}
    assert set(blocked) == set(POSIX_ONLY)
    assert result["failed"] == {}, "\n".join(result["failed"].values())
    assert host_modules() <= set(result["imported"])


def host_modules() -> set[str]:
    """Every module of the host's part, by the files that there are."""
    root = Path(remote_runtime.__file__).parent
    paths = (path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    return {name for name in names if not name.startswith("remote_runtime.guest") and not name.endswith("__main__")}
