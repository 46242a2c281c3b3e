"""A machine that has Jupyter, and a user who may log in to it, for the tests of faults of the whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remote_runtime.settings import Settings
from tests.jupyter.machine import Machine, machine_with_jupyter


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One for all tests of a module."""
    with machine_with_jupyter(tmp_path_factory.mktemp("machine") / "sshd") as machine:
        yield machine


@pytest.fixture(scope="module")
def warm(machine: Machine) -> Machine:
    """The same machine, whose Jupyter runs: a login to its home finds it, however it gets there."""
    machine.start_jupyter()
    return machine


@pytest.fixture
def user(machine: Machine, settings: Settings) -> Settings:
    """The settings of somebody who has logged in to it before."""
    machine.introduce(settings.home)
    return settings
