"""Everything this package raises, drawn as a tree.

::

    RemoteRuntimeError          code            what the user sees besides the message
    ├── UsageError              usage           the call itself is wrong (exit status 2)
    ├── StateError              state_*         what we remember on this machine can't be used
    ├── PortInUse               port_in_use     the local port belongs to somebody else
    ├── AlreadyConnected        already_connected
    ├── InstanceError           instance_*      no such machine, or the provider can't do that with it
    ├── NetworkError            unreachable, connection_lost, ...
    │   └── TimedOut            timeout         the one deadline of the call has passed
    ├── HostKeyError            host_key_*      the server's key is not the one we may trust
    ├── AuthenticationFailed    authentication_failed
    ├── ChannelRefused          channel_refused the VM is there but refused this stream
    ├── TransferError           transfer_*      a file of this computer can't be read or written
    ├── KernelError             kernel_*        the kernel can't run code, or what became of it can't be known
    │   └── CellError           cell_failed     the code raised an exception
    ├── ExtensionError          extension_*     the extension can't be put into, or out of, a Python on this computer
    └── GuestError              guest_*         the program on the VM could not do its work
        └── ServerError         server_*        Jupyter does not run, answer, or prove itself

``code`` is stable and meant for programs, ``hint`` says what a person can do, ``retryable`` whether
the same call may work later.  Nobody has to match on message text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from remote_runtime.cells import CellResult


class RemoteRuntimeError(Exception):
    """The root of all errors raised by :mod:`remote_runtime`.

    Parameters are kept as attributes: ``message`` (one line, for people, never with a secret in it),
    ``hint`` (what to do about it, may be empty), ``code`` (stable, for programs) and ``retryable``.
    ``on_the_way``: it is a jump host's, and says nothing of the machine behind it.
    """

    code: str = "error"
    retryable: bool = False
    on_the_way: bool = False
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    def to_dict(self) -> dict[str, object]:
        """The error as plain values, as the command line's ``--json`` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }


class UsageError(RemoteRuntimeError):
    """The call itself is wrong: options that conflict, a name that means two machines."""

    code = "usage"
    exit_status = 2


class StateError(RemoteRuntimeError):
    """What is remembered on this machine can't be read, written or locked."""

    code = "state_unusable"


class PortInUse(RemoteRuntimeError):
    """The wanted local port is taken; the message says by whom, where the system tells."""

    code = "port_in_use"


class AlreadyConnected(RemoteRuntimeError):
    """Another process of ours on this host keeps this machine connected.

    ``url`` is that connection's URL, with its token, or ``""`` while that process is still connecting;
    ``pid`` is the process.  The URL is an attribute and not part of the message, since messages are logged.
    """

    code = "already_connected"

    def __init__(self, message: str, *, url: str = "", pid: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.url = url
        self.pid = pid


class InstanceError(RemoteRuntimeError):
    """There is no such machine, or its provider can't do what was asked."""

    code = "instance_not_found"


class NetworkError(RemoteRuntimeError):
    """The machine could not be reached, or the connection to it broke."""

    code = "unreachable"
    retryable = True


class TimedOut(NetworkError):
    """The deadline of the call has passed."""

    code = "timeout"


class HostKeyError(RemoteRuntimeError):
    """The server's host key is unknown, changed or revoked: nothing was sent to it."""

    code = "host_key_unknown"


class AuthenticationFailed(RemoteRuntimeError):
    """The SSH server accepted none of our keys."""

    code = "authentication_failed"


class ChannelRefused(RemoteRuntimeError):
    """The connection is alive, but the VM refused this one stream: nothing listens there, or it may not forward."""

    code = "channel_refused"
    retryable = True


class TransferError(RemoteRuntimeError):
    """A file of this computer could not be read or written while it was copied to the VM or from it."""

    code = "transfer_failed"


class KernelError(RemoteRuntimeError):
    """The kernel on the VM can't run code, has died, or was cut off, so that the result is lost."""

    code = "kernel_failed"


class CellError(KernelError):
    """The code raised an exception: ``ename``, ``evalue`` and ``traceback`` (lines) as the kernel tells them.

    ``result`` is what there was up to then.
    """

    code = "cell_failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        ename: str = "",
        evalue: str = "",
        traceback: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback
        self.result: CellResult | None = None


class ExtensionError(RemoteRuntimeError):
    """The extension could not be put into, switched in, or taken out of a Python on this computer."""

    code = "extension_failed"


class GuestError(RemoteRuntimeError):
    """The program that we run on the VM could not do its work; ``log`` holds its last lines."""

    code = "guest_failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        retryable: bool | None = None,
        log: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, code=code, retryable=retryable)
        self.log = log


class ServerError(GuestError):
    """The Jupyter server does not run, does not answer, or failed to prove that it is ours."""

    code = "server_failed"
