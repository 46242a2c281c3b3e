"""Looking a machine up in ssh_config: by ``ssh -G`` where ssh is, else by paramiko's reader."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from remote_runtime._threads import Deadline, timed_out
from remote_runtime.errors import UsageError
from remote_runtime.model import Command, Direct, Endpoint, Fingerprint, HostKeyTrust, Jump, KnownHosts, Via
from remote_runtime.settings import Settings
from remote_runtime.ssh import identities
from remote_runtime.ssh.resolved import (
    DEFAULT_KEYS,
    FOREIGN_KEYS,
    Here,
    Resolved,
    Target,
    check_name,
    parse_options,
    parse_target,
    resolve,
)
from remote_runtime.text import printable

SSH_SECONDS = 15.0
"""How long ``ssh -G`` may take: it runs the user's ``Match exec`` commands."""
MOST_HOPS = 8


def lookup(
    target: str,
    settings: Settings,
    *,
    user: str | None = None,
    port: int | None = None,
    host_key: str | None = None,
    deadline: Deadline,
) -> Endpoint:
    """How to reach ``target``: ``user@host[:port]``, ``[v6]:port`` or an alias of the user's ``~/.ssh/config``.

    ``user`` and ``port`` say what the target does not; ``host_key`` (``SHA256:...``) is the one key to accept from the
    machine itself, not from those on the way.  ``~`` is ``settings.home``.
    Raises :class:`UsageError` for a target, a fingerprint or a configuration that can't be used.
    """
    written = parse_target(target)
    if user is not None:
        check_name(user, "user")
    for said, given, what in ((written.user, user, "user"), (written.port, port, "port")):
        if said is not None and given not in (None, said):
            raise UsageError(f"{target} and --{what} {given} contradict each other", hint="Leave one of them out.")
    wanted = Target(written.host, written.user or user, written.port or port)
    if host_key is not None and not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", host_key):
        raise UsageError(
            f"{host_key!r} is not the fingerprint of a host key",
            hint="It looks like SHA256:... with 43 characters; ssh-keygen -lf shows it for a public key file.",
            code="bad_host_key",
        )
    endpoint = _Lookup(settings, deadline).endpoint(wanted, None, ())
    if host_key is None:
        return endpoint
    known = endpoint.trust if isinstance(endpoint.trust, KnownHosts) else None
    return replace(endpoint, trust=Fingerprint(host_key, known))


