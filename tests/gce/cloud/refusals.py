"""Refusals as Google's APIs word them: a status, a reason that programs read, a message that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}

_USUAL_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "alreadyExists",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "internalError",
    501: "notImplemented",
    503: "backendError",
}


class Refused(Exception):
    """A request is answered with an error.

    ``reason`` is that of ``error.errors[0]``; ``details`` are typed objects of ``error.details``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str | None = None,
        domain: str = "global",
        details: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason or _USUAL_REASONS.get(status, "unknown")
        self.domain = domain
        self.details = tuple(details)

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        error: dict[str, Any] = {
            "code": self.status,
            "message": self.message,
            "errors": [{"message": self.message, "domain": self.domain, "reason": self.reason}],
        }
        if self.status in _STATUS_NAMES:
            error["status"] = _STATUS_NAMES[self.status]
        if self.details:
            error["details"] = [dict(detail) for detail in self.details]
        return {"error": error}


def not_found(path: str) -> Refused:
    """``path`` is "projects/p/zones/z/instances/i"."""
    return Refused(404, f"The resource '{path}' was not found")


def already_exists(path: str) -> Refused:
    return Refused(409, f"The resource '{path}' already exists")


def not_ready(path: str) -> Refused:
    """It is in the middle of a change of state."""
    return Refused(400, f"The resource '{path}' is not ready", reason="resourceNotReady")


def invalid(field: str, value: object, why: str) -> Refused:
    """``field`` is "resource.machineType"."""
    return Refused(400, f"Invalid value for field '{field}': '{value}'. {why}")


def fingerprint_differs(what: str) -> Refused:
    """``what`` is "metadata" or "labels"."""
    return Refused(412, f"Supplied fingerprint does not match current {what} fingerprint.")


def unauthenticated() -> Refused:
    text = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
    return Refused(401, f"{text} authentication credential.", details=[error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED")])


def forbidden(permission: str, resource: str) -> Refused:
    """The caller lacks an IAM permission."""
    details = [error_info("IAM_PERMISSION_DENIED", permission=permission, resource=resource)]
    return Refused(403, f"Required '{permission}' permission for '{resource}'", details=details)


def api_disabled(service: str, project_number: str) -> Refused:
    """``service`` is "compute.googleapis.com"."""
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={project_number}"
    link = {"description": "Google developers console API activation", "url": url}
    return Refused(
        403,
        f"Compute Engine API has not been used in project {project_number} before or it is disabled. Enable it by "
        f"visiting {url} then retry. If you enabled this API recently, wait a few minutes for the action to propagate "
        "to our systems and retry.",
        reason="accessNotConfigured",
        domain="usageLimits",
        details=[
            {"@type": "type.googleapis.com/google.rpc.Help", "links": [link]},
            error_info("SERVICE_DISABLED", service=service, consumer=f"projects/{project_number}"),
        ],
    )


def billing_off(project_number: str) -> Refused:
    return Refused(
        403,
        f"This API method requires billing to be enabled. Please enable billing on project #{project_number} by "
        f"visiting https://console.developers.google.com/billing/enable?project={project_number} then retry.",
        details=[
            error_info("BILLING_DISABLED", service="compute.googleapis.com", consumer=f"projects/{project_number}")
        ],
    )


def error_info(reason: str, *, domain: str = "googleapis.com", **metadata: str) -> dict[str, Any]:
    """The structured half of an error, google.rpc.ErrorInfo."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}
