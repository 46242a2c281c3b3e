"""Startup scripts, as the guest agent's runner runs them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable

from tests.gce.cloud.system import System

LONGEST_LINE = 64 * 1024
"""A longer line ends the reading, and the script gets SIGPIPE at its next one."""

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def run_startup_script(system: System, script: str, say: Callable[[str], None]) -> threading.Thread | None:
    """Start the script, if there is one: as root, in ``/``, without HOME; its output goes line by line to ``say``.

    The thread that follows it ends with it.
    """
    say("google_metadata_script_runner: Starting startup scripts.")
    if not script:
        say("google_metadata_script_runner: No startup scripts to run.")
        return None
    say("google_metadata_script_runner: Found startup-script in metadata.")
    file = system.root / "var" / "tmp" / "metadata-startup-script"
    file.write_text(script.lstrip())
    file.chmod(0o755)
    process = system.popen(
        ["/bin/bash", "-c", "/var/tmp/metadata-startup-script"],
        environment=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    follower = threading.Thread(target=_follow, args=(process, say), name="startup script")
    follower.start()
    return follower


def _follow(process: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        while line := output.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                break
            say(f"startup-script: {line.decode(errors='replace').rstrip()}")
    status = process.wait()
    if status == 0:
        say("startup-script exit status 0")
    else:
        say(f'Script "startup-script" failed with error: exit status {status}')
    say("Finished running startup scripts.")
