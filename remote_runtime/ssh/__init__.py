"""SSH: the only part that imports paramiko."""

from remote_runtime.ssh.auth import Unlocked
from remote_runtime.ssh.connection import Connection, connect, ended
from remote_runtime.ssh.process import RemoteProcess
from remote_runtime.ssh.pulse import ASK_EVERY_SECONDS, Pulse
from remote_runtime.ssh.transport import Kind as TransportKind

__all__ = ["ASK_EVERY_SECONDS", "Connection", "Pulse", "RemoteProcess", "TransportKind", "Unlocked", "connect", "ended"]
