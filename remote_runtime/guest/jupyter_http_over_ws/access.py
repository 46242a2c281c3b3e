"""Who may talk to the server, and on whose behalf: origins, credentials, redirects.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import AbstractSet, List, Optional, Pattern, Sequence, Tuple
from urllib.parse import parse_qs, urljoin, urlsplit

from .codec import fit_path

AUTH_URL = "jupyter_http_over_ws_auth_url"
"""The query argument in which a page hands over the server's own URL, token included."""

WRITING = frozenset({"DELETE", "PATCH", "POST", "PUT"})

_OF_THE_HANDSHAKE = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that say something about the handshake alone (as all of ``Sec-WebSocket-*`` and ``If-*`` do)."""

_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


class ForeignAuthUrl(ValueError):
    """The auth URL is no URL of the server that the socket was opened to."""


@dataclass(frozen=True)
class Origins:
    """The web pages that may call the server besides its own: one exact origin, else all that match a pattern.

    Stricter than the server's own rules on purpose: ``*`` and ``null`` never count, and a pattern must match the
    whole origin, as a page of the attacker's may well start like an allowed one.
    """

    exact: str = ""
    pattern: Optional[Pattern[str]] = None

    def __bool__(self) -> bool:
        return bool(self.exact or self.pattern) and self.exact != "*"

    def allow(self, origin: Optional[str]) -> bool:
        """Whether a page of this ``origin``, which is not the server's own, may call it."""
        if not self or not origin or origin in ("null", "*"):
            return False
        if self.exact:
            return origin == self.exact
        return self.pattern is not None and self.pattern.fullmatch(origin) is not None

    def allow_socket(self, origin: Optional[str], host: Optional[str]) -> bool:
        """Whether a socket with this ``Origin`` may be opened at ``host``.

        A browser always sends one, so a client without is not a page, and has no user's login to abuse.
        """
        return origin is None or (bool(host) and _netloc(origin) == host) or self.allow(origin)


def token_of(auth_url: str, scheme: str, host: str) -> str:
    """The token in ``auth_url``, "" if it has none.

    Raises :class:`ForeignAuthUrl` unless the URL leads to ``scheme`` and ``host``, where the page opened the socket.
    """
    try:
        parts = urlsplit(auth_url)
        tokens = parse_qs(parts.query).get("token", [""])
    except ValueError as error:
        raise ForeignAuthUrl("not a URL") from error
    if (parts.scheme, parts.netloc) != (scheme, host):
        raise ForeignAuthUrl("another server's URL")
    token = tokens[-1].strip()
    if token and not _HEADER_VALUE.fullmatch(token):
        raise ForeignAuthUrl("not a token")
    return token


def inner_headers(
    handshake: Sequence[Tuple[str, str]],
    *,
    cookies: Optional[str],
    writing: bool,
    xsrf: Optional[str],
    size: int,
    form: bool = False,
) -> List[Tuple[str, str]]:
    """The headers of a request that came through a socket with the headers ``handshake``.

    The user is who opened the socket.  ``cookies`` replace those of the handshake, unless they are None.  Along with a
    ``writing`` method goes ``xsrf``, the XSRF token of the cookies, since a page elsewhere can't read it; it is safe
    to add, as the socket's Origin was checked when it was opened.  The body of a ``form`` is said to be one: a
    page can't say what it sends, and without a word of it a handler finds no arguments there.
    """
    dropped = set(_OF_THE_HANDSHAKE)
    for name, value in handshake:
        if name.lower() == "connection":  # it names what else is meant for the next hop alone
            dropped.update(part.strip().lower() for part in value.split(","))
    if cookies is not None:
        dropped.add("cookie")
    kept = [(name, value) for name, value in handshake if _lasting(name.lower(), dropped)]
    if cookies:
        kept.append(("Cookie", cookies))
    if writing and xsrf and _HEADER_VALUE.fullmatch(xsrf):
        kept.append(("X-XSRFToken", xsrf))
    if size or writing:
        kept.append(("Content-Length", str(size)))
    if form:
        kept.append(("Content-Type", "application/x-www-form-urlencoded"))
    return kept


def redirected(
    status: int, location: Optional[str], *, method: str, path: str, scheme: str, host: str
) -> Optional[Tuple[str, str]]:
    """The method and path to go on with after an answer with ``status`` and ``location``; None to hand it on as it is.

    Never leaves the server: a redirect elsewhere is the page's to follow.
    """
    if status not in (301, 302, 303, 307, 308) or not location:
        return None
    try:
        url = urlsplit(urljoin(f"{scheme}://{host}{path}", location))
    except ValueError:
        return None
    if (url.scheme, url.netloc) != (scheme, host):
        return None
    target = fit_path(url.path + ("?" + url.query if url.query else ""))
    if target is None:
        return None
    to_get = (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")
    return ("GET" if to_get else method), target


def _lasting(name: str, dropped: AbstractSet[str]) -> bool:
    return name not in dropped and not name.startswith(("sec-websocket-", "if-"))


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
