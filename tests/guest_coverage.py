"""Coverage of what runs on the machine: the guest program, whose Python starts isolated and knows no site-packages.

The coverage tool reaches the processes that tests start by a hook in site-packages.  The guest program is started
without that, so here a few lines go before the loader's source that start the measuring.  They do nothing where the
tests run without coverage, or in another Python than ours.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runtime import payload

CONFIG = "COVERAGE_PROCESS_CONFIG"

START = """
import os, sys
if sys.version_info[:2] == {version!r}:
    sys.path.append({site!r})
    os.environ[{name!r}] = {config!r}
    import coverage
    coverage.process_startup()
    del os.environ[{name!r}], coverage
    sys.path.remove({site!r})
exec(compile({loader!r}, "<loader>", "exec"))
"""


@pytest.fixture(autouse=True, scope="session")
def guest_coverage() -> Iterator[None]:
    """Measure the guest program too, if this run is measured."""
    if CONFIG not in os.environ:
        yield
        return
    import coverage

    source = START.format(
        version=tuple(sys.version_info[:2]),
        site=str(Path(coverage.__file__).parent.parent),
        name=CONFIG,
        config=os.environ[CONFIG],
        loader=payload.loader(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "loader", functools.cache(source.encode))
        yield
