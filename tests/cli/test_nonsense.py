"""Nonsense of every kind, in every place where a value can come from: told in words, never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from remote_runtime.cli import main, values
from remote_runtime.cli.app import COMMANDS
from remote_runtime.settings import Settings
from tests.cli.conftest import json_lines

READERS: dict[str, Callable[[str], Any]] = {
    "port": values.read_local_port,
    "remote_port": values.read_port,
    "timeout": values.read_seconds,
    "forward": values.read_forward,
    "host_key": values.read_host_key,
    "allow_origin": values.read_origin,
    "python": values.read_text,
    "notebook_dir": values.read_text,
    "user": values.read_text,
}
PLACES = ("line", "environment", "profile")
WORDS = st.sampled_from(
    [
        "--json",
        "--sandbox",
        "--port",
        "--provider",
        "ssh",
        "auto",
        "-L",
        "-q",
        "--timeout",
        "--",
        "-",
        "a@b",
        "x:1",
        "=",
    ]
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)

thoroughly = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def said(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command, run in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(arguments)
    return status, out.getvalue(), err.getvalue()


@thoroughly
@given(name=st.sampled_from(sorted(READERS)), place=st.sampled_from(PLACES), text=TEXTS)
def test_a_value_that_is_none(name: str, place: str, text: str, settings: Settings) -> None:
    with contextlib.suppress(ValueError):
        READERS[name](text)
        assume(False)
    assume(text or place != "environment")  # an empty variable counts as none
    assume(name != "host_key" or place == "line")  # for one call only
    option, call = f"--{name.replace('_', '-')}", ["connect", "trainer", "--json"]
    profile = settings.config_dir / "config.toml"
    settings.config_dir.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        if place == "environment":
            patch.setenv(f"REMOTE_RUNTIME_{name.upper()}", text)
        profile.write_text(f"{name} = {toml(text)}\n" if place == "profile" else "", encoding="utf-8")
        status, out, err = said(*call, *([f"{option}={text}"] if place == "line" else []))
    assert status == 2, out
    [error] = json_lines(out)
    assert (error["event"], error["code"], error["retryable"]) == ("error", "usage", False)
    assert option in error["message"]
    assert error["message"].isprintable()
    assert err.startswith("error: ")
    assert "Traceback" not in err


def toml(text: str) -> str:
    """A string in TOML's spelling."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@thoroughly
@given(
    call=st.sampled_from([["url"], ["list"], ["connect", "one", "two"], ["delete", "one", "two"], []]),
    words=st.lists(WORDS | TEXTS, max_size=6),
)
def test_any_words_end_in_a_result_or_in_one_error(call: list[str], words: list[str], settings: Settings) -> None:
    assume(call or not {*words} & {*COMMANDS})
    status, out, err = said(*call, *words)
    assert status in (0, 1, 2)
    assert "Internal error" not in err
    assert "Traceback" not in err
    if status and "error: " in err:
        assert err.count("error: ") == 1
        assert out.count('{"event": "error"') <= 1
    assert all(char.isprintable() or char == "\n" for char in out + err)


PROFILES = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS.map(toml),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@thoroughly
@given(
    name=st.sampled_from([*sorted(READERS), "instance", "sandbox", "provider", "zone", "ui", "json"]), value=PROFILES
)
def test_any_value_in_the_profile(name: str, value: object, settings: Settings) -> None:
    settings.config_dir.mkdir(parents=True, exist_ok=True)
    text = f"{name} = {spelled(value)}\n"
    (settings.config_dir / "config.toml").write_text(text, encoding="utf-8")
    status, _, err = said("connect", "one", "two")
    assert status == 2, text
    assert "error: " in err
    assert "Internal error" not in err
    assert "Traceback" not in err


def spelled(value: object) -> str:
    """A value of the strategy above in TOML's spelling."""
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    return str(value).lower() if isinstance(value, (bool, float)) else str(value)
