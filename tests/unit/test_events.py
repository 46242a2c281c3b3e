"""What happened, told to any sink without harm and without secrets."""

from __future__ import annotations

import dataclasses
import json
import logging
import typing

import pytest

from remote_runtime import events
from remote_runtime.errors import PortInUse
from remote_runtime.events import (
    Event,
    LinkChanged,
    Notice,
    StepDone,
    StepFailed,
    StepProgress,
    StepStarted,
    guarded,
    log_event,
    step,
    to_dict,
)

ONE_OF_EACH: list[Event] = [
    StepStarted("ssh", "Logging in"),
    StepProgress("install", "Downloading"),
    StepDone("ssh", 0.5),
    StepFailed("ssh", 0.5, "unreachable"),
    Notice("port_changed", "Port 8889 is used"),
    LinkChanged("reconnecting", "connection reset", 0.25),
]


def test_there_is_one_of_each() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(typing.get_args(Event))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.event)
def test_an_event_is_a_frozen_value_and_one_json_line(event: Event) -> None:
    line = json.dumps(to_dict(event))
    values = json.loads(line)
    assert "\n" not in line
    assert values.pop("event") == event.event
    assert type(event)(**values) == event
    field = dataclasses.fields(event)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, field, "other")


def test_names_are_snake_case_and_unique() -> None:
    names = [kind.event for kind in typing.get_args(Event)]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.replace("_", "").isalpha() for name in names)


def test_a_step_that_ends_well() -> None:
    heard: list[Event] = []
    with step(heard.append, "ssh", "Logging in"):
        heard.append(StepProgress("ssh", "inside"))
    assert heard[:2] == [StepStarted("ssh", "Logging in"), StepProgress("ssh", "inside")]
    done = heard[2]
    assert isinstance(done, StepDone)
    assert 0 <= done.seconds < 5
    assert len(heard) == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PortInUse("taken"), "port_in_use"),
        (OSError("odd"), "OSError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_step_that_fails_names_the_code_and_lets_the_error_through(error: BaseException, code: str) -> None:
    heard: list[Event] = []
    with pytest.raises(type(error)) as caught, step(heard.append, "forward", "Forwarding"):
        raise error
    assert caught.value is error
    failed = heard[-1]
    assert isinstance(failed, StepFailed)
    assert (failed.step, failed.code) == ("forward", code)
    assert len(heard) == 2


def test_a_callback_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("a bug in the caller's code")

    with step(guarded(broken), "ssh", "Logging in"):
        pass
    assert "the event callback failed on step_started" in caplog.text
    assert "a bug in the caller's code" in caplog.text


def test_a_callback_may_still_interrupt() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted)(ONE_OF_EACH[0])


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (StepStarted("ssh", "Logging in"), logging.INFO),
        (StepFailed("ssh", 1.0, "timeout"), logging.WARNING),
        (Notice("first_use", "careful", "warning"), logging.WARNING),
        (Notice("first_use", "by the way"), logging.INFO),
        (LinkChanged("connected"), logging.INFO),
    ],
)
def test_the_log_gets_every_event_at_its_level(event: Event, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="remote_runtime"):
        log_event(event)
    (record,) = caplog.records
    assert record.name == "remote_runtime"
    assert record.levelno == level
    words = f"{event.text} ({event.code})" if isinstance(event, Notice) else event.event
    assert words in record.getMessage()


def test_no_event_has_a_field_for_a_secret() -> None:
    fields = {field.name for kind in typing.get_args(events.Event) for field in dataclasses.fields(kind)}
    assert not {name for name in fields if "token" in name or "url" in name or "password" in name}
