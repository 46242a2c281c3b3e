"""The heart of the suite on the oldest and newest of what we promise to run on; `make conformance` runs all on all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jupyter.conformance import run_suite, unasked
from tests.jupyter.interpreters import MATRIX, Environments

HEART = "not kernel and not memory and not below_the_base_url and not over_tls and not long and not gigabyte"


@pytest.mark.egress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["3.8-oldest", "3.13-newest"])
@unasked("it is about ours")
def test_the_heart_of_the_suite_passes(environments: Environments, tmp_path: Path, which: str) -> None:
    modules = ("frames", "requests", "replies", "proxied")
    outcomes = run_suite(environments(MATRIX[which]), tmp_path, modules=modules, only=HEART)
    assert outcomes["passed"] > 100
