"""What Google says when it does not do what was asked, and the cure.  Pure; decided by codes, never by text.

A refusal comes as the answer to a request, or later as the end of an operation; both are read into a :class:`Fault`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remote_runtime.errors import InstanceError
from remote_runtime.text import printable

LOGIN = "gcloud auth application-default login"
LOG_IN_AGAIN = f"Log in again: {LOGIN}"
SOLD_OUT = ("ZONE_RESOURCE_POOL_EXHAUSTED", "RESOURCE_POOL_EXHAUSTED", "STOCKOUT")
UNTRUSTED = "certificate_untrusted"
"""The reason, of our own, in the fault when nobody vouches for the certificate of what answers in Google's place."""
TRUST_HINT = "If a proxy of your network stands between, name its certificate authority in SSL_CERT_FILE."
_QUOTA = ("QUOTA_EXCEEDED", "quotaExceeded", "QUOTA_LIMIT_EXCEEDED")
_BILLING = ("billingNotEnabled", "BILLING_DISABLED", "accountClosed", "PROJECT_BILLING_DISABLED")
_DISABLED = ("accessNotConfigured", "SERVICE_DISABLED")
_RATE = ("rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED")
_NO_PROJECT = ("CONSUMER_INVALID", "USER_PROJECT_DENIED", "consumerInvalid")
_BUSY = ("resourceNotReady", "RESOURCE_NOT_READY", "resourceInUseByAnotherResource", "RESOURCE_IN_USE")


@dataclass(frozen=True)
class Fault:
    """A refusal: the HTTP status (0: no answer came), the codes in it, and the facts that come with them.

    ``operation``: it is the end of an operation, whose 503 means something else than a request's.
    """

    status: int
    reasons: tuple[str, ...] = ()
    message: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    operation: bool = False

    def says(self, *reasons: str) -> bool:
        """Whether one of these codes is in it."""
        return any(reason in self.reasons for reason in reasons)

    @property
    def sold_out(self) -> bool:
        """Whether the zone has no such machine left."""
        return any(reason.startswith(SOLD_OUT) for reason in self.reasons)

    @property
    def transient(self) -> bool:
        """Whether the same request may go through in a moment."""
        if self.operation or self.says(UNTRUSTED):
            return False
        return self.status in (0, 429, 500, 502, 503, 504) or self.says(*_RATE)

    @property
    def busy(self) -> bool:
        """Whether the machine is in the middle of something else."""
        return self.says(*_BUSY)


@dataclass(frozen=True)
class Task:
    """What was being done: in words (``"finding trainer"``), the permission that it takes, and where.

    ``login`` says how the credentials are renewed.
    """

    doing: str
    permission: str
    project: str
    account: str = ""
    login: str = LOG_IN_AGAIN


class CloudError(InstanceError):
    """Google did not do what was asked; ``fault`` says what it said."""

    code = "cloud_refused"

    def __init__(
        self, message: str, *, fault: Fault, hint: str = "", code: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code, retryable=retryable)
        self.fault = fault


def read_answer(status: int, payload: Any) -> Fault:
    """The fault in the answer to a request: its HTTP status and its JSON body, whatever that is."""
    error = payload.get("error") if isinstance(payload, Mapping) else None
    if not isinstance(error, Mapping):
        return Fault(status)
    reasons = [str(one.get("reason", "")) for one in _mappings(error.get("errors"))]
    facts: dict[str, str] = {}
    for detail in _mappings(error.get("details")):
        reasons.insert(0, str(detail.get("reason", "")))
        facts.update({str(key): str(value) for key, value in (detail.get("metadata") or {}).items()})
    return Fault(status, _clean(reasons), printable(str(error.get("message", ""))), facts)


def read_operation(operation: Mapping[str, Any]) -> Fault | None:
    """The fault by which an operation ended; None if it ended well."""
    errors = list(_mappings((operation.get("error") or {}).get("errors")))
    if not errors and not operation.get("httpErrorStatusCode"):
        return None
    reasons, facts = [], {}
    for error in errors:
        reasons.append(str(error.get("code", "")))
        for detail in _mappings(error.get("errorDetails")):
            info, quota = detail.get("errorInfo") or {}, detail.get("quotaInfo") or {}
            reasons.append(str(info.get("reason", "")))
            facts.update({str(key): str(value) for key, value in (info.get("metadatas") or {}).items()})
            facts.update({key: str(quota[key]) for key in ("metricName", "limitName", "limit") if key in quota})
            facts.update({str(key): str(value) for key, value in (quota.get("dimensions") or {}).items()})
    message = next((str(error.get("message", "")) for error in errors), "") or operation.get("httpErrorMessage", "")
    status = int(operation.get("httpErrorStatusCode") or 0)
    return Fault(status, _clean(reasons), printable(str(message)), facts, operation=True)


def explained(fault: Fault, task: Task) -> CloudError:
    """The error for a fault, with what cures it."""
    message, hint, code, retryable = _explain(fault, task)
    said = f": {fault.message}" if fault.message and code not in _SELF_EXPLANATORY else ""
    return CloudError(f"{message}{said}", fault=fault, hint=hint, code=code, retryable=retryable)


