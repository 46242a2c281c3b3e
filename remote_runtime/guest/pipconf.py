"""Which package index this machine is told to use: pip's configuration, read without pip.

uv does not read pip's files and a fresh machine may have no pip to ask, yet this is where an administrator says which
mirror, certificate or proxy to go through.  The rules followed here: a later file overrides an earlier one; in what
results ``[install]`` overrides ``[global]``; ``PIP_*`` variables override both; a value that may be several is split
at white space; and an override replaces the whole list.
"""

from __future__ import annotations

import configparser
import os
import sys
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

    Sections = Mapping[str, Mapping[str, str]]

DEFAULT_INDEX = "https://pypi.org/simple"
DEFAULT_TIMEOUT = 15.0
SECTIONS = ("global", "install")  # weakest first


@dataclass(frozen=True)
class PipConfig:
    """Where packages come from, as pip would see it.

    ``indexes`` holds the index URLs in order, none if ``no-index`` is set; ``find_links`` directories and pages with
    wheels; ``cert`` a bundle (or a directory) of certificates to trust in place of the system's, or ``""``;
    ``trusted_hosts`` those (``host`` or ``host:port``) whose certificate is not looked at; ``proxy`` a URL or ``""``;
    ``timeout`` seconds of silence after which a connection is given up; ``problems`` the files that were unreadable.
    A URL may hold a password: show it through :func:`redacted` only.
    """

    indexes: tuple[str, ...] = (DEFAULT_INDEX,)
    find_links: tuple[str, ...] = ()
    cert: str = ""
    trusted_hosts: tuple[str, ...] = ()
    proxy: str = ""
    timeout: float = DEFAULT_TIMEOUT
    problems: tuple[str, ...] = ()


def parse(text: str) -> dict[str, dict[str, str]]:
    """Section -> option -> value of one configuration file; options in lower case with hyphens.

    Raises :class:`ValueError` if it is no such file.
    """
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = _option_name  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text.lstrip("\ufeff"))
    except configparser.Error as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return {section: dict(parser.items(section)) for section in parser.sections()}


def merge(files: Sequence[Sections], environ: Mapping[str, str], *, problems: Sequence[str] = ()) -> PipConfig:
    """What ``files`` (weakest first) and the ``PIP_*`` variables of ``environ`` say together."""
    options: dict[str, str] = {}
    for section in SECTIONS:
        merged: dict[str, str] = {}
        for sections in files:
            merged.update(sections.get(section, {}))
        # An empty value takes back what a weaker file said, but is no value that overrides another section's.
        options.update({name: value for name, value in merged.items() if value.strip()})
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            options[_option_name(name[len("PIP_") :])] = value
    home = environ.get("HOME", "")
    indexes = [options.get("index-url", "").strip() or DEFAULT_INDEX]
    indexes += options.get("extra-index-url", "").split()
    return PipConfig(
        indexes=() if _is_true(options.get("no-index", "")) else tuple(dict.fromkeys(indexes)),
        find_links=tuple(_expanded(link, home) for link in options.get("find-links", "").split()),
        cert=_expanded(options.get("cert", "").strip(), home),
        trusted_hosts=tuple(options.get("trusted-host", "").split()),
        proxy=options.get("proxy", "").strip(),
        timeout=_seconds(options.get("timeout") or options.get("default-timeout") or ""),
        problems=tuple(problems),
    )


def locations(
    environ: Mapping[str, str], *, prefix: str, platform: str, home: str, own_file_exists: bool, mac_data_exists: bool
) -> list[str]:
    """The configuration files in the order in which they are read, weakest first.

    ``prefix`` is the ``sys.prefix`` of the Python in question, ``platform`` its ``sys.platform``; the two flags say
    whether ``PIP_CONFIG_FILE`` (which then replaces the user's files) and macOS's directory for user data exist.
    """
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return []
    windows = platform == "win32"
    name = "pip.ini" if windows else "pip.conf"
    found = [_joined(directory, name) for directory in _global_directories(environ, platform)]
    if not own_file_exists:
        found.append(_joined(home, "pip" if windows else ".pip", name))
        found.append(_joined(_user_directory(environ, platform, home, mac_data_exists), name))
    found.append(_joined(prefix, name))
    return [*found, own] if own else found


def read(*, environ: Mapping[str, str] | None = None, prefix: str = sys.prefix) -> PipConfig:
    """Read pip's configuration as it is for the Python whose ``sys.prefix`` is ``prefix``.

    Never raises: a file that can't be read or parsed is named in ``problems`` and otherwise ignored.
    """
    env = dict(os.environ if environ is None else environ)
    home = env.setdefault("HOME", os.path.expanduser("~"))
    own = env.get("PIP_CONFIG_FILE", "")
    paths = locations(
        env,
        prefix=prefix,
        platform=sys.platform,
        home=home,
        own_file_exists=bool(own) and os.path.exists(own),
        mac_data_exists=os.path.isdir(_joined(home, "Library", "Application Support", "pip")),
    )
    files: list[Sections] = []
    problems: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                files.append(parse(stream.read()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            problems.append("{}: {}".format(path, error))
    return merge(files, env, problems=problems)


def redacted(url: str) -> str:
    """``url`` without the user and password that it may hold, and without its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a malformed address)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def credentials(url: str) -> tuple[str, str, str]:
    """``url`` without user and password, the user, and the password (``""`` where there is none).

    Raises :class:`ValueError` if it is malformed.
    """
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


def is_trusted(url: str, trusted_hosts: Sequence[str]) -> bool:
    """Whether the configuration says not to look at the certificate of ``url``'s server."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    names = {host, "{}:{}".format(host, parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0))}
    return any(trusted.lower() in names for trusted in trusted_hosts)


def _global_directories(environ: Mapping[str, str], platform: str) -> list[str]:
    if platform == "win32":
        return [_joined(environ.get("PROGRAMDATA") or "C:/ProgramData", "pip")]
    if platform == "darwin":
        return ["/Library/Application Support/pip"]
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    return [*(_joined(directory, "pip") for directory in shared if directory), "/etc"]


def _user_directory(environ: Mapping[str, str], platform: str, home: str, mac_data_exists: bool) -> str:
    if platform == "win32":
        return _joined(environ.get("APPDATA") or _joined(home, "AppData", "Roaming"), "pip")
    if platform == "darwin":
        return (
            _joined(home, "Library", "Application Support", "pip")
            if mac_data_exists
            else _joined(home, ".config", "pip")
        )
    return _joined(environ.get("XDG_CONFIG_HOME") or _joined(home, ".config"), "pip")


def _joined(*parts: str) -> str:
    return "/".join(part.rstrip("/") for part in parts)


def _option_name(name: str) -> str:
    lowered = name.lower().replace("_", "-")
    return lowered[2:] if lowered.startswith("--") else lowered


def _is_true(value: str) -> bool:
    return value.strip().lower() in ("1", "y", "yes", "t", "true", "on")


def _expanded(path: str, home: str) -> str:
    return home + path[1:] if home and (path == "~" or path.startswith("~/")) else path


def _seconds(value: str) -> float:
    try:
        return min(max(float(value), 1.0), 600.0)
    except ValueError:
        return DEFAULT_TIMEOUT
