"""Programs that forward a local port over SSH, ours and its peers, started alike for comparisons.

    python -m benchmarks.forwarders KIND HOST PORT USER KEY_FILE KNOWN_HOSTS FAR_PORT

logs in, prints the local port that leads to ``127.0.0.1:FAR_PORT`` of the far machine, and forwards it until its
standard input ends.  KIND is one of :data:`KINDS`; ``openssh`` is `ssh -N -L` as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from remote_runtime._threads import Deadline
from remote_runtime.guest.processes import any_port
from remote_runtime.model import Endpoint, Identity, Pinned
from remote_runtime.ssh.transport import Kind
from tests.openssh import Sshd

PEERS = ("asyncssh", "sshtunnel")
KINDS = ("lean", "stock", "openssh", *PEERS)
COMMAND = "true"
"""What the preparation of a guest is here."""

START_SECONDS = 60.0
_PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Forwarder:
    """A running one: its local port, and its process."""

    kind: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """The CPU time that it has used until now."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def forwarder(kind: str, sshd: Sshd, far_port: int, place: Any) -> Iterator[Forwarder]:
    """A forwarder of that kind at ``place``, which can start processes as a Namespace does; for the block."""
    argv = [sys.executable, "-m", "benchmarks.forwarders", kind, *arguments(sshd, far_port)]
    pipe = subprocess.PIPE
    with place.popen(argv, cwd=_PROJECT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            port = int(process.stdout.readline())
            used = psutil.Process(process.pid)
            if kind == "openssh":
                (used,) = used.children()
            yield Forwarder(kind, port, used)
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def arguments(sshd: Sshd, far_port: int) -> list[str]:
    """HOST, PORT, USER, KEY_FILE, KNOWN_HOSTS and FAR_PORT of that server; its host keys are written to the file."""
    endpoint = sshd.endpoint()
    known_hosts = sshd.files.directory / "known_hosts"
    names = f"[{endpoint.host}]:{endpoint.port},{endpoint.host}"
    known_hosts.write_text("".join(f"{names} {key}\n" for key in sshd.files.host_keys))
    where = [endpoint.host, endpoint.port, endpoint.user, sshd.files.client_key, known_hosts, far_port]
    return [str(one) for one in where]


def main() -> None:
    """Forward, as the module's text says."""
    kind, host, port, user, key, known_hosts, far_port = sys.argv[1:]
    where = (host, int(port), user, key, known_hosts, int(far_port))
    if kind == "lean" or kind == "stock":
        ours(kind, *where)
    elif kind == "asyncssh":
        asyncio.run(by_asyncssh(*where))
    else:
        {"openssh": by_openssh, "sshtunnel": by_sshtunnel}[kind](*where)


def ours(kind: Kind, host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> None:
    """By this project, as ``connect`` does it: the bootstrap's exec comes before any stream."""
    from remote_runtime import ssh
    from remote_runtime.forward import LocalForward, listen

    endpoint = our_endpoint(host, port, user, key, known_hosts)
    deadline = Deadline(START_SECONDS)
    with ssh.connect(
        endpoint, ask=None, on_event=lambda _: None, deadline=deadline, transport=kind, first_command=COMMAND
    ) as connection:
        with connection.execute(COMMAND, deadline) as process:
            process.wait()
        with LocalForward(listen(0), lambda sink: connection.open_stream("127.0.0.1", far_port, sink)) as forward:
            ready(forward.port)


def our_endpoint(host: str, port: int, user: str, key: str, known_hosts: str) -> Endpoint:
    """The far machine as this project knows it: with the host key of that file."""
    line = Path(known_hosts).read_text().split()
    return Endpoint(host, user, Pinned((" ".join(line[1:3]),), "the benchmark"), port, (Identity(Path(key)),))


def options_of_ssh(key: str, known_hosts: str) -> list[str]:
    """For `ssh` with that key and no other, and nothing of the user's own configuration."""
    return ["-i", key, "-o", f"UserKnownHostsFile={known_hosts}", "-o", "IdentitiesOnly=yes", "-F", "none"]


def by_openssh(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> None:
    """By `ssh -N -L` with its defaults."""
    local = any_port()
    options = options_of_ssh(key, known_hosts)
    argv = ["ssh", "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{far_port}", *options, "-p", str(port), f"{user}@{host}"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        end = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), 1):
                break
            time.sleep(0.02)
        ready(local)
        process.kill()


async def by_asyncssh(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> None:
    """By asyncssh with its defaults."""
    import asyncssh

    async with asyncssh.connect(host, port, username=user, client_keys=[key], known_hosts=known_hosts) as connection:
        listener = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", far_port)
        await asyncio.get_running_loop().run_in_executor(None, ready, listener.get_port())


def by_sshtunnel(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> None:  # noqa: ARG001
    """By sshtunnel, which can't check the host key against a file."""
    import paramiko
    import sshtunnel

    paramiko.DSSKey = paramiko.RSAKey  # type: ignore[attr-defined]  # paramiko has dropped it, sshtunnel still asks
    local = ("127.0.0.1", any_port())
    with sshtunnel.SSHTunnelForwarder(
        (host, port),
        ssh_username=user,
        ssh_pkey=key,
        local_bind_address=local,
        remote_bind_address=("127.0.0.1", far_port),
    ):
        ready(local[1])


def ready(port: int) -> None:
    """Say so, and wait until nobody needs it any more."""
    print(port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
