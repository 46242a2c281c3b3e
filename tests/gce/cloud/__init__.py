"""A stand-in for Google's cloud, for tests: the Compute, OS Login and metadata APIs over HTTP, and VMs that boot.

Every request is judged by the published schema of the API; every answer too, see ``Cloud.problems``.
Nothing here isolates anything from the account that runs it.
"""

from __future__ import annotations

from tests.gce.cloud.cloud import Cloud
from tests.gce.cloud.faults import (
    DoneLate,
    Drop,
    Fault,
    Late,
    Meanwhile,
    OperationFails,
    Refuse,
    Slow,
    quota_exceeded,
    stock_out,
)
from tests.gce.cloud.refusals import Refused, api_disabled, billing_off, forbidden
from tests.gce.cloud.service import Call
from tests.gce.cloud.system import unavailable
from tests.gce.cloud.vm import Vm

__all__ = [
    "Call",
    "Cloud",
    "DoneLate",
    "Drop",
    "Fault",
    "Late",
    "Meanwhile",
    "OperationFails",
    "Refuse",
    "Refused",
    "Slow",
    "Vm",
    "api_disabled",
    "billing_off",
    "forbidden",
    "quota_exceeded",
    "stock_out",
    "unavailable",
]
