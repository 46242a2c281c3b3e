"""SSH: the only part that imports paramiko."""

from remote_runtime.ssh.connection import Connection, connect
from remote_runtime.ssh.process import RemoteProcess

__all__ = ["Connection", "RemoteProcess", "connect"]
