"""What the options for VMs take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remote_runtime.cli.values import read_duration, read_gpu, read_pair, read_size_gb


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("none", 0), ("0", 0), ("90m", 5400), ("24h", 86400), ("7d", 604800), ("1h30m", 5400), ("45", 45), ("45s", 45)],
)
def test_durations(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


def test_the_rest() -> None:
    assert read_gpu("nvidia-tesla-t4:2") == "nvidia-tesla-t4:2"
    assert read_pair("a=b=c") == ("a", "b=c")
    assert read_pair("a=") == ("a", "")
    assert (read_size_gb("50"), read_size_gb("100gb")) == (50, 100)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((read_duration, text) for text in ("", "soon", "1w", "-1h", "1.5h", "h", "1m1h")),
        *((read_gpu, text) for text in ("", "T4", "t4:0", "t4:")),
        *((read_pair, text) for text in ("", "a", "=b", "\x1b=b")),
        *((read_size_gb, text) for text in ("", "9", "1TB", "-50", "65537")),
    ],
)
def test_what_they_do_not_take(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"not"):
        read(text)
