"""What options take, and what they don't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.cli import values
from remote_runtime.model import Forward

KEY = "SHA256:" + "a" * 43


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (values.read_port, "8888", 8888),
        (values.read_local_port, "auto", "auto"),
        (values.read_local_port, "1", 1),
        (values.read_seconds, "1.5", 1.5),
        (values.read_seconds, "604800", 604800.0),
        (values.read_forward, "6006:localhost:6007", Forward(6006, "localhost", 6007)),
        (values.read_forward, "80:[::1]:81", Forward(80, "::1", 81)),
        (values.read_host_key, KEY, KEY),
        (values.read_host_key, KEY + "=", KEY),
        (values.read_origin, "https://colab.research.google.com", "https://colab.research.google.com"),
        (values.read_origin, "http://Example.org:8080/", "http://example.org:8080"),
        (values.read_text, "a b", "a b"),
    ],
)
def test_what_is_taken(read: Callable[[str], Any], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (values.read_port, ["", "0", "65536", "-1", "1e3", "٣٣", " 80", "8_0", "auto", "999999"]),
        (values.read_local_port, ["", "0", "Auto", "true"]),
        (values.read_seconds, ["", "0", "-1", "nan", "inf", "1e9", "soon", "-inf"]),
        (values.read_forward, ["", "1:2", "1::3", "x:h:1", "1:h:x", "0:h:1", "1:h:70000", "1:::1:2", "1:a\nb:2"]),
        (values.read_host_key, ["", "SHA256:", KEY[:-1], KEY + "x", "MD5:aa", KEY.lower(), KEY + "\n"]),
        (values.read_origin, ["", "*", "null", "example.org", "https://a/b", "https://*.b", "ftp://a", "https://a b"]),
        (values.read_text, ["", "  ", "a\0b", "a\nb", "\x1b[1m"]),
    ],
)
def test_what_is_not(read: Callable[[str], Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError) as caught:
            read(text)
        assert str(caught.value)


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for name in ("port", "local_port", "seconds", "forward", "host_key", "origin", "text"):
        try:
            getattr(values, f"read_{name}")(text)
        except ValueError as error:
            assert str(error)
