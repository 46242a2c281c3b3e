"""The suite on the oldest and newest of what we promise to run on; `make conformance` runs all of it on all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jupyter.conformance import run_suite, unasked
from tests.jupyter.interpreters import MATRIX, Environments


@pytest.mark.egress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["3.8-oldest", "3.13-newest"])
@unasked("it is about ours")
def test_the_suite_passes(environments: Environments, tmp_path: Path, which: str) -> None:
    outcomes = run_suite(environments(MATRIX[which]), tmp_path, quick=True)
    assert outcomes["passed"] > 350
