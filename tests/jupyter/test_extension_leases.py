"""Kernels on a lease: who gets one, and for what."""

from __future__ import annotations

import pytest

from tests.jupyter.conftest import Jupyter, StartJupyter

KERNELS = "remote-runtime/kernels"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[1]", b'"text"', b"{}", b"nonsense"),
        *(b'{"lease": true}', b'{"lease": "60"}', b'{"lease": 0}', b'{"lease": -1}', b'{"lease": NaN}'),
        *(b'{"lease": 1e9}', b'{"lease": 60, "name": ["python3"]}'),
    ],
)
def test_a_lease_that_is_none_is_refused(jupyter: Jupyter, body: bytes) -> None:
    assert jupyter.request("POST", KERNELS, body=body).status == 400
    assert jupyter.request("GET", "api/kernels").json() == []


def test_a_kernel_is_leased_to_who_is_logged_in(jupyter: Jupyter) -> None:
    assert jupyter.request("POST", KERNELS, body=b'{"lease": 60}', token=False).status == 403
    leased = jupyter.request("POST", KERNELS, body=b'{"lease": 60}')
    assert leased.status == 201
    kernel = leased.json()["id"]
    assert [running["id"] for running in jupyter.request("GET", "api/kernels").json()] == [kernel]
    assert jupyter.request("DELETE", f"api/kernels/{kernel}").status == 204


def test_who_may_start_no_kernel_is_leased_none(start_jupyter: StartJupyter) -> None:
    jupyter = start_jupyter(authorizer_class="served_probe.ReadOnly")
    for path in ("api/kernels", KERNELS):
        assert jupyter.request("POST", path, body=b'{"lease": 60}').status == 403
    assert jupyter.request("GET", "api/kernels").json() == []
