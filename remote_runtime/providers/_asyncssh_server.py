"""The sandbox's SSH server where OpenSSH's sshd can't be used: a process of its own on asyncssh.

Run as ``python -m remote_runtime.providers._asyncssh_server DIRECTORY HOME PORT``; DIRECTORY holds the keys.
It lets in the one client key, runs commands by the account's shell in HOME with its own ``PATH``, and forwards to
loopback.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import asyncssh

CHUNK = 64 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Server(asyncssh.SSHServer):
    """What a client may do besides running commands."""

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        """Forward to this machine, and to no other."""
        if dest_host in LOOPBACK:
            return True
        raise asyncssh.ChannelOpenError(
            asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "the sandbox forwards to loopback alone"
        )


class _Commands:
    """Runs the clients' commands."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._shell = _shell()
        keep = ("PATH",) if sys.platform != "win32" else ("PATH", "SYSTEMROOT", "TEMP", "PATHEXT", "COMSPEC")
        user = _account_name()
        self._env = {name: os.environ[name] for name in keep if name in os.environ}
        self._env.update(HOME=home, USER=user, LOGNAME=user, SHELL=self._shell)

    async def __call__(self, client: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            await self._run(client)
        except OSError as error:
            client.stderr.write(f"{self._shell}: {error.strerror}\n".encode())
            client.exit(127)

    async def _run(self, client: asyncssh.SSHServerProcess[bytes]) -> None:
        option = "/c" if sys.platform == "win32" else "-c"
        child = await asyncio.create_subprocess_exec(
            self._shell,
            *(() if client.command is None else (option, client.command)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._home,
            env=self._env,
            start_new_session=True,
        )
        assert child.stdin and child.stdout and child.stderr  # noqa: S101 - they were asked for
        feeding = asyncio.create_task(_feed(client, child))
        watching = asyncio.create_task(_hang_up(client, child))
        # The status comes after the last byte: exit() cuts off what has not been handed over by then.
        await asyncio.gather(_drain(child.stdout, client.stdout), _drain(child.stderr, client.stderr))
        status = await child.wait()
        for task in (feeding, watching):
            task.cancel()
        client.exit(status if status >= 0 else 128 - status)


async def _feed(client: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Standard input, until the client ends it or the command does not want it any more."""
    assert child.stdin  # noqa: S101
    with suppress(OSError, asyncssh.Error):
        while chunk := await _read(client, child):
            child.stdin.write(chunk)
            await child.stdin.drain()
    child.stdin.close()


async def _read(client: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> bytes:
    while True:
        try:
            return await client.stdin.read(CHUNK)
        except asyncssh.SignalReceived as received:
            with suppress(ProcessLookupError, ValueError, AttributeError):
                child.send_signal(getattr(signal, f"SIG{received.signal}"))
        except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            continue


async def _drain(source: asyncio.StreamReader, client: asyncssh.SSHWriter[bytes]) -> None:
    """Output to the client; to nowhere once the client is gone, so that the command does not block."""
    gone = False
    while chunk := await source.read(CHUNK):
        if gone:
            continue
        try:
            client.write(chunk)
            await client.drain()
        except (OSError, asyncssh.Error):
            gone = True


async def _hang_up(client: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Tell the command when its client goes away."""
    await client.wait_closed()
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, signal.SIGHUP)


def _shell() -> str:
    """The account's shell, or a plain one if the account is not meant for logins."""
    if sys.platform != "win32":
        import pwd

        with suppress(KeyError):
            shell = pwd.getpwuid(os.getuid()).pw_shell
            if os.access(shell, os.X_OK) and Path(shell).name not in ("nologin", "false"):
                return shell
    return os.environ.get("COMSPEC", "cmd.exe") if os.name == "nt" else "/bin/sh"


def _account_name() -> str:
    if sys.platform != "win32":
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(os.getuid()).pw_name
    return "sandbox"


async def serve(directory: Path, home: str, port: int) -> None:
    """Serve for ever."""
    server = await asyncssh.listen(
        "127.0.0.1",
        port,
        backlog=512,
        server_factory=_Server,
        server_host_keys=[str(directory / "host_key")],
        authorized_client_keys=str(directory / "client_key.pub"),
        process_factory=_Commands(home),
        encoding=None,
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_auth=False,
        gss_kex=False,
        agent_forwarding=False,
        allow_pty=False,
        allow_scp=False,
        line_editor=False,
        login_timeout=30,
    )
    await server.wait_closed()


def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    directory, home, port = arguments
    asyncio.run(serve(Path(directory), home, int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
