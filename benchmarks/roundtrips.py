"""Programs that connect once and tell how long it took until something came back through the connection.

    python -m benchmarks.roundtrips KIND HOST PORT USER KEY_FILE KNOWN_HOSTS FAR_PORT

prints the seconds from just before TCP's SYN to the first byte that the echo at ``127.0.0.1:FAR_PORT`` of the far
machine sent back; KIND is one of :data:`CLIENTS`.  KIND ``connect`` is the whole of ``remote_runtime.connect``, to the
URL that answered.  Modules are imported before the clock starts; `ssh` itself can't be, which is some milliseconds.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.forwarders import COMMAND, START_SECONDS, options_of_ssh

CLIENTS = ("lean", "openssh", "paramiko", "asyncssh")
HELLO = b"echo\n!"
"""Asks the far server for an echo, and is one byte of it."""

Where = tuple[str, int, str, str, str, int]


def main() -> None:
    """Connect, as the module's text says."""
    kind, host, port, user, key, known_hosts, far_port = sys.argv[1:]
    where = (host, int(port), user, key, known_hosts, int(far_port))
    if kind == "asyncssh":
        seconds = asyncio.run(by_asyncssh(*where))
    else:
        clients = {"lean": by_ours, "openssh": by_openssh, "paramiko": by_paramiko, "connect": by_connect}
        seconds = clients[kind](*where)
    print(seconds)


def by_ours(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> float:
    """By this project: log in, run a command, as the preparation does, and serve a client that waits already."""
    from benchmarks.forwarders import our_endpoint
    from remote_runtime import ssh
    from remote_runtime._threads import Deadline
    from remote_runtime.forward import LocalForward, listen

    endpoint = our_endpoint(host, port, user, key, known_hosts)
    deadline = Deadline(START_SECONDS)
    with listen(0) as listener, socket.create_connection(("127.0.0.1", listener.port)) as client:
        client.sendall(HELLO)
        began = time.perf_counter()
        with (
            ssh.connect(
                endpoint, ask=None, on_event=lambda _: None, deadline=deadline, first_command=COMMAND
            ) as connection,
            connection.execute(COMMAND, deadline),
            LocalForward(listener, lambda sink: connection.open_stream("127.0.0.1", far_port, sink)),
        ):
            return _first_byte(client.recv, began)


def by_openssh(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> float:
    """By `ssh -W`, which asks for the channel as soon as it is let in."""
    options = options_of_ssh(key, known_hosts)
    argv = ["ssh", "-W", f"127.0.0.1:{far_port}", *options, "-p", str(port), f"{user}@{host}"]
    began = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        process.stdin.write(HELLO)
        seconds = _first_byte(process.stdout.read, began)
        process.kill()
    return seconds


def by_paramiko(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> float:
    """By paramiko's SSHClient with that key."""
    import paramiko

    with paramiko.SSHClient() as client:
        client.load_host_keys(known_hosts)
        began = time.perf_counter()
        client.connect(host, port, user, key_filename=key, allow_agent=False, look_for_keys=False)
        transport = client.get_transport()
        assert transport
        with transport.open_channel("direct-tcpip", ("127.0.0.1", far_port), ("127.0.0.1", 0)) as channel:
            channel.sendall(HELLO)
            return _first_byte(channel.recv, began)


async def by_asyncssh(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> float:
    """By asyncssh with that key."""
    import asyncssh

    began = time.perf_counter()
    async with asyncssh.connect(host, port, username=user, client_keys=[key], known_hosts=known_hosts) as connection:
        reader, writer = await connection.open_connection("127.0.0.1", far_port)
        writer.write(HELLO)
        assert await reader.readexactly(1) == HELLO[-1:]
        return time.perf_counter() - began


def by_connect(host: str, port: int, user: str, key: str, known_hosts: str, far_port: int) -> float:  # noqa: ARG001
    """By ``remote_runtime.connect``, from the beginning of its login to its return."""
    import remote_runtime
    import remote_runtime.api
    from remote_runtime.events import Event, StepStarted

    config = Path.home() / ".ssh" / "config"
    config.parent.mkdir(mode=0o700, exist_ok=True)
    config.write_text(
        f"Host far\nHostName {host}\nPort {port}\nUser {user}\nIdentityFile {key}\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {known_hosts}\n"
    )
    began: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "ssh":
            began.append(time.perf_counter())

    with remote_runtime.connect("far", provider="ssh", on_event=hear):
        return time.perf_counter() - began[0]


def _first_byte(read: Callable[[int], bytes], began: float) -> float:
    assert read(1) == HELLO[-1:]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
