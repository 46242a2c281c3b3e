"""What the sandbox writes and reads, and what it makes of it.  No IO here."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from remote_runtime.errors import UsageError

Kind = Literal["openssh", "asyncssh"]

SEARCH_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
"""``PATH`` of a command in the sandbox: what a plain login on such a machine has, and nothing of our environment."""

ASYNCSSH_MODULE = "remote_runtime.providers._asyncssh_server"
"""The program of the server in Python, as ``python -m`` runs it."""

RUN_SCRIPT = """\
# Runs what an SSH client asks for: by the account's shell, in the sandbox's home and not in the account's.
cd "$HOME" || exit 1
if [ -z "${SSH_ORIGINAL_COMMAND+set}" ]; then
  exec "${SHELL:-/bin/sh}" -l
fi
command=$SSH_ORIGINAL_COMMAND
unset SSH_ORIGINAL_COMMAND
exec "${SHELL:-/bin/sh}" -c "$command"
"""


class Unusable(Exception):
    """This kind of server can't be used here; the text says why."""


@dataclass(frozen=True)
class State:
    """The SSH server of a sandbox, as it was when it was started or stopped.

    ``pid`` 0: nothing was started yet, or it was stopped on purpose.  ``started`` is the process's start time (unix
    seconds), which tells it from another one that got its number; ``port`` is kept for the next start.
    """

    kind: Kind = "openssh"
    version: str = ""
    pid: int = 0
    started: float = 0.0
    port: int = 0


def parse_state(content: bytes) -> State:
    """Read a state.json; whatever is not one counts as a sandbox that does not run.  Never raises."""
    try:
        values = json.loads(content)
        kind, version, pid = values["kind"], values["version"], values["pid"]
        started, port = float(values["started"]), values["port"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return State()
    well = kind in ("openssh", "asyncssh") and isinstance(version, str) and type(pid) is int and type(port) is int
    return State(kind, version, pid, started, port) if well and pid >= 0 and 0 <= port < 65536 else State()


def state_json(state: State) -> bytes:
    """The content of a state.json."""
    return json.dumps(dataclasses.asdict(state), indent=1).encode()


def is_name(name: str) -> bool:
    """Whether a sandbox may be called that: it becomes the name of a directory, also where case does not count."""
    return re.fullmatch(r"[a-z0-9](?:[a-z0-9_-]{0,46}[a-z0-9])?", name) is not None


def check_name(name: str) -> str:
    """Return ``name`` if a sandbox may be called that.

    Raises :class:`UsageError` with code ``bad_name``.
    """
    if not is_name(name):
        raise UsageError(
            f"A sandbox can't be called {name!r}",
            hint="Use up to 48 lower-case letters, digits, - and _, with a letter or digit at both ends.",
            code="bad_name",
        )
    return name


def candidates(option: object) -> tuple[Kind, ...]:
    """The servers to try in turn, by the option ``sandbox_server``.

    Raises :class:`UsageError` for a value that is none of auto, openssh and asyncssh.
    """
    if option == "auto":
        return ("openssh", "asyncssh")
    if option == "openssh":
        return ("openssh",)
    if option == "asyncssh":
        return ("asyncssh",)
    raise UsageError(f"sandbox_server can't be {option!r}", hint="It is one of: auto, openssh, asyncssh.")


def sshd_config(*, server: PurePath, home: PurePath, port: int, path: str, only_user: str, penalties: bool) -> str:
    """sshd_config for a sandbox.

    ``server`` is the directory of its keys, ``path`` the commands' PATH.  ``only_user`` (``""``: do without) is who may
    log in, where sshd would let others.  ``penalties``: whether this sshd knows PerSourcePenalties, by which it would
    lock out the one address that all clients here have.
    Raises :class:`Unusable` for a path that the file format can't hold.
    """
    where = str(server)
    if re.search(r"""["'\\\x00-\x1f]""", f"{where}{home}{path}"):
        raise Unusable(f"sshd can't work below {where}, whose name has quotes or control characters")
    authorized = f"{where}/client_key.pub".replace("%", "%%")
    lines = [
        "ListenAddress 127.0.0.1",
        f"Port {port}",
        f'HostKey "{where}/host_key"',
        "PidFile none",
        f'AuthorizedKeysFile "{authorized}"',
        "AuthenticationMethods publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",  # it can't stand a temp folder above; we look at owners and modes ourselves
        "PermitRootLogin prohibit-password",
        "PermitUserEnvironment no",
        "PermitUserRC no",
        "AllowTcpForwarding local",
        "AllowAgentForwarding no",
        "X11Forwarding no",
        "PermitTunnel no",
        "PrintMotd no",
        "PrintLastLog no",
        "UseDNS no",
        "MaxSessions 1000",
        "MaxStartups 1000",
        f'SetEnv "HOME={home}" "PATH={path}"',
        f"ForceCommand /bin/sh '{where}/run'",
    ]
    if only_user:
        lines.append(f"AllowUsers {only_user}")
    if penalties:
        lines.append("PerSourcePenalties no")
    return "\n".join(lines) + "\n"


def is_server(command_line: Sequence[str], server: PurePath) -> bool:
    """Whether a process with that command line is the SSH server whose files are in the directory ``server``.

    That it names the directory is not enough: so does an editor in which somebody looks at the log.
    """
    if list(command_line[1:4]) == ["-m", ASYNCSSH_MODULE, str(server)]:
        return True
    # sshd writes what it does over its arguments: one text that can't be taken apart at blanks.
    config = re.escape(f"{server}/sshd_config")
    return re.fullmatch(rf"(?:sshd: )?\S*sshd -D -e -f {config}(?: \[.*)?", " ".join(command_line).rstrip()) is not None


def missing_directory(complaint: str) -> str | None:
    """The directory that root's sshd says it lacks to drop its privileges into; it vanishes at each boot."""
    found = re.search(r"Missing privilege separation directory: (/[^\s\x00]+)", complaint)
    return found[1] if found else None


def version_of(banner: bytes) -> str | None:
    """The server's name and version from its first line, ``"OpenSSH 9.2"``; None if it does not speak SSH."""
    found = re.match(rb"SSH-2\.0-([\x21-\x7e]*)", banner)
    if not found:
        return None
    named = re.match(r"([A-Za-z]+)_([0-9]+(?:\.[0-9]+)*)", found[1].decode())
    return f"{named[1]} {named[2]}" if named else "SSH server"
