"""How a WebSocket to Identity-Aware Proxy ends, what that means, and the cure.  Pure; decided by codes, not by text."""

from __future__ import annotations

import shlex

from remote_runtime.errors import InstanceError, NetworkError, RemoteRuntimeError
from remote_runtime.providers.gce.failures import TRUST_HINT, UNTRUSTED
from remote_runtime.providers.gce.iap_protocol import Target
from remote_runtime.providers.gce.reach import IAP_RANGE
from remote_runtime.text import printable

NORMAL = 1000
SID_IN_USE = 4002
BACKEND_FAILED = 4003
REAUTHENTICATE = 4004
NOT_AUTHORIZED = 4033
LOOKUP_FAILED, LOOKUP_FAILED_AGAIN = 4047, 4051

_PASSING = (1001, 1011, 1012, 1013, 1014, SID_IN_USE, REAUTHENTICATE)
"""A server that goes away, restarts or is too busy; the relay has not noticed the last end yet; an old token."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 5.0


class Ended(Exception):
    """A WebSocket ended, or was not opened: ``status`` of HTTP, or ``code`` and ``reason`` of the closing frame.

    All zero or empty: it was cut.
    """

    def __init__(self, *, status: int = 0, code: int = 0, reason: str = "") -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code
        self.reason = reason

    @property
    def wants_token(self) -> bool:
        """Whether another token is asked for."""
        return self.status == 401 or self.code == REAUTHENTICATE

    @property
    def may_resume(self) -> bool:
        """Whether the session may be taken up again over another WebSocket."""
        if self.code:
            return self.code in _PASSING
        return self.status in (0, 401, 408, 429) or self.status >= 500


def pause(attempt: int, chance: float) -> float:
    """Seconds to wait before the attempt of this number, from 0; ``chance`` is between 0 and 1."""
    if not attempt:
        return 0.0
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 8))
    return longest * (0.5 + chance / 2)


def explained(end: Ended, target: Target, login: str) -> RemoteRuntimeError:
    """The error for a WebSocket that could not be opened, or ended before the relay agreed.

    ``login`` says how credentials are renewed.
    """
    name = target.instance
    if end.wants_token:
        return InstanceError("IAP does not accept the credentials", hint=login, code="credentials_rejected")
    if end.status == 403 or end.code == NOT_AUTHORIZED:
        return _not_authorized(target)
    if end.code == BACKEND_FAILED:
        return _not_reached(target)
    if end.code in (LOOKUP_FAILED, LOOKUP_FAILED_AGAIN):
        return NetworkError(
            f"IAP finds no running VM {name} in {target.zone}",
            hint="Is it running, with this name, in this zone and project? `remote-runtime start` starts it.",
            code="instance_not_running",
        )
    if end.status and not end.may_resume:
        return InstanceError(
            f"IAP refuses a connection to {name} (HTTP status {end.status})",
            hint=f"Is the API enabled? gcloud services enable iap.googleapis.com --project={target.project}",
            code="iap_refused",
        )
    if not (end.status or end.code):
        return NetworkError(
            f"IAP hung up before {name} was reached", hint="Try again in a moment.", code="connection_lost"
        )
    said = f"HTTP status {end.status}" if end.status else f"code {end.code}"
    reason = f": {printable(end.reason)}" if end.reason else ""
    return NetworkError(f"IAP fails to reach {name} ({said}{reason})", hint="Try again later.", code="iap_failing")


def malformed(target: Target, why: str) -> RemoteRuntimeError:
    """The error for a relay that does not speak the protocol."""
    return NetworkError(
        f"What answers in IAP's place on the way to {target.instance} does not speak its protocol: {printable(why)}",
        hint="Does a proxy stand between? Otherwise this is a defect in remote-runtime: please report it.",
        code="iap_protocol",
    )


def untrusted(host: str, why: str) -> RemoteRuntimeError:
    """The error for a certificate that nobody vouches for; nothing was sent there."""
    return NetworkError(
        f"The certificate of {host} is not trusted: {printable(why)}",
        hint=TRUST_HINT,
        code=UNTRUSTED,
    )


def _not_authorized(target: Target) -> RemoteRuntimeError:
    argv = ["gcloud", "projects", "add-iam-policy-binding", target.project, "--member=user:YOU"]
    argv.append("--role=roles/iap.tunnelResourceAccessor")
    return InstanceError(
        f"You may not connect to {target.instance} through IAP",
        hint=f"Somebody who may has to grant it: {shlex.join(argv)}",
        code="permission_denied",
    )


def _not_reached(target: Target) -> RemoteRuntimeError:
    argv = ["gcloud", "compute", "firewall-rules", "create", "ssh-from-iap", f"--project={target.project}"]
    argv += ["--network=default", "--direction=INGRESS", f"--allow=tcp:{target.port}", f"--source-ranges={IAP_RANGE}"]
    return NetworkError(
        f"IAP gets no answer from port {target.port} of {target.instance}",
        hint="Its SSH server may not run (is it still booting?), or no firewall rule of its network lets IAP in.\n"
        f"Such a rule, to be given the name of that network: {shlex.join(argv)}",
        code="unreachable",
    )
