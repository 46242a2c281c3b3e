"""What a benchmark was run on, as it belongs beside its figures."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from typing import Any


def describe() -> dict[str, Any]:
    """The day, the machine, the interpreter and our version, as plain values."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "remote_runtime": version("remote-runtime"),
    }
