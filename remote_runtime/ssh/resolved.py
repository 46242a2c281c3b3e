"""What ssh_config says about one machine, as values.  No IO here: texts come in, values go out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from remote_runtime.errors import UsageError

DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")
"""Names below ``~/.ssh`` that ssh tries by default and whose keys can be used here."""
FOREIGN_KEYS = ("id_dsa", "id_xmss", "id_ecdsa_sk", "id_ed25519_sk")
"""Other default names: keys of hardware tokens and of forgotten types."""

_UNSAFE = re.compile(r"""[\s\x00-\x1f\x7f'"`;&<>|(){}]""")
_FIRST_FILE = re.compile(r"\s+(?=[/~%$]|[A-Za-z]:[\\/]|none$)")

Options = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Target:
    """``user@host:port`` taken apart; what was not written is None."""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True)
class Here:
    """This side: the user's home (``$HOME``), the account's home (``""`` if unknown), its name, the environment."""

    home: str
    account_home: str
    user: str
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Resolved:
    """One machine as ssh_config has it; paths are absolute, tokens are expanded."""

    host: str
    user: str
    port: int
    keys: tuple[str, ...]
    certificates: tuple[str, ...]
    identities_only: bool
    agent: str | None
    jumps: tuple[str, ...]
    command: str | None
    known_hosts: tuple[str, ...]
    strict: Literal["yes", "ask", "accept-new"]
    alias: str | None


def parse_target(text: str) -> Target:
    """Take ``[user@]host[:port]`` apart; an IPv6 address needs brackets if a port follows.

    Raises :class:`UsageError` with code ``bad_target`` for anything that ssh could take for an option, or a shell for
    more than a name.
    """
    body = text.removeprefix("ssh://").rstrip("/") if text.startswith("ssh://") else text
    user, at, rest = body.rpartition("@")
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::(\d+))?", rest)
    plain = re.fullmatch(r"([^:\[\]]+)(?::(\d+))?", rest)
    found = bracketed or plain
    if not found and (rest.count(":") < 2 or "[" in rest):  # else it is a bare IPv6 address
        raise _bad_target(text, "it is not [user@]host[:port]")
    host, port = found.groups() if found else (rest, None)
    check_name(host, "host")
    if "\\" in host or "$" in host:
        raise _bad_target(text, "the host name has characters that it can't have")
    if at:
        check_name(user, "user")
    if port is not None and not 0 < int(port) < 65536:
        raise _bad_target(text, "the port is not between 1 and 65535")
    return Target(host, user if at else None, None if port is None else int(port))


def check_name(name: str, what: str) -> None:
    """Raise :class:`UsageError` unless ``name`` is harmless in an argument list and in a shell."""
    if not name or name.startswith("-") or name.endswith("\\") or _UNSAFE.search(name):
        raise _bad_target(name, f"the {what} name has characters that it can't have")


def _bad_target(text: str, why: str) -> UsageError:
    return UsageError(
        f"Not an SSH address: {text!r}: {why}", hint="Write user@host, user@host:port or [v6]:port.", code="bad_target"
    )


def parse_options(text: str) -> dict[str, list[str]]:
    """Read what ``ssh -G`` prints: ``keyword value`` lines, where some keywords come more than once."""
    options: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        if value:
            options.setdefault(keyword.lower(), []).append(value.strip())
    return options


