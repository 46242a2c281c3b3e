"""The suite against upstream's own package, so that it is known to tell right from wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jupyter.conformance import run_suite, unasked
from tests.jupyter.interpreters import UPSTREAM, Environments


@pytest.mark.slow
@pytest.mark.egress
@pytest.mark.timeout(300)
@unasked("it is asked all the others here")
def test_upstream_passes_what_it_should_and_fails_the_rest(environments: Environments, tmp_path: Path) -> None:
    outcomes = run_suite(environments(UPSTREAM), tmp_path, upstream=True)
    assert outcomes["passed"] > 100
    assert outcomes["xfailed"] > 80