_SELF_EXPLANATORY = (
    "api_disabled",
    "api_unreachable",
    "billing_disabled",
    "credentials_rejected",
    "project_not_found",
    "quota_exceeded",
    "stock_out",
)

_Said = tuple[str, str, str, bool]  # message, hint, code, retryable


def _explain(fault: Fault, task: Task) -> _Said:
    project = task.project
    if fault.sold_out:
        where = f" in {fault.facts['zone']}" if fault.facts.get("zone") else ""
        hint = "Try other zones (--zone can be repeated, --region takes all of one), or wait with --retry-until-up."
        return f"Google has no such machine left{where}", hint, "stock_out", True
    if fault.says(*_QUOTA):
        return _quota(fault, task)
    if fault.says(*_DISABLED):
        service = fault.facts.get("service") or "compute.googleapis.com"
        hint = f"Enable it: gcloud services enable {service} --project={project}"
        return f"The API {service} is not enabled in the project {project}", hint, "api_disabled", False
    if fault.says(*_BILLING):
        hint = f"Link a billing account: gcloud billing projects link {project} --billing-account=ACCOUNT_ID"
        return f"Billing is not enabled for the project {project}", hint, "billing_disabled", False
    if fault.says(*_NO_PROJECT):
        return project_not_found(project)
    if fault.says(*_RATE) or fault.status == 429:
        return "Google asks us to slow down", "Try again in a minute.", "rate_limited", True
    return _by_status(fault, task)


def _by_status(fault: Fault, task: Task) -> _Said:
    if fault.busy:
        return f"The machine is busy while {task.doing}", "Try again in a moment.", "instance_busy", True
    if fault.operation:
        return f"Google failed in {task.doing}", "Try again, or see what it says.", "operation_failed", False
    if fault.says(UNTRUSTED):
        return f"The certificate of Google's API is not trusted, {task.doing}", TRUST_HINT, UNTRUSTED, False
    if fault.status == 0:
        hint = "Check that this computer is online; behind a proxy set HTTPS_PROXY."
        return f"Google's API can't be reached, {task.doing}", hint, "api_unreachable", True
    if fault.status == 401:
        return "Google does not accept the credentials", task.login, "credentials_rejected", False
    if fault.status == 403:
        return _forbidden(fault, task)
    if fault.status == 404:
        return f"Not found, {task.doing}", "Check the names, the zone and the project.", "cloud_not_found", False
    if fault.status == 409:
        hint = "Connect to it, or take another name."
        return f"There is something of that name already, {task.doing}", hint, "instance_exists", False
    if fault.status == 412:
        hint = "An organization policy may forbid it: ask its administrator, or leave out what it forbids."
        return f"A condition is not met, {task.doing}", hint, "condition_not_met", False
    if fault.status >= 500:
        return f"Google's API fails, {task.doing} (status {fault.status})", "Try again later.", "api_failing", True
    return f"Google refuses the request, {task.doing}", "See what it says.", "bad_request", False


def _forbidden(fault: Fault, task: Task) -> _Said:
    permission = fault.facts.get("permission") or task.permission
    member = f"user:{task.account}" if task.account else "user:YOU"
    if task.account.endswith(".gserviceaccount.com"):
        member = f"serviceAccount:{task.account}"
    hint = (
        f"Somebody who may has to grant it: gcloud projects add-iam-policy-binding {task.project} "
        f"--member={member} --role={_role(permission)}"
    )
    message = f"The permission {permission} is missing in the project {task.project} for {task.doing}"
    return message, hint, "permission_denied", False


def _role(permission: str) -> str:
    if permission.startswith("iap."):
        return "roles/iap.tunnelResourceAccessor"
    if permission.startswith("iam."):
        return "roles/iam.serviceAccountUser"
    return "roles/compute.osAdminLogin" if "oslogin" in permission.lower() else "roles/compute.instanceAdmin.v1"


def _quota(fault: Fault, task: Task) -> _Said:
    facts = fault.facts
    name = facts.get("limitName") or facts.get("metricName", "").rpartition("/")[2]
    message = f"The quota {name} is used up" if name else "A quota is used up"
    if facts.get("region"):
        message += f" in {facts['region']}"
    if facts.get("limit"):
        message += f" (its limit is {facts['limit'].removesuffix('.0')})"
    if not name and fault.message:
        message += f": {fault.message}"
    page = f"https://console.cloud.google.com/iam-admin/quotas?project={task.project}"
    hint = f"Ask for more of it: {page}\nOr take another region, or delete what you no longer need."
    return message, hint, "quota_exceeded", False


def project_not_found(project: str) -> _Said:
    """What to say of a project that is not there, or not for us."""
    hint = "`gcloud projects list` shows yours; name one with --project."
    return f"There is no project {project}, or you have no access to it", hint, "project_not_found", False


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    for one in value if isinstance(value, list) else []:
        if isinstance(one, Mapping):
            yield one


def _clean(reasons: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason for reason in reasons if reason))
