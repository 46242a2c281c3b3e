"""The hierarchy is as its docstring draws it."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from remote_runtime import errors
from remote_runtime.errors import AlreadyConnected, GuestError, NetworkError, RemoteRuntimeError, ServerError, TimedOut

ALL = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, RemoteRuntimeError)]
LINE = re.compile(r"^    (?P<branches>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: +(?P<codes>[a-z][a-z_*]*))?")


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Name -> (parent, first code) as the docstring has it."""
    found: dict[str, tuple[str | None, str | None]] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").partition("::\n")[2].splitlines():
        match = LINE.match(line)
        if not match:
            continue
        depth = len(match["branches"]) // 4
        del ancestors[depth:]
        found[match["name"]] = (ancestors[-1] if ancestors else None, match["codes"])
        ancestors.append(match["name"])
    return found


def test_the_tree_is_complete_and_true() -> None:
    tree = drawn()
    real = {kind.__name__: kind.__mro__[1].__name__ if kind is not RemoteRuntimeError else None for kind in ALL}
    assert {name: parent for name, (parent, _) in tree.items()} == real


def test_the_codes_drawn_are_the_codes_given() -> None:
    for name, (_, code) in drawn().items():
        if name == "RemoteRuntimeError":
            continue  # its line has the head of the column
        assert code, name
        pattern = re.escape(code).replace(r"\*", "[a-z_]+")
        assert re.fullmatch(pattern, getattr(errors, name).code), name


def test_an_error_is_all_plain_values() -> None:
    error = NetworkError("no route", hint="Check the cable.", code="connection_lost", retryable=False)
    assert json.loads(json.dumps(error.to_dict())) == {
        "code": "connection_lost",
        "message": "no route",
        "hint": "Check the cable.",
        "retryable": False,
    }
    assert str(error) == "no route"


def test_one_error_does_not_change_its_class() -> None:
    NetworkError("x", code="other", retryable=False)
    assert (NetworkError.code, NetworkError.retryable) == ("unreachable", True)
    assert TimedOut("x").to_dict()["code"] == "timeout"
    assert TimedOut("x").retryable


@pytest.mark.parametrize("kind", ALL)
def test_every_error_can_be_raised_with_a_message_alone(kind: type[RemoteRuntimeError]) -> None:
    with pytest.raises(RemoteRuntimeError) as caught:
        raise kind("what happened")
    assert caught.value.message == "what happened"
    assert caught.value.hint == ""
    assert caught.value.exit_status in (1, 2)
    assert kind.__doc__


def test_the_other_processs_url_is_kept_out_of_what_is_logged() -> None:
    error = AlreadyConnected("already", url="http://localhost:8888/?token=abc", pid=7)
    assert "abc" not in str(error) + repr(error) + json.dumps(error.to_dict())
    assert error.pid == 7


def test_the_vms_last_lines_come_along() -> None:
    assert GuestError("failed", log=("one", "two")).log == ("one", "two")
    assert isinstance(ServerError("failed"), GuestError)
