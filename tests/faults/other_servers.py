"""SSH servers that are not OpenSSH's: Dropbear, as small machines have it, and AsyncSSH."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from remote_runtime.guest.processes import any_port
from tests.faults.rough import Accounts, entering
from tests.openssh import START_SECONDS, Files
from tests.tools import need

_PROJECT = Path(__file__).parents[2]


@contextmanager
def dropbear(files: Files) -> Iterator[tuple[int, str]]:
    """Dropbear with those keys and that home; its port and its host key.  It has a mount namespace, and needs root."""
    program = need("dropbear", "dropbear-bin")
    host_key = files.directory / "dropbear_host"
    made = subprocess.run(["dropbearkey", "-t", "ed25519", "-f", host_key], check=True, capture_output=True, text=True)
    public = next(line for line in made.stdout.splitlines() if line.startswith("ssh-"))
    (files.home / ".ssh").mkdir(mode=0o700)
    (files.home / ".ssh" / "authorized_keys").write_bytes((files.directory / "authorized_keys").read_bytes())
    enter = entering(Accounts(home=str(files.home)).write(files.directory))
    port = any_port()
    argv = [*enter, program, "-F", "-E", "-s", "-r", str(host_key), "-p", f"127.0.0.1:{port}", "-P", ""]
    with _running(argv, port, {"PATH": "/usr/bin:/bin"}, files.log):
        yield port, " ".join(public.split()[:2])


@contextmanager
def asyncssh(files: Files, home: Path, path: str) -> Iterator[int]:
    """AsyncSSH's server, as sandboxes have it, with the first of those keys; its port.  ``path`` is the PATH there."""
    (files.directory / "host_key").symlink_to(files.directory / "host_ed25519")
    (files.directory / "client_key.pub").symlink_to(files.directory / "authorized_keys")
    port = any_port()
    argv = [sys.executable, "-m", "remote_runtime.providers._asyncssh_server", files.directory, home, port]
    with _running([str(word) for word in argv], port, {**os.environ, "PATH": path}, files.log):
        yield port


@contextmanager
def _running(argv: Sequence[str], port: int, environ: Mapping[str, str], log: Path) -> Iterator[None]:
    """The server for as long as the block lasts, from the moment that it listens."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            argv, cwd=_PROJECT, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        ) as process,
    ):
        try:
            end = time.monotonic() + START_SECONDS
            while not _listens(port):
                assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
