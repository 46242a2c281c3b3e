"""The values that the layers hand to each other: frozen, without behaviour that does IO."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

from remote_runtime._threads import Deadline
from remote_runtime.errors import RemoteRuntimeError

Question = Callable[[str, bool], str]
"""Asks the person: ``ask(prompt, echo) -> answer``.  The library itself never prompts; None means non-interactive."""


# -- how to reach an sshd ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Direct:
    """By TCP to the endpoint's host and port."""


@dataclass(frozen=True)
class Jump:
    """Through another SSH server (ssh_config's ProxyJump)."""

    endpoint: Endpoint


@dataclass(frozen=True)
class Command:
    """Over the standard input and output of a command (ssh_config's ProxyCommand), without a shell."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class Dial:
    """Over a socket that this callable gives (an IAP relay, say); ``label`` names it in messages."""

    dial: Callable[[Deadline], socket.socket]
    label: str


Via = Union[Direct, Jump, Command, Dial]


@dataclass(frozen=True)
class Pinned:
    """The server must show one of these keys, each ``"type base64"``; ``source`` says who vouched for them."""

    keys: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class KnownHosts:
    """The server must show a key from these known_hosts files, looked up as ``name`` and port.

    The first existing file of ``accepted`` is ours: an answer of "yes" is appended there.  The ``files`` are the
    user's and are only read.  ``strict`` is ssh_config's StrictHostKeyChecking, of which ``no`` is
    taken as ``accept-new``: a key that changed is refused whatever it says.
    ``alias``: the name is ssh_config's HostKeyAlias, which stands for the server whatever its port is.
    """

    name: str
    files: tuple[Path, ...]
    accepted: Path
    strict: Literal["yes", "ask", "accept-new"] = "ask"
    alias: bool = False


@dataclass(frozen=True)
class Fingerprint:
    """The server must show exactly the key with this fingerprint (``SHA256:...``); the user vouches for it.

    ``known`` says where the accepted key is written down, so that later commands need not be told again; None: nowhere.
    """

    sha256: str
    known: KnownHosts | None = field(default=None, compare=False)


HostKeyTrust = Union[Pinned, Fingerprint, KnownHosts]


@dataclass(frozen=True)
class Identity:
    """A private key file and, if there is one, the certificate for it."""

    key: Path
    certificate: Path | None = None


@dataclass(frozen=True)
class Endpoint:
    """How to reach one sshd and be let in, as plain values.

    ``trust`` has no default: there is no connection without a decision about the host key.
    ``agent`` is the agent's socket (``SSH_AUTH_SOCK``), None for no agent.  ``only_identities`` restricts the agent to
    keys that ``identities`` name (ssh_config's IdentitiesOnly).
    """

    host: str
    user: str
    trust: HostKeyTrust
    port: int = 22
    identities: tuple[Identity, ...] = ()
    agent: str | None = None
    only_identities: bool = False
    via: Via = field(default_factory=Direct)


# -- machines ---------------------------------------------------------------------------------------------------

InstanceState = Literal["running", "starting", "stopping", "stopped", "unknown"]


@dataclass(frozen=True)
class InstanceSpec:
    """A machine as it is wanted.  Providers extend it; ``name`` is all that a sandbox needs."""

    name: str


def no_second_try(error: RemoteRuntimeError | None, deadline: Deadline) -> None:  # noqa: ARG001
    """Judge a login that failed as final: see :class:`Instance`."""
    if error:
        raise error


def unprepared() -> bool:
    """Expect no preparation: see :class:`Instance`."""
    return False


def nothing_to_release(deadline: Deadline) -> None:
    """Leave the machine as it is: see :class:`Instance`."""


@dataclass(frozen=True)
class Instance:
    """A machine as it is.

    ``resolve`` gives a fresh :class:`Endpoint` each time it is called: today's address, keys and pins.
    ``detail`` is one line for people ("OpenSSH 9.2 on 127.0.0.1:40022").  ``judge(error, deadline)`` hears how a login
    at that endpoint went (None: well); it returns if another attempt is worth it now, else it raises the error.
    ``expects_preparation()`` tells whether, as far as is known since the last ``resolve``, a startup script of ours
    prepares the machine at its boot and may not have come to an end yet.  ``release(deadline)`` is called at the end:
    it takes back what was done to be let in, if the user wants that; it raises nothing.
    """

    name: str
    provider: str
    state: InstanceState
    resolve: Callable[[Deadline], Endpoint] = field(repr=False)
    detail: str = ""
    judge: Callable[[RemoteRuntimeError | None, Deadline], None] = field(default=no_second_try, repr=False)
    expects_preparation: Callable[[], bool] = field(default=unprepared, repr=False)
    release: Callable[[Deadline], None] = field(default=nothing_to_release, repr=False)


# -- the Jupyter server on the VM ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServerOptions:
    """What the user wants of the Jupyter server; the defaults suit Colab, VS Code and JupyterLab.

    ``python``: the kernels' interpreter on the VM.  ``notebook_dir``: where it serves files from, ``~`` is the VM's
    home.  ``remote_port``: exactly this port on the VM (else 8888 if free, else a free one that is kept).
    ``allow_origin``: the web page that may call the server.  ``jupyter_args``: passed to the server as they are.
    ``ui``: ``lab`` or ``none``.  ``upgrade``: install the newest locked set, also if an older one works.
    """

    python: str | None = None
    notebook_dir: str | None = None
    remote_port: int | None = None
    allow_origin: str = "https://colab.research.google.com"
    jupyter_args: tuple[str, ...] = ()
    ui: Literal["lab", "none"] = "lab"
    upgrade: bool = False


@dataclass(frozen=True)
class ServerInfo:
    """The Jupyter server on the VM, with the field names of Jupyter's own ``jpserver-*.json``.

    ``adopted`` tells whether it ran already, ``installed`` what had to be installed for it (empty: nothing).
    """

    pid: int
    port: int
    token: str = field(repr=False)
    base_url: str = "/"
    root_dir: str = ""
    version: str = ""
    python: str = ""
    adopted: bool = False
    installed: tuple[str, ...] = ()

    def url(self, local_port: int) -> str:
        """The URL that the user pastes: it carries the token, so it is shown only where the user asked for it."""
        return f"http://localhost:{local_port}{self.base_url}?token={self.token}"


# -- what is remembered about a machine ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Remembered:
    """What the host remembers of a machine between two connects (kept 0600: it holds the token).

    ``host_pid`` and ``host_started`` name the process that keeps it connected now (0: none did at the last write);
    ``settings`` is what the provider needs to find the machine again without being told twice.
    ``deleted``: the machine is no more; its port and token are kept for one that is made anew under its name.
    """

    name: str
    provider: str
    local_port: int = 0
    token: str = field(default="", repr=False)
    base_url: str = "/"
    server_pid: int = 0
    host_pid: int = 0
    host_started: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    deleted: bool = False

    @property
    def url(self) -> str:
        """The last URL, or ``""`` if the machine never had one."""
        if not (self.local_port and self.token):
            return ""
        return f"http://localhost:{self.local_port}{self.base_url}?token={self.token}"


@dataclass(frozen=True)
class Forward:
    """One more port to forward (``ssh -L``): ``host`` and ``remote_port`` are as the VM sees them."""

    local_port: int
    host: str
    remote_port: int

    @classmethod
    def parse(cls, text: str) -> Forward:
        """Read ``port:host:port``, where an IPv6 host is in brackets.

        Raises :class:`ValueError` for anything else.
        """
        local, _, rest = text.partition(":")
        host, _, remote = rest.rpartition(":")
        forward = cls(int(local), host.removeprefix("[").removesuffix("]"), int(remote))
        if not host or not all(0 < port < 65536 for port in (forward.local_port, forward.remote_port)):
            raise ValueError(f"not a port:host:port: {text!r}")
        return forward
