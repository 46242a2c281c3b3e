"""A machine that is a directory: what is run there runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jupyter.local import LocalShell


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Its home directory, empty."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def machine(home: Path) -> LocalShell:
    """What runs commands there."""
    return LocalShell(home)
