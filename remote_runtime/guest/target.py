"""What a Python says about itself that decides which wheels it can use.

The file is also run by itself, inside another Python, so it imports nothing of ours.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import struct
import subprocess
import sys
import sysconfig

# A 32-bit Python on a 64-bit kernel takes the wheels of the 32-bit machine.
NARROW = {"x86_64": "i686", "aarch64": "armv7l"}


def describe() -> dict[str, str]:
    """The Python that runs this, as plain text values.

    ``implementation`` (``cpython``), ``python`` (full version), ``abi`` (``cp311``, ``cp313t``), ``system`` (``Linux``,
    ``Darwin``), ``machine`` (``x86_64``, ``aarch64``, ``arm64``), ``libc`` (``glibc``, ``musl`` or ``""``),
    ``libc_version``, ``macos`` (its version or ``""``), ``executable`` and ``prefix``.
    """
    machine = platform.machine()
    libc, libc_version = _libc() if sys.platform.startswith("linux") else ("", "")
    threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return {
        "implementation": sys.implementation.name,
        "python": platform.python_version(),
        "abi": "cp{}{}{}".format(sys.version_info[0], sys.version_info[1], threaded),
        "system": platform.system(),
        "machine": NARROW.get(machine, machine) if struct.calcsize("P") == 4 else machine,
        "libc": libc,
        "libc_version": libc_version,
        "macos": platform.mac_ver()[0],
        "executable": sys.executable,
        "prefix": sys.prefix,
    }


def _libc() -> tuple[str, str]:
    """Kind and version of the C library; a musl of unknown version counts as its oldest."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        name, version = "", ""
    if name == "glibc" and version:
        return name, version
    for loader in sorted(glob.glob("/lib/ld-musl-*.so.1")):
        # Run without a program, musl's loader names itself and its version on stderr.
        spoken = subprocess.run([loader], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in spoken.stderr.decode("utf-8", "replace").splitlines():
            if line.startswith("Version "):
                return "musl", line.split()[1]
    return "musl", "1.1"


if __name__ == "__main__":
    print(json.dumps(describe()))
