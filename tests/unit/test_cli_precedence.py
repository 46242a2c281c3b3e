"""Options that exclude each other: the stronger source goes first, one source can't contradict itself."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from click.core import ParameterSource

from remote_runtime.cli.invocation import Chosen, Invocation
from remote_runtime.cli.options import machine_options, verb
from remote_runtime.cli.precedence import STRENGTH, weaker
from remote_runtime.cli.terminal import Terminal
from remote_runtime.cli.vm import new_vm_options
from remote_runtime.errors import UsageError
from remote_runtime.providers.gce.spec import GceSpec
from remote_runtime.settings import Settings

LINE, ENVIRONMENT, PROFILE = STRENGTH
PAIR = (("one", "other"),)

pytestmark = pytest.mark.usefixtures("settings")


@pytest.mark.parametrize(("one", "other"), list(itertools.product(STRENGTH, repeat=2)))
def test_the_stronger_source_goes_first(one: ParameterSource, other: ParameterSource) -> None:
    sources = {"one": one, "other": other}
    if one == other:
        with pytest.raises(UsageError, match=r"^--one and --other exclude each other$"):
            weaker(sources, PAIR, problem="exclude each other")
    else:
        loser = "other" if STRENGTH.index(one) < STRENGTH.index(other) else "one"
        assert weaker(sources, PAIR, problem="") == {loser}


def test_a_default_contradicts_nothing() -> None:
    assert weaker({"one": LINE, "other": ParameterSource.DEFAULT}, PAIR, problem="") == set()
    assert weaker({"one": PROFILE}, PAIR, problem="") == set()
    assert weaker({}, PAIR, problem="") == set()


def test_what_is_out_already_contradicts_nothing() -> None:
    sources = {"internal_ip": LINE, "jump": PROFILE, "iap": PROFILE}
    pairs = (("internal_ip", "iap"), ("jump", "iap"))
    assert weaker(sources, pairs, problem="") == {"iap"}


def given(
    monkeypatch: pytest.MonkeyPatch, profile: dict[str, Any], environment: dict[str, str], *line: str
) -> tuple[Invocation, Chosen, GceSpec]:
    """What a command that reaches and makes VMs is given, from the three sources."""
    seen: list[tuple[Invocation, Chosen, GceSpec]] = []

    @verb("probe")
    @machine_options(timeout=60)
    @new_vm_options
    def probe(call: Invocation, machine: Chosen, spec: GceSpec) -> None:
        seen.append((call, machine, spec))

    for name, value in environment.items():
        monkeypatch.setenv(f"REMOTE_RUNTIME_{name.upper()}", value)
    call = Invocation(Terminal(None, None, None, {}))
    call.settings = Settings.load()
    try:
        probe.main(["trainer", *line], "probe", standalone_mode=False, obj=call, default_map=profile)
    finally:
        call.close()
    return seen[0]


@pytest.mark.parametrize(
    ("profile", "environment", "line", "zones", "region"),
    [
        ({"zone": "z-1"}, {}, ["--region", "r"], (), "r"),
        ({"region": "r"}, {}, ["--zone", "z-1", "--zone", "z-2"], ("z-1", "z-2"), None),
        ({}, {"region": "r"}, ["--zone", "z-1"], ("z-1",), None),
        ({"zone": ["z-1", "z-2"]}, {"region": "r"}, [], (), "r"),
        ({"region": "r"}, {"zone": "z-1"}, [], ("z-1",), None),
        ({"zone": "z-1"}, {}, [], ("z-1",), None),
    ],
)
def test_zone_and_region(
    monkeypatch: pytest.MonkeyPatch,
    profile: dict[str, Any],
    environment: dict[str, str],
    line: list[str],
    zones: tuple[str, ...],
    region: str | None,
) -> None:
    _, machine, _ = given(monkeypatch, profile, environment, *line)
    assert (machine.zones, machine.places["region"]) == (zones, region)


@pytest.mark.parametrize(
    ("profile", "environment", "line", "reach", "jump"),
    [
        ({"internal_ip": True}, {}, ["--tunnel-through-iap"], "iap", ""),
        ({"tunnel_through_iap": True}, {}, ["--internal-ip"], "internal", ""),
        ({"jump": "bastion"}, {"tunnel_through_iap": "1"}, [], "iap", ""),
        ({}, {"tunnel_through_iap": "1"}, ["--jump", "bastion"], "auto", "bastion"),
        ({"internal_ip": True}, {}, ["--jump", "bastion"], "internal", "bastion"),
        ({}, {"internal_ip": "0"}, ["--tunnel-through-iap"], "iap", ""),
    ],
)
def test_ways(
    monkeypatch: pytest.MonkeyPatch,
    profile: dict[str, Any],
    environment: dict[str, str],
    line: list[str],
    reach: str,
    jump: str,
) -> None:
    _, machine, _ = given(monkeypatch, profile, environment, *line)
    assert (machine.places["reach"], machine.places["jump"]) == (reach, jump)


def test_image_and_family(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, spec = given(monkeypatch, {"image_family": "f"}, {}, "--image", "i")
    assert (spec.image, spec.image_family) == ("i", None)
    _, _, spec = given(monkeypatch, {"image": "i"}, {"image_family": "f"})
    assert (spec.image, spec.image_family) == (None, "f")


def test_quiet_and_verbose(monkeypatch: pytest.MonkeyPatch) -> None:
    call, _, _ = given(monkeypatch, {"quiet": True}, {}, "-v")
    assert (call.quiet, call.verbose) == (False, True)
    call, _, _ = given(monkeypatch, {"verbose": True}, {"quiet": "yes"})
    assert (call.quiet, call.verbose) == (True, False)


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ({"zone": "z", "region": "r"}, []),
        ({"jump": "b", "tunnel_through_iap": True}, []),
        ({"image": "i", "image_family": "f"}, []),
        ({}, ["-q", "-v"]),
    ],
)
def test_one_source_that_contradicts_itself(
    monkeypatch: pytest.MonkeyPatch, profile: dict[str, Any], line: list[str]
) -> None:
    with pytest.raises(UsageError, match=r"^--[a-z-]+ and --[a-z-]+ "):
        given(monkeypatch, profile, {}, *line)


def test_a_scope_in_the_profile_waits_for_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, spec = given(monkeypatch, {"scopes": ["storage-ro"]}, {})
    assert spec.service_account is None
    with pytest.raises(UsageError, match="--scope is for a service account"):
        given(monkeypatch, {}, {}, "--scope", "storage-ro")
