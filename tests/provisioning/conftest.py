"""VMs to be prepared: with this machine's network, so that the package index can be reached, and without any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gce.cloud import Cloud, unavailable
from tests.provisioning.vm import Prepared


@contextmanager
def _machine(directory: Path, *, own_network: bool) -> Iterator[Prepared]:
    if reason := unavailable():
        pytest.skip(reason)
    with Cloud(directory, own_network=own_network) as cloud:
        yield Prepared(cloud, cloud.vm("trainer", metadata={"enable-guest-attributes": "TRUE"}))
        assert cloud.problems == []


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """A VM for all tests of a module, which tell its story in their order."""
    with _machine(tmp_path_factory.mktemp("cloud"), own_network=False) as machine:
        yield machine


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Prepared]:
    """A VM that reaches nothing but its metadata server."""
    with _machine(tmp_path, own_network=True) as machine:
        yield machine
