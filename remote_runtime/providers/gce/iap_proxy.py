"""A proxy on the way to Identity-Aware Proxy's relay: which one, what is said to it, and what its refusal means.

The proxy is the one that the calls to Google's APIs take, by HTTPS_PROXY and NO_PROXY, since they ask the same library.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from remote_runtime.errors import InstanceError, NetworkError, RemoteRuntimeError, UsageError

ANSWER_BYTES = 64 << 10
"""A proxy that says more than that before it agrees is none."""

END = b"\r\n\r\n"
"""Where a proxy's answer ends, and the relay's first byte may follow."""

_PORT = 80


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is the header that it wants, or empty."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def proxy_for(host: str, port: int) -> Proxy | None:
    """The proxy that leads there, by the environment or this system's configuration; None: there is none.

    Raises as :func:`parsed` does.
    """
    from requests.utils import get_environ_proxies, select_proxy

    url = f"https://{_bracketed(host)}:{port}"
    chosen = select_proxy(url, get_environ_proxies(url))
    return parsed(chosen) if chosen else None


def parsed(url: str) -> Proxy:
    """The proxy at ``url``, whose scheme may be left out.

    Raises :class:`UsageError` (``proxy_unsupported``), without the URL in it: there may be a password in that.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:  # not a port
        parts, host, port = urlsplit(""), None, None
    if parts.scheme != "http" or not host:
        raise UsageError(
            "The proxy in HTTPS_PROXY is none that IAP can be reached through",
            hint="It looks like http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; hosts in NO_PROXY need none.",
            code="proxy_unsupported",
        )
    if parts.username is None:
        return Proxy(host, port or _PORT)
    account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or _PORT, f"Basic {base64.b64encode(account.encode()).decode()}")


def connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    """What asks a proxy for a connection to ``host``."""
    where = f"{_bracketed(host)}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join(lines).encode() + END


def status_of(answer: bytes) -> int:
    """The status in a proxy's answer; 0 if it is none of HTTP's."""
    version, _, rest = answer.partition(b" ")
    status = rest[:3]
    return int(status) if version.startswith(b"HTTP/1.") and status.isdigit() and len(status) == 3 else 0


def refused(proxy: Proxy, host: str, status: int) -> RemoteRuntimeError:
    """The error for a proxy that does not agree: with a status of HTTP, or 0."""
    where = f"The proxy {proxy.host} port {proxy.port}"
    if status == 407:
        return InstanceError(
            f"{where} wants other credentials",
            hint="Name them in HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT, with %40 for an @ in them.",
            code="proxy_refused",
        )
    if 400 <= status < 500:
        return InstanceError(
            f"{where} does not let us through to {host} (HTTP status {status})",
            hint=f"Ask its administrator, or name {host} in NO_PROXY if it can be reached without.",
            code="proxy_refused",
        )
    said = f"HTTP status {status}" if status else "it does not speak HTTP, or hangs up"
    return NetworkError(
        f"{where} does not reach {host} ({said})",
        hint="Is HTTPS_PROXY right? Else try again later.",
        code="proxy_failed",
    )


def unreachable(proxy: Proxy, error: NetworkError) -> NetworkError:
    """The error for a proxy that does not answer."""
    return NetworkError(
        f"The proxy {proxy.host} port {proxy.port} can't be reached",
        hint="Is HTTPS_PROXY right? Hosts that need no proxy are named in NO_PROXY.",
        code="proxy_unreachable",
        retryable=error.retryable,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
