"""A socket to a VM through Identity-Aware Proxy, for VMs without an external address; needs no gcloud.

One thread carries the bytes between a pair of sockets and a WebSocket (:mod:`remote_runtime.providers.gce.iap_pump`).
Import this late: it brings a library for WebSockets with it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from remote_runtime._threads import Deadline, ThreadGroup
from remote_runtime.providers.gce import iap_failures as failures
from remote_runtime.providers.gce import iap_protocol as protocol
from remote_runtime.providers.gce.failures import LOG_IN_AGAIN
from remote_runtime.providers.gce.iap_failures import Ended
from remote_runtime.providers.gce.iap_protocol import Malformed, Target
from remote_runtime.providers.gce.iap_pump import Pump

OPEN_SECONDS = 60.0
"""The relay may take long to find out that the VM does not answer."""


def dial(
    *,
    project: str,
    zone: str,
    instance: str,
    port: int,
    token: Callable[[], str],
    deadline: Deadline,
    interface: str = "nic0",
    endpoint: str = "",
    login: str = LOG_IN_AGAIN,
) -> Tunnel:
    """A socket that is joined to ``port`` of a VM; whoever has it closes it, which ends the thread behind it.

    ``endpoint`` is the relay's URL, empty for Google's.  ``login`` says how the credentials are renewed.

    ``token`` gives an access token that is good now; when the relay wants another one it is asked again, in that
    thread.  A half-close is not passed on, as the protocol has none: what was written goes out, and reading goes on.

    Raises :class:`UsageError` (``bad_endpoint``), :class:`InstanceError` (``permission_denied``,
    ``credentials_rejected``, ``iap_refused``), :class:`NetworkError` (``unreachable``: the port does not answer,
    ``instance_not_running``, ``certificate_untrusted``, ``tls_failed``, ``connection_lost``, ``iap_failing``,
    ``iap_protocol``), ``TimedOut``, what ``token`` raises, and what :func:`iap_tcp.tcp` does.
    """
    target = Target(project, zone, instance, port, interface)
    pump = Pump(protocol.endpoint_from(endpoint), target, token)
    try:
        pump.open(deadline.sooner(OPEN_SECONDS))
        return Tunnel(pump)
    except BaseException as error:
        pump.close()
        if isinstance(error, Ended):
            raise failures.explained(error, target, login) from error
        if isinstance(error, Malformed):
            raise failures.malformed(target, str(error)) from error
        raise


class Tunnel(socket.socket):
    """The owner's end: a socket like any other, whose close also ends the thread that serves it."""

    def __init__(self, pump: Pump) -> None:
        far = pump.far
        super().__init__(far.family, far.type, far.proto, far.detach())
        self._threads = ThreadGroup(pump.leave)
        self._threads.spawn("iap-tunnel", pump.run)

    def close(self) -> None:
        """Have what was written sent, as far as that is quick, and end; safe to call twice, from any thread."""
        super().close()
        self._threads.close()
