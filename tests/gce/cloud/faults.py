"""What a test orders to go wrong, and the operation errors that users of the real thing know."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from tests.gce.cloud.refusals import Refused


@dataclass(frozen=True)
class Refuse:
    """The request is refused, and nothing done."""

    error: Refused


@dataclass(frozen=True)
class Drop:
    """The connection is closed without an answer; whether the request was done first is ``done``."""

    done: bool = True


@dataclass(frozen=True)
class Late:
    """The answer comes so many seconds late."""

    seconds: float


@dataclass(frozen=True)
class DoneLate:
    """The request is done, and answered, so many seconds late; done all the same if nobody waits for the answer."""

    seconds: float


@dataclass(frozen=True)
class Slow:
    """The operation takes so many seconds more."""

    seconds: float


@dataclass(frozen=True)
class OperationFails:
    """The request is accepted, and its operation ends with this error; an instance that it made disappears."""

    code: str
    message: str
    status: int
    status_text: str
    details: tuple[Mapping[str, Any], ...] = ()

    def fields(self) -> dict[str, Any]:
        """Those of the Operation that say so."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = [dict(detail) for detail in self.details]
        return {
            "error": {"errors": [error]},
            "httpErrorStatusCode": self.status,
            "httpErrorMessage": self.status_text,
        }


@dataclass(frozen=True)
class Meanwhile:
    """Right after the request was done, something happens in the cloud; the world's lock is held."""

    happen: Callable[[], None]


Fault = Union[Refuse, Drop, Late, DoneLate, Slow, OperationFails, Meanwhile]
Kind = TypeVar("Kind", Refuse, Drop, Late, DoneLate, Slow, OperationFails, Meanwhile)


def stock_out(project: str, zone: str, *, vm_type: str = "n1-standard-4") -> OperationFails:
    """The zone has no such machine at the moment."""
    message = (
        f"The zone 'projects/{project}/zones/{zone}' does not have enough resources available to fulfill the request.  "
        "Try a different zone, or try again later."
    )
    url = "https://cloud.google.com/compute/docs/resource-error"
    info = {
        "domain": "compute.googleapis.com",
        "reason": "resource_availability",
        "metadatas": {"vmType": vm_type, "zonesAvailable": "", "zone": zone},
    }
    return OperationFails(
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        message,
        503,
        "SERVICE UNAVAILABLE",
        (
            {"help": {"links": [{"description": "Troubleshooting documentation", "url": url}]}},
            {"localizedMessage": {"locale": "en-US", "message": message}},
            {"errorInfo": info},
        ),
    )


def quota_exceeded(metric: str, region: str, *, limit: float = 0.0) -> OperationFails:
    """``metric`` is "NVIDIA_T4_GPUS"; the region is "" for the quota over all regions."""
    where = f"in region {region}." if region else "globally."
    info = {
        "metricName": f"compute.googleapis.com/{metric.lower()}",
        "limitName": f"{metric.replace('_', '-')}-per-project{'-region' if region else ''}",
        "dimensions": {"region": region} if region else {},
        "limit": limit,
    }
    message = f"Quota '{metric}' exceeded.  Limit: {limit:.1f} {where}"
    return OperationFails("QUOTA_EXCEEDED", message, 403, "FORBIDDEN", ({"quotaInfo": info},))


@dataclass
class _Plan:
    method: str
    fault: Fault
    zone: str | None
    skip: int
    left: int


@dataclass
class Faults:
    """The orders that are not used up."""

    _plans: list[_Plan] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, method: str, fault: Fault, *, times: int = 1, after: int = 0, zone: str | None = None) -> None:
        """Let ``method`` ("instances.insert", or "*" for all) go wrong so many times, after so many that go well."""
        with self._lock:
            self._plans.append(_Plan(method, fault, zone, after, times))

    def take(self, method: str, zone: str | None, kind: type[Kind]) -> Kind | None:
        """The first fault of that kind that concerns this request, used up by it."""
        with self._lock:
            for plan in self._plans:
                fault = plan.fault
                concerned = plan.method in (method, "*") and plan.zone in (None, zone)
                if not concerned or not plan.left or not isinstance(fault, kind):
                    continue
                if plan.skip:
                    plan.skip -= 1
                    continue
                plan.left -= 1
                return fault
        return None

    @property
    def unused(self) -> list[str]:
        """Methods whose orders are not used up: a test of a fault that never happened tests nothing."""
        with self._lock:
            return [plan.method for plan in self._plans if plan.left]

    def clear(self) -> None:
        with self._lock:
            self._plans.clear()