def resolve(options: Options, original: str, here: Here) -> Resolved:
    """Make values of the options that were found for the host that the user called ``original``.

    Raises :class:`UsageError` with code ``ssh_config_unsupported`` for what can't be done here, and
    ``ssh_config_invalid`` for a port that is none.
    """
    host, user = _first(options, "hostname") or original, _first(options, "user") or here.user
    port = _first(options, "port") or "22"
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"ssh_config has the port {port!r} for {original}", code="ssh_config_invalid")
    if _truth(_first(options, "proxyusefdpass")):
        raise UsageError(
            f"ssh_config asks for ProxyUseFdpass for {original}, which can't be done here",
            hint="Give the machine another ProxyCommand, or a ProxyJump.",
            code="ssh_config_unsupported",
        )
    alias = _first(options, "hostkeyalias")
    tokens = {"%": "%", "d": here.home, "h": host, "n": original, "p": port, "r": user, "u": here.user}
    paths = _Paths(here, {**tokens, "k": alias or original})
    jumps, command = _proxies(options)
    files = [*options.get("userknownhostsfile", ()), *options.get("globalknownhostsfile", ())]
    return Resolved(
        host=host,
        user=user,
        port=int(port),
        keys=_unless_none(paths.absolute(value) for value in options.get("identityfile", ())),
        certificates=_unless_none(paths.absolute(value) for value in options.get("certificatefile", ())),
        identities_only=_truth(_first(options, "identitiesonly")),
        agent=_agent(_first(options, "identityagent"), paths),
        jumps=jumps,
        command=expand(command, {key: tokens[key] for key in "%hnpr"}) if command else None,
        known_hosts=_unless_none(paths.absolute(path) for value in files for path in split_paths(value)),
        strict=strictness(_first(options, "stricthostkeychecking")),
        alias=alias,
    )


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """Replace ssh_config's ``%h`` and the like; a token that is not in ``tokens`` stays as it is."""
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def split_paths(value: str) -> list[str]:
    """The files of one UserKnownHostsFile value.  ``ssh -G`` prints them without quotes, so a path with a space is
    recognised by the next one's being absolute."""
    quoted = re.findall(r'"([^"]*)"|(\S+)', value) if '"' in value else []
    return [a or b for a, b in quoted] or [part for part in _FIRST_FILE.split(value.strip()) if part]


def strictness(value: str | None) -> Literal["yes", "ask", "accept-new"]:
    """StrictHostKeyChecking as KnownHosts has it.  Turned off, it still refuses a key that changed."""
    lowered = (value or "ask").lower()
    if lowered in ("yes", "true"):
        return "yes"
    return "accept-new" if lowered in ("accept-new", "no", "off", "false") else "ask"


@dataclass(frozen=True)
class _Paths:
    """Makes paths of what ssh_config says."""

    here: Here
    tokens: Mapping[str, str]

    def absolute(self, value: str) -> str:
        """Expand variables, tokens and ``~``, which is ``$HOME``, also where ssh put the account's home for it."""
        value = re.sub(r"\$\{(\w+)\}", lambda found: self.here.environ.get(found[1], ""), value)
        value = expand(value, self.tokens)
        account_home = self.here.account_home.rstrip("/")
        if value.startswith(("~/", "~\\")):
            return self.here.home + value[1:]
        if account_home and value.startswith(account_home + "/"):
            return self.here.home + value[len(account_home) :]
        return value


def _agent(value: str | None, paths: _Paths) -> str | None:
    if value is None or value == "SSH_AUTH_SOCK":
        return paths.here.environ.get("SSH_AUTH_SOCK") or None
    if value.lower() == "none":
        return None
    if value.startswith("$") and not value.startswith("${"):
        return paths.here.environ.get(value[1:]) or None
    return paths.absolute(value)


def _proxies(options: Options) -> tuple[tuple[str, ...], str | None]:
    """ProxyJump's hops and ProxyCommand, of which at most one is in force: the one that ssh_config says first."""
    for keyword, values in options.items():
        if keyword in ("proxyjump", "proxycommand"):
            value = values[0]
            if keyword == "proxycommand":
                return (), None if value.lower() == "none" else value
            if value.lower() != "none":  # and if it is none, a ProxyCommand may still follow
                return tuple(hop.strip() for hop in value.split(",")), None
    return (), None


def _first(options: Options, keyword: str) -> str | None:
    values = options.get(keyword)
    return values[0] if values else None


def _truth(value: str | None) -> bool:
    return (value or "").lower() in ("yes", "true")


def _unless_none(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(value for value in values if value.lower() != "none")
