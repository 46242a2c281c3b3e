"""A TCP connection to Identity-Aware Proxy's relay, straight or through a proxy."""

from __future__ import annotations

import socket

from remote_runtime._threads import Deadline
from remote_runtime.errors import NetworkError
from remote_runtime.providers.gce import iap_proxy
from remote_runtime.providers.gce.iap_proxy import Proxy
from remote_runtime.providers.gce.iap_tls import wait
from remote_runtime.ssh import dial


def tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A socket that does not block, joined to ``port`` of ``host``.

    Raises what :func:`remote_runtime.ssh.dial.tcp` does; of a proxy :class:`UsageError` (``proxy_unsupported``),
    :class:`InstanceError` (``proxy_refused``), :class:`NetworkError` (``proxy_failed``, ``proxy_unreachable``).
    """
    proxy = iap_proxy.proxy_for(host, port)
    sock = _to_proxy(proxy, deadline) if proxy else dial.tcp(host, port, deadline)
    try:
        sock.setblocking(False)
        if proxy:
            _ask(sock, proxy, host, port, deadline)
        return sock
    except BaseException:
        sock.close()
        raise


def _to_proxy(proxy: Proxy, deadline: Deadline) -> socket.socket:
    try:
        return dial.tcp(proxy.host, proxy.port, deadline)
    except NetworkError as error:
        if deadline.expired:
            raise
        raise iap_proxy.unreachable(proxy, error) from error


def _ask(sock: socket.socket, proxy: Proxy, host: str, port: int, deadline: Deadline) -> None:
    """Have the proxy connect us; what comes after its answer is the relay's."""
    answer = b""
    try:
        sock.send(iap_proxy.connect_request(proxy, host, port))  # so little always has room on a new connection
        while iap_proxy.END not in answer and len(answer) < iap_proxy.ANSWER_BYTES:
            deadline.check(f"waiting for the proxy {proxy.host}")
            wait(sock, deadline, write=False)
            try:
                data = sock.recv(iap_proxy.ANSWER_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            if not data:
                break
            answer += data
    except OSError as error:
        raise iap_proxy.refused(proxy, host, 0) from error
    status = iap_proxy.status_of(answer)
    if not (200 <= status < 300 and answer.endswith(iap_proxy.END)):  # the relay waits for us to begin
        raise iap_proxy.refused(proxy, host, status if status >= 300 else 0)
