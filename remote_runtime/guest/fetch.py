"""HTTP for the installer: TLS, proxy and credentials as pip's configuration says, and errors sorted by what to do next.

Only what the standard library has, since this runs before anything is installed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import os
import selectors
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

from .pipconf import PipConfig, credentials, is_trusted, redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

CONNECT_SECONDS = 8.0
PAGE_LIMIT = 64 << 20
CHUNK = 1 << 18
PAGE_TYPES = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
# Where systems keep the certificates they trust, for a Python that was built to look elsewhere.
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class FetchError(Exception):
    """A file could not be had, and ``kind`` sorts the reason.

    ``unreachable`` (no way to the server, or the connection broke), ``certificate`` (its certificate is not trusted),
    ``refused`` (it answered with an error), ``missing`` (it does not have the file), ``hash`` (the content is not the
    one that was expected), ``disk`` (it can't be written here) and ``timeout`` (the deadline passed).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Fetcher:
    """Reads URLs until ``deadline`` (monotonic seconds).  Keeps no connection open; several threads may use it.

    A server that takes no connection within ``connect_seconds`` is not tried again.
    """

    def __init__(self, config: PipConfig, deadline: float, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._config = config
        self._deadline = deadline
        self._connect_seconds = connect_seconds
        self._tls: dict[bool, ssl.SSLContext] = {}
        self._probed: dict[tuple[str, int], FetchError | None] = {}
        self._lock = threading.Lock()
        # A file is often on the index's own host, behind a link that names no account.
        self._accounts = {}
        for place in (*config.indexes, *config.find_links):
            with suppress(ValueError):  # a malformed one is refused when it is asked
                bare, user, password = credentials(place)
                if user:
                    self._accounts[urlsplit(bare).netloc] = "{}:{}".format(user, password)

    def page(self, url: str) -> tuple[bytes, str, str]:
        """The content of a page, its content type, and the URL that it came from in the end."""
        with ExitStack() as opened:
            answer = opened.enter_context(self._open(url, PAGE_TYPES))
            body = _read(answer, url, PAGE_LIMIT)
            if answer.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            return body, answer.headers.get_content_type(), answer.geturl()

    def copy(self, url: str, out: IO[bytes]) -> str:
        """Write what is at ``url`` to ``out`` and return its sha256."""
        digest = hashlib.sha256()
        size = 0
        with ExitStack() as opened:
            answer = opened.enter_context(self._open(url, "*/*"))
            expected = answer.headers.get("Content-Length") or ""
            chunk = _read(answer, url, CHUNK)
            while chunk:
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
                self._left(url)
                chunk = _read(answer, url, CHUNK)
        if expected.isdigit() and size < int(expected):
            raise FetchError("unreachable", "{}: the download broke off after {} bytes".format(redacted(url), size))
        return digest.hexdigest()

    def _open(self, url: str, accept: str) -> Any:
        try:
            request, handlers = self._prepared(url, accept)
            timeout = min(self._config.timeout, self._left(url))
            return urllib.request.build_opener(*handlers).open(request, timeout=timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _sorted(error, redacted(url)) from error

    def _prepared(self, url: str, accept: str) -> tuple[urllib.request.Request, list[urllib.request.BaseHandler]]:
        """The request and what handles it, once something is known to listen at the other end."""
        bare = credentials(url)[0]
        request = urllib.request.Request(bare, headers={"Accept": accept, "User-Agent": "remote-runtime"})
        if accept == PAGE_TYPES:
            request.add_header("Accept-Encoding", "gzip")
        account = self._accounts.get(urlsplit(bare).netloc)
        if account:
            encoded = base64.b64encode(account.encode()).decode()
            request.add_unredirected_header("Authorization", "Basic " + encoded)  # another host must not get it
        proxies = self._proxies(bare)
        if not proxies:
            self._probe(bare)
        context = self._context(is_trusted(bare, self._config.trusted_hosts))
        return request, [urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)]

    def _proxies(self, url: str) -> dict[str, str]:
        """The proxy for ``url`` by its scheme, nothing if it is reached directly."""
        parts = urlsplit(url)
        proxies = urllib.request.getproxies()
        if self._config.proxy:
            proxies = {"http": self._config.proxy, "https": self._config.proxy}
        elif urllib.request.proxy_bypass(parts.hostname or ""):
            proxies = {}
        return {scheme: proxy for scheme, proxy in proxies.items() if scheme == parts.scheme}

    def _context(self, trusted: bool) -> ssl.SSLContext:
        with self._lock:
            if trusted not in self._tls:
                self._tls[trusted] = tls_context(self._config.cert, trusted=trusted)
            return self._tls[trusted]

    def _probe(self, url: str) -> None:
        """Fail soon where packets are dropped: a whole row of addresses, each with its timeout, would take minutes."""
        parts = urlsplit(url)
        if parts.scheme == "file" or not parts.hostname:
            return
        address = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        with self._lock:
            if address not in self._probed:
                try:
                    connect_any(address[0], address[1], min(self._connect_seconds, self._left(url)))
                    self._probed[address] = None
                except OSError as error:
                    self._probed[address] = FetchError("unreachable", "{}: {}".format(address[0], _words(error)))
            failure = self._probed[address]
        if failure is not None:
            raise FetchError(failure.kind, str(failure))

    def _left(self, url: str) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise FetchError("timeout", "no time is left to fetch {}".format(redacted(url)))
        return left


def tls_context(cert: str, *, trusted: bool) -> ssl.SSLContext:
    """How to judge a server: by ``cert`` (a bundle or a directory) or the system's, or not at all if ``trusted``.

    Raises :class:`FetchError` if ``cert`` can't be read.
    """
    if trusted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if cert:
            is_directory = os.path.isdir(cert)
            return ssl.create_default_context(
                cafile=None if is_directory else cert, capath=cert if is_directory else None
            )
        context = ssl.create_default_context()
        if ssl.get_default_verify_paths().cafile is None:
            for bundle in filter(os.path.isfile, SYSTEM_BUNDLES):
                context.load_verify_locations(bundle)
        return context
    except OSError as error:
        raise FetchError("certificate", "can't read the certificates in {}: {}".format(cert, _words(error))) from error


def connect_any(host: str, port: int, seconds: float) -> None:
    """Return as soon as one of ``host``'s addresses takes a connection; all are tried at once.

    Raises :class:`OSError` if none does within ``seconds``.
    """
    last: OSError = socket.timeout("no answer within {:g} s".format(seconds))
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector, ExitStack() as opened:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            attempt = opened.enter_context(socket.socket(family, kind, protocol))
            attempt.setblocking(False)
            try:
                attempt.connect(address)
            except BlockingIOError:
                selector.register(attempt, selectors.EVENT_WRITE)
            except OSError as error:
                last = error
            else:
                return
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                ready: Any = key.fileobj
                code = ready.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return
                last = OSError(code, os.strerror(code))
                selector.unregister(ready)
        if selector.get_map():
            last = socket.timeout("no answer within {:g} s".format(seconds))
    raise last


def _read(answer: Any, url: str, size: int) -> bytes:
    try:
        content: bytes = answer.read(size)
        return content
    except (OSError, http.client.HTTPException) as error:
        raise FetchError("unreachable", "{}: the download broke off: {}".format(redacted(url), error)) from error


def _sorted(error: Exception, url: str) -> FetchError:
    """``error`` of an attempt to open ``url`` as a :class:`FetchError`."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        kind = "missing" if error.code in (404, 410) else "refused"
        return FetchError(kind, "{} answered {} {}".format(url, error.code, error.reason))
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLError):
        return FetchError("certificate", "{}: {}".format(url, getattr(reason, "verify_message", "") or _words(reason)))
    if isinstance(reason, FileNotFoundError) or url.startswith("file:"):
        return FetchError("missing", "{} is not there".format(url))
    if isinstance(error, ValueError):
        return FetchError("refused", "{} is no address that can be fetched".format(url))
    return FetchError("unreachable", "{}: {}".format(url, _words(reason)))


def _words(error: object) -> str:
    return str(getattr(error, "strerror", "") or error)
