"""The keys that an ssh-agent holds."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko


@contextmanager
def agent_keys(address: str | None) -> Iterator[list[paramiko.AgentKey]]:
    """The keys of the agent at ``address``; none if there is no agent or it does not answer."""
    if not address:
        yield []
        return
    try:
        agent = paramiko.Agent() if sys.platform == "win32" else _Agent(address)
    except (OSError, paramiko.SSHException):
        yield []
        return
    try:
        yield list(agent.get_keys())
    finally:
        agent.close()


class _Agent(paramiko.agent.AgentSSH):
    """The agent behind one given socket; paramiko's own class only knows that of the environment."""

    def __init__(self, address: str) -> None:
        super().__init__()
        if sys.platform != "win32":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(10)
                connection.connect(address)
                self._connect(connection)  # type: ignore[attr-defined]
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]
