"""A machine that has Jupyter, and a user who may log in to it, for the tests of faults of the whole."""

from __future__ import annotations

import pytest

from tests.jupyter.machine import Machine
from tests.jupyter.machine import machine as machine
from tests.jupyter.machine import user as user


@pytest.fixture(scope="module")
def warm(machine: Machine) -> Machine:
    """The same machine, whose Jupyter runs: a login to its home finds it, however it gets there."""
    machine.start_jupyter()
    return machine
