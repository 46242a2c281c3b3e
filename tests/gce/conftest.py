"""The stand-in for Google's cloud, and the ways that lead there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud, unavailable
from tests.gce.person import Person


@pytest.fixture
def api(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud whose VMs are entries in a list: quick, and needs no rights.  The environment leads there."""
    yield from _running(tmp_path, monkeypatch, boots=False)


@pytest.fixture
def cloud(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud whose VMs boot.  The environment leads there."""
    if reason := unavailable():
        pytest.skip(reason)
    yield from _running(tmp_path, monkeypatch, boots=True)


@pytest.fixture
def cloud_with_jupyter(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The same, of whose images each has Jupyter; and its VMs' users are not root."""
    if reason := unavailable():
        pytest.skip(reason)
    links = {"/opt/jupyter": Path(sys.prefix)}
    yield from _running(tmp_path, monkeypatch, boots=True, own_rights=True, links=links)


@pytest.fixture
def ada(tmp_path: Path) -> Person:
    """A person who may log in where metadata says so."""
    return Person(tmp_path)


def _running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, boots: bool, **options: Any) -> Iterator[Cloud]:
    directory = tmp_path / "cloud"
    directory.mkdir()
    with Cloud(directory, boots=boots, **options) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud
        assert cloud.problems == [], "the stand-in itself went wrong"
