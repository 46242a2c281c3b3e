"""What Google refuses, by its codes, and what cures it."""

from __future__ import annotations

from typing import Any

import pytest

from remote_runtime.providers.gce.failures import CloudError, Fault, Task, explained, read_answer, read_operation

TASK = Task("finding trainer", "compute.instances.get", "proj", "ada@example.com")


def answer(reason: str = "", status: int = 403, **metadata: str) -> Fault:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}]
    return read_answer(
        status, {"error": {"code": status, "message": "so", "errors": [{"reason": reason}], "details": details}}
    )


@pytest.mark.parametrize(
    ("fault", "code", "cure", "retryable"),
    [
        (
            answer("accessNotConfigured"),
            "api_disabled",
            "gcloud services enable compute.googleapis.com --project=proj",
            False,
        ),
        (
            answer("SERVICE_DISABLED", service="oslogin.googleapis.com"),
            "api_disabled",
            "enable oslogin.googleapis.com",
            False,
        ),
        (answer("BILLING_DISABLED"), "billing_disabled", "gcloud billing projects link proj", False),
        (answer("CONSUMER_INVALID"), "project_not_found", "gcloud projects list", False),
        (answer("forbidden"), "permission_denied", "--member=user:ada@example.com", False),
        (answer("rateLimitExceeded"), "rate_limited", "Try again", True),
        (answer("", 429), "rate_limited", "Try again", True),
        (answer("quotaExceeded"), "quota_exceeded", "quotas?project=proj", False),
        (answer("resourceNotReady", 400), "instance_busy", "Try again", True),
        (answer("invalid", 400), "bad_request", "", False),
        (answer("authError", 401), "credentials_rejected", "gcloud auth application-default login", False),
        (answer("notFound", 404), "cloud_not_found", "--", False),
        (answer("alreadyExists", 409), "instance_exists", "", False),
        (answer("conditionNotMet", 412), "condition_not_met", "policy", False),
        (answer("backendError", 503), "api_failing", "later", True),
        (Fault(0), "api_unreachable", "online", True),
    ],
)
def test_answers(fault: Fault, code: str, cure: str, retryable: bool) -> None:
    error = explained(fault, TASK)
    assert isinstance(error, CloudError)
    assert (error.code, error.retryable) == (code, retryable)
    assert cure.strip("-") in error.hint
    assert error.fault is fault


def test_missing_permission_is_named() -> None:
    error = explained(answer("IAM_PERMISSION_DENIED", permission="iam.serviceAccounts.actAs"), TASK)
    assert "iam.serviceAccounts.actAs" in error.message
    assert "roles/iam.serviceAccountUser" in error.hint
    robot = Task("x", "compute.instances.create", "proj", "bot@proj.iam.gserviceaccount.com")
    assert "--member=serviceAccount:bot@" in explained(answer("forbidden"), robot).hint


@pytest.mark.parametrize("payload", [None, "", [], {"error": "no"}, {"error": {"errors": "x", "details": [1]}}, {}])
def test_answer_that_is_no_google_error_has_its_status_left(payload: Any) -> None:
    assert read_answer(502, payload).status == 502
    assert read_answer(502, payload).transient


def operation(code: str, status: int, *details: Any) -> dict[str, Any]:
    error = {"code": code, "message": "long story", "errorDetails": list(details)}
    return {"status": "DONE", "error": {"errors": [error]}, "httpErrorStatusCode": status, "httpErrorMessage": "BAD"}


@pytest.mark.parametrize(
    "code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "STOCKOUT"]
)
def test_stock_out_is_not_an_api_that_fails(code: str) -> None:
    fault = read_operation(
        operation(code, 503, {"errorInfo": {"reason": "resource_availability", "metadatas": {"zone": "z"}}})
    )
    assert fault is not None
    assert fault.sold_out
    assert not fault.transient
    error = explained(fault, TASK)
    assert (error.code, error.retryable) == ("stock_out", True)
    assert "z" in error.message


def test_quota_says_which_and_where() -> None:
    quota = {
        "metricName": "compute.googleapis.com/nvidia_l4_gpus",
        "limitName": "NVIDIA-L4",
        "limit": 0,
        "dimensions": {"region": "us-west1"},
    }
    fault = read_operation(operation("QUOTA_EXCEEDED", 403, {"quotaInfo": quota}))
    assert fault is not None
    error = explained(fault, TASK)
    assert error.message == "The quota NVIDIA-L4 is used up in us-west1 (its limit is 0)"


def test_operation_that_ended_well_is_no_fault() -> None:
    assert read_operation({"status": "DONE"}) is None


def test_unknown_operation_error_is_passed_on() -> None:
    fault = read_operation(operation("SOMETHING_NEW", 400))
    assert fault is not None
    error = explained(fault, TASK)
    assert error.code == "operation_failed"
    assert "long story" in error.message
