"""Local ports joined to ports on the VM; knows nothing of SSH (see :mod:`remote_runtime.stream`)."""

from remote_runtime.forward.listener import Listener, listen
from remote_runtime.forward.local import LocalForward

__all__ = ["Listener", "LocalForward", "listen"]