class _Lookup:
    """One look-up, with the hops on the way."""

    def __init__(self, settings: Settings, deadline: Deadline) -> None:
        self.settings = settings
        self.deadline = deadline
        self.config = settings.home / ".ssh" / "config"
        self.here = Here(str(settings.home), _account_home(), _local_user(), settings.environ)

    def endpoint(self, target: Target, jumps: Sequence[str] | None, seen: tuple[str, ...]) -> Endpoint:
        """``jumps`` are the hops if they are prescribed, ``seen`` the machines that are reached by way of this one."""
        found = resolve(self._options(target), target.host, self.here)
        via: Via = Direct()
        hops = found.jumps if jumps is None else tuple(jumps)
        # A ProxyJump under "Host *" is meant for the jump host too, where it can only mean nothing.
        if hops and not (len(hops) == 1 and parse_target(hops[0]).host == target.host):
            via = self._jump(hops, (*seen, target.host))
        elif found.command and jumps is None:
            via = Command(self._argv(found.command))
        return Endpoint(
            host=found.host,
            user=found.user,
            port=found.port,
            trust=self._trust(found),
            identities=identities.pair(self._keys(found), [Path(path) for path in found.certificates]),
            agent=found.agent,
            only_identities=found.identities_only,
            via=via,
        )

    def _jump(self, hops: Sequence[str], seen: tuple[str, ...]) -> Jump:
        """The last hop, reached by way of those before it; the first one by what ssh_config says about it."""
        hop = parse_target(hops[-1])
        if hop.host in seen or len(seen) > MOST_HOPS:
            raise UsageError(
                f"ProxyJump goes round in circles: {' by way of '.join((*seen, hop.host))}",
                hint="Give the jump host a ProxyJump of none in ssh_config.",
                code="ssh_config_unsupported",
            )
        return Jump(self.endpoint(hop, hops[:-1] or None, seen))

    def _options(self, target: Target) -> dict[str, list[str]]:
        ssh = shutil.which("ssh", path=self.settings.environ.get("PATH"))
        # ssh refuses to work for an account that the system doesn't list.
        if ssh and (self.here.account_home or os.name == "nt"):
            return self._ask_ssh(ssh, target)
        return self._read_config(target)

    def _ask_ssh(self, ssh: str, target: Target) -> dict[str, list[str]]:
        argv = [ssh, "-G", "-F", str(self.config) if self.config.is_file() else "none"]
        argv += ["-l", target.user] if target.user else []
        argv += ["-p", str(target.port)] if target.port else []
        try:
            status, out, complaint = _run([*argv, "--", target.host], self.settings.environ, self.deadline)
        except OSError as error:
            raise UsageError(f"Can't run {ssh}: {error.strerror}", code="ssh_config_invalid") from error
        if status != 0:
            why = printable(complaint) or f"exit status {status}"
            raise UsageError(
                f"ssh can't read its configuration for {target.host}: {why}",
                hint=f"Correct {self.config}; ssh -G {target.host} shows the same.",
                code="ssh_config_invalid",
            )
        return parse_options(out)

    def _read_config(self, target: Target) -> dict[str, list[str]]:
        import paramiko

        text = self._config_text()
        # In ssh_config the first value wins, so what the caller said goes in front.
        said = [f" User {target.user}"] if target.user else []
        said += [f" Port {target.port}"] if target.port else []
        try:
            reader = paramiko.SSHConfig.from_text("\n".join(["Host *", *said, text]))
            found: Mapping[str, Any] = reader.lookup(target.host)  # a list where a keyword may come twice
        except (paramiko.SSHException, ValueError) as error:
            raise UsageError(
                f"Can't read {self.config}: {printable(str(error))}",
                hint="Correct that file.",
                code="ssh_config_invalid",
            ) from error
        options = {
            keyword: [str(v) for v in value] if isinstance(value, list) else ["none" if value is None else str(value)]
            for keyword, value in found.items()
        }
        for keyword, value in self._defaults().items():
            options.setdefault(keyword, value)
        return options

    def _config_text(self) -> str:
        try:
            text = self.config.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise UsageError(f"Can't read {self.config}: {error.strerror}", code="ssh_config_invalid") from error
        unsupported = re.search(r"^[ \t]*(include|match)\b", text, re.IGNORECASE | re.MULTILINE)
        if unsupported:
            raise UsageError(
                f"{self.config} has {unsupported[1]}, which can be read only with the help of ssh",
                hint="Install OpenSSH's client, or write what is meant for this machine as a Host block of its own.",
                code="ssh_config_unsupported",
            )
        return text

    def _defaults(self) -> dict[str, list[str]]:
        """What ``ssh -G`` would say of files where the configuration is silent."""
        system = Path(self.settings.environ.get("PROGRAMDATA", "C:/ProgramData"), "ssh")
        system = system if os.name == "nt" else Path("/etc/ssh")
        return {
            "identityfile": [f"~/.ssh/{name}" for name in DEFAULT_KEYS],
            "userknownhostsfile": ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"],
            "globalknownhostsfile": [str(system / "ssh_known_hosts"), str(system / "ssh_known_hosts2")],
        }

    def _keys(self, found: Resolved) -> list[Path]:
        """The key files; of ssh's default ones only those that are there and can be used here."""
        folder = self.settings.home / ".ssh"
        files = [Path(path) for path in dict.fromkeys(found.keys)]
        unusable = {folder / name for name in FOREIGN_KEYS}
        unusable |= {folder / name for name in DEFAULT_KEYS if not (folder / name).is_file()}
        return [path for path in files if path not in unusable]

    def _trust(self, found: Resolved) -> HostKeyTrust:
        return KnownHosts(
            name=found.alias or found.host,
            files=tuple(Path(path) for path in found.known_hosts),
            accepted=self.settings.state_dir / "known_hosts",
            strict=found.strict,
            alias=found.alias is not None,
        )

    def _argv(self, command: str) -> tuple[str, ...]:
        """A ProxyCommand is a line for the user's shell."""
        environ = self.settings.environ
        if os.name == "nt":
            return (environ.get("COMSPEC") or "cmd.exe", "/d", "/c", command)
        return (environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}")


def _run(argv: Sequence[str], environ: Mapping[str, str], deadline: Deadline) -> tuple[int, str, str]:
    """Exit status, output and complaints of a command, which is ended with all that it started if it takes too long."""
    seconds = deadline.bounded(SSH_SECONDS)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ) or None,
        start_new_session=True,
    ) as process:
        try:
            out, complaint = process.communicate(timeout=seconds)
        except BaseException as error:
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)  # it was not waited for, so the number is still its own
            if isinstance(error, subprocess.TimeoutExpired):
                raise timed_out("reading ssh_config", seconds) from error
            raise
    return process.returncode, out.decode(errors="replace"), complaint.decode(errors="replace")


def _account_home() -> str:
    """The home directory that the system lists for this account, where ssh thinks ``~`` is; ``""`` if there is none."""
    if sys.platform != "win32":
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(os.getuid()).pw_dir
    return ""


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
