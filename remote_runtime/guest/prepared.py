"""What a startup script has put on this machine for all its users; see ``prepare.py``, which puts it there.

Below ``/opt/remote-runtime``, which belongs to root: ``guest/`` programs, ``ext/<hash>/`` extensions, ``env/<key>/``
environments with Jupyter, ``run`` which starts the current program, ``bin/`` and ``uninstall`` for people, and last of
all ``prepared.json``, which is there when the rest is whole.
"""

from __future__ import annotations

import json
import os

from .loader import PREPARED, unalterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXTENSIONS = PREPARED + "/ext"
ENVIRONMENTS = PREPARED + "/env"
RUN = PREPARED + "/run"
FACTS = PREPARED + "/prepared.json"


def facts() -> dict[str, Any]:
    """What ``prepared.json`` says; empty if this machine is not prepared, or if others than root could have done it.

    ``extension`` and ``environment`` are names of directories; the second is empty where another Jupyter was found.
    """
    if not unalterable(FACTS):
        return {}
    try:
        with open(FACTS, "rb") as file:
            found = json.loads(file.read().decode())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def extension(key: str) -> str:
    """The directory of the extension with that key; ``""`` if it is not here."""
    return _directory(os.path.join(EXTENSIONS, key))


def environment() -> str:
    """The directory of the environment with Jupyter; ``""`` if there is none."""
    name = facts().get("environment")
    return _directory(os.path.join(ENVIRONMENTS, name)) if isinstance(name, str) and name else ""


def _directory(path: str) -> str:
    return path if os.path.isdir(path) and unalterable(path) else ""
