"""The kinds of values that options take, each with words for what is wrong with another one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from remote_runtime.model import Forward

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # not subscriptable before click 8.2

MAX_SECONDS = 7 * 24 * 3600


class _Checked(ParamType):
    """A value that ``read`` turns from text; its ValueError says what is wrong."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click; a value of the profile may have another type than text."""
        if isinstance(value, (Forward, tuple)):
            return value
        try:
            return self._read(str(value))
        except ValueError as error:
            self.fail(f"{value!a}: {error}", param, ctx)


def read_port(text: str) -> int:
    """A TCP port.

    Raises :class:`ValueError`.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("not a port: they go from 1 to 65535")
    return int(text)


def read_local_port(text: str) -> int | str:
    """A TCP port, or ``auto``.

    Raises :class:`ValueError`.
    """
    if text == "auto":
        return text
    try:
        return read_port(text)
    except ValueError as error:
        raise ValueError(f"{error}; or auto, for any free one") from None


def read_seconds(text: str) -> float:
    """A time in seconds that one can wait for.

    Raises :class:`ValueError`.
    """
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError("not a number of seconds") from None
    if not math.isfinite(seconds) or not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"it must be more than 0 and at most {MAX_SECONDS} (a week)")
    return seconds


def read_forward(text: str) -> Forward:
    """A ``port:host:port``.

    Raises :class:`ValueError`.
    """
    local, _, rest = text.partition(":")
    host, _, remote = rest.rpartition(":")
    if not host or (":" in host and not host.startswith("[")):
        raise ValueError("not port:host:port, such as 6006:localhost:6006 (an IPv6 address goes in brackets)")
    read_port(local)
    read_port(remote)
    read_text(host)
    return Forward.parse(text)


def read_host_key(text: str) -> str:
    """A fingerprint as OpenSSH writes it.

    Raises :class:`ValueError`.
    """
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", text):
        raise ValueError("not a fingerprint such as ssh-keygen -lf shows: SHA256: and 43 characters")
    return text.rstrip("=")


def read_origin(text: str) -> str:
    """The origin of a web page: scheme, host and port, nothing else (a browser compares it letter by letter).

    Raises :class:`ValueError`.
    """
    if not re.fullmatch(r"https?://[^\s/*?#@]+/?", text) or not text.isprintable():
        raise ValueError("not one origin such as https://colab.research.google.com")
    return text.rstrip("/").lower()


def read_duration(text: str) -> int:
    """Seconds, from ``90m``, ``24h``, ``7d`` or ``1h30m``; 0 for ``none``.

    Raises :class:`ValueError`.
    """
    if text == "none" or text == "0":
        return 0
    found = re.fullmatch(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s?)?", text)
    if not found or not any(found.groups()):
        raise ValueError("not a time such as 90m, 24h or 7d, and not none")
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def read_gpu(text: str) -> str:
    """A type of GPU, perhaps with their number.

    Raises :class:`ValueError`.
    """
    if not re.fullmatch(r"[a-z][-a-z0-9]*(?::[1-9][0-9]?)?", text):
        raise ValueError("not a GPU such as l4, t4:2 or nvidia-tesla-t4:2")
    return text


def read_pair(text: str) -> tuple[str, str]:
    """A ``key=value``.

    Raises :class:`ValueError`.
    """
    key, equals, value = text.partition("=")
    if not key or not equals or not key.isprintable():
        raise ValueError("not KEY=VALUE")
    return key, value


def read_size_gb(text: str) -> int:
    """A disk's size in GB.

    Raises :class:`ValueError`.
    """
    number = text.upper().removesuffix("GB")
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 10 <= int(number) <= 65536:
        raise ValueError("not a size in GB between 10 and 65536")
    return int(number)


def read_text(text: str) -> str:
    """Something to write on one line.

    Raises :class:`ValueError`.
    """
    if not text.strip() or not text.isprintable():
        raise ValueError("it is empty or has control characters in it")
    return text


DURATION = _Checked("TIME|none", read_duration)
GPU = _Checked("TYPE[:N]", read_gpu)
PAIR = _Checked("KEY=VALUE", read_pair)
PORT = _Checked("N", read_port)
SIZE_GB = _Checked("GB", read_size_gb)
LOCAL_PORT = _Checked("N|auto", read_local_port)
SECONDS = _Checked("SECONDS", read_seconds)
FORWARD = _Checked("PORT:HOST:PORT", read_forward)
HOST_KEY = _Checked("SHA256:...", read_host_key)
ORIGIN = _Checked("URL", read_origin)
TEXT = _Checked("TEXT", read_text)
