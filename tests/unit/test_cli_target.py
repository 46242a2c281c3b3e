"""Which machine a command line means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.cli.target import Target, Written, choose, is_address
from remote_runtime.errors import UsageError

KNOWN = [
    Target("sandbox", "box"),
    Target("ssh", "gpu"),
    Target("gce", "twice"),
    Target("sandbox", "twice"),
    Target("ssh", "me@here"),
]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (Written(("trainer",)), Target("gce", "trainer")),
        (Written(instance="trainer"), Target("gce", "trainer")),
        (Written(("me@host",)), Target("ssh", "me@host")),
        (Written(("host:2222",)), Target("ssh", "host:2222")),
        (Written(("me@[::1]:22",)), Target("ssh", "me@[::1]:22")),
        (Written(("me@::1",)), Target("ssh", "me@::1")),
        (Written(("ssh://me@host:22/",)), Target("ssh", "ssh://me@host:22/")),
        (Written(("me@corp.example@host",)), Target("ssh", "me@corp.example@host")),
        (Written(instance="me@host"), Target("ssh", "me@host")),
        (Written(("me@host",), provider="ssh"), Target("ssh", "me@host")),
        (Written(("alias",), provider="ssh"), Target("ssh", "alias")),
        (Written(sandbox=True), Target("sandbox", "sandbox")),
        (Written(sandbox=True, instance="mine"), Target("sandbox", "mine")),
        (Written(sandbox=True, provider="sandbox"), Target("sandbox", "sandbox")),
        (Written(provider="sandbox"), Target("sandbox", "sandbox")),
        (Written(("mine",), provider="sandbox"), Target("sandbox", "mine")),
        # A name that one provider has here needs no more words; two need one.
        (Written(("box",)), Target("sandbox", "box")),
        (Written(("gpu",)), Target("ssh", "gpu")),
        (Written(("gpu",), profile_provider="sandbox"), Target("ssh", "gpu")),
        (Written(("twice",), provider="gce"), Target("gce", "twice")),
        (Written(("twice",), environment_provider="sandbox"), Target("sandbox", "twice")),
        # What is always set is weaker than what is said now.
        (Written(("gpu",), environment_provider="gce"), Target("gce", "gpu")),
        (Written(("new",), profile_provider="ssh"), Target("ssh", "new")),
        (Written(("new",), environment_provider="sandbox", profile_provider="ssh"), Target("sandbox", "new")),
        (Written(("me@host",), environment_provider="gce"), Target("ssh", "me@host")),
        (Written(("new",), default_instance="usual"), Target("gce", "new")),
        (Written(default_instance="usual"), Target("gce", "usual")),
        (Written(default_instance="me@host"), Target("ssh", "me@host")),
        (Written(sandbox=True, default_instance="usual"), Target("sandbox", "usual")),
        (Written(environment_provider="sandbox"), Target("sandbox", "sandbox")),
        (Written(profile_provider="sandbox"), Target("sandbox", "sandbox")),
    ],
)
def test_the_machine_that_is_meant(written: Written, expected: Target) -> None:
    assert choose(written, KNOWN, verb="connect") == expected


@pytest.mark.parametrize(
    "written",
    [
        Written(),
        Written(provider="ssh"),
        Written(provider="gce", profile_provider="sandbox"),
        Written(("a", "b")),
        Written(("a",), instance="b"),
        Written(("me@host",), sandbox=True),
        Written(("a",), sandbox=True),
    ],
)
def test_no_machine_or_two_are_answered_with_the_three_ways(written: Written) -> None:
    with pytest.raises(UsageError) as caught:
        choose(written, KNOWN, verb="logs")
    for way in ("remote-runtime logs NAME", "remote-runtime logs user@host[:port]", "remote-runtime logs --sandbox"):
        assert way in caught.value.hint
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "written",
    [
        Written(sandbox=True, provider="ssh"),
        Written(("me@host",), provider="gce"),
        Written(("host:22",), provider="sandbox"),
        Written(sandbox=True, instance="me@host"),
    ],
)
def test_contradictions_are_refused(written: Written) -> None:
    with pytest.raises(UsageError) as caught:
        choose(written, KNOWN, verb="connect")
    assert caught.value.hint


def test_a_name_of_two_providers_lists_both() -> None:
    with pytest.raises(UsageError) as caught:
        choose(Written(("twice",)), KNOWN, verb="stop")
    assert caught.value.code == "ambiguous_name"
    assert "gce and sandbox" in caught.value.message
    assert "remote-runtime stop --sandbox --instance twice" in caught.value.hint
    assert "remote-runtime stop --provider gce twice" in caught.value.hint


def test_a_machine_that_is_to_be_made_is_not_looked_up() -> None:
    assert choose(Written(("twice",)), KNOWN, verb="create", new=True) == Target("gce", "twice")
    assert choose(Written(("box",)), KNOWN, verb="create", new=True) == Target("gce", "box")


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "-rf", "--help", "me@-oProxyCommand=x", "a\nb", "\x1b[31mred", "a\u202eb", "x" * 301, "a\0b"],
)
def test_nonsense_is_no_name(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose(Written((name,)), [], verb="connect")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@given(st.text())
def test_any_text_is_a_machine_or_a_usage_error(name: str) -> None:
    try:
        target = choose(Written((name,)), KNOWN, verb="connect")
    except UsageError as error:
        assert error.message.isprintable()
    else:
        assert target.name == name
        assert (target.provider == "ssh") == (is_address(name) or name == "gpu")


@pytest.mark.parametrize(
    ("target", "command"),
    [
        (Target("sandbox", "sandbox"), "remote-runtime stop --sandbox"),
        (Target("sandbox", "my box"), "remote-runtime stop --sandbox --instance 'my box'"),
        (Target("ssh", "me@host:22"), "remote-runtime stop me@host:22"),
        (Target("ssh", "alias"), "remote-runtime stop --provider ssh alias"),
        (Target("gce", "trainer"), "remote-runtime stop trainer"),
    ],
)
def test_commands_name_the_machine_in_full(target: Target, command: str) -> None:
    assert target.command("stop") == command
