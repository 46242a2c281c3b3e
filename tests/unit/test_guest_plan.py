"""The guest's decisions, as tables: facts in, what to do out."""

from __future__ import annotations

import pytest

from remote_runtime.guest import plan
from remote_runtime.guest.loader import GuestFailure
from remote_runtime.guest.plan import Choice, Found, Running

GONE = Running(alive=False, answers=False, proves=False)
SILENT = Running(alive=True, answers=False, proves=False)
STRANGE = Running(alive=True, answers=True, proves=False)
WELL = Running(alive=True, answers=True, proves=True)


@pytest.mark.parametrize(
    ("running", "wishes", "decision"),
    [
        (WELL, {}, "adopt"),
        (WELL, {"restart": False}, "adopt"),
        (WELL, {"stopped": True}, "adopt"),
        (WELL, {"new_token": True}, "replace"),
        (WELL, {"outdated": True}, "replace"),
        (SILENT, {}, "wait"),
        (SILENT, {"new_token": True}, "replace"),
        (STRANGE, {}, "replace"),
        (GONE, {}, "start"),
        (GONE, {"restart": False}, "start"),
        (GONE, {"stopped": True}, "start"),
        (GONE, {"stopped": True, "restart": False}, "stay"),
        (GONE, {"stopped": True, "restart": False, "new_token": True}, "stay"),
        (GONE, {"outdated": True, "new_token": True}, "start"),
    ],
)
def test_what_to_do_about_the_server(running: Running, wishes: dict[str, bool], decision: str) -> None:
    facts = {"stopped": False, "restart": True, "new_token": False, "outdated": False, **wishes}
    assert plan.decide(running, **facts) == decision


VM, HOST, FRESH = "v" * 48, "h" * 48, "f" * 48


def test_a_server_that_keeps_dying_is_told_from_one_that_died() -> None:
    deaths: list[float] = []
    for moment in (1000.0, 1100.0, 1200.0):
        assert not plan.keeps_dying(deaths)
        deaths = plan.recent_deaths(deaths, moment, died=True, forgiven=False)
    assert plan.keeps_dying(deaths)
    assert plan.recent_deaths(deaths, 1300.0, died=False, forgiven=False) == deaths
    assert plan.recent_deaths(deaths, 1650.0, died=True, forgiven=False) == [1100.0, 1200.0, 1650.0]
    assert plan.recent_deaths(deaths, 1300.0, died=True, forgiven=True) == [1300.0]
    assert plan.recent_deaths([5000.0], 1300.0, died=False, forgiven=False) == [], "the clock was set back"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("9f3e-a1/200", "9f3e-a1/4000", True),
        ("9f3e-a1/200", "77c0-b2/200", False),
        ("Mon Nov 22 11:00:00 2027", "Mon Nov 22 12:00:00 2027", True),  # by ps, which does not tell
        ("", "9f3e-a1/200", False),
    ],
)
def test_processes_of_one_boot(one: str, other: str, same: bool) -> None:
    assert plan.of_one_boot(one, other) is same


@pytest.mark.parametrize(
    ("vm", "host", "new", "token"),
    [
        (VM, HOST, False, VM),
        (VM, "", False, VM),
        ("", HOST, False, HOST),
        ("", "", False, FRESH),
        ("", "short", False, FRESH),
        ("", "with a space in it, and long enough", False, FRESH),
        (VM, HOST, True, FRESH),
        ("", "", True, FRESH),
    ],
)
def test_whose_token_it_is(vm: str, host: str, new: bool, token: str) -> None:
    assert plan.choose_token(vm=vm, host=host, new=new, fresh=FRESH) == token


@pytest.mark.parametrize(
    ("wanted", "kept", "ports"),
    [
        (None, 0, [8888, 0, 0, 0]),
        (None, 8888, [8888, 0, 0, 0]),
        (None, 41234, [41234, 8888, 0, 0, 0]),
        (9000, 41234, [9000]),
    ],
)
def test_ports_in_the_order_they_are_tried(wanted: int | None, kept: int, ports: list[int]) -> None:
    assert plan.port_candidates(wanted=wanted, kept=kept) == ports


def found(name: str, server: str = "", ipykernel: str = "", python: str = "3.11.2") -> Found:
    return Found(name, "/" + name, python, server, "", ipykernel)


WHOLE = found("whole", "2.14.0", "6.29")
NO_KERNEL = found("nokernel", "2.14.0")
ONLY_KERNEL = found("onlykernel", ipykernel="6.29")
OLD_SERVER = found("oldserver", "1.24.0", "6.29")
OLD_PYTHON = found("oldpython", "2.14.0", "6.29", "3.7.17")


@pytest.mark.parametrize(
    ("asked", "asked_found", "on_vm", "choice"),
    [
        (None, None, WHOLE, Choice(WHOLE, None)),
        (None, None, NO_KERNEL, Choice(NO_KERNEL, None)),
        (None, None, OLD_SERVER, Choice(None, None)),
        (None, None, OLD_PYTHON, Choice(None, None)),
        (None, None, None, Choice(None, None)),
        ("x", WHOLE, None, Choice(WHOLE, None)),
        ("x", ONLY_KERNEL, WHOLE, Choice(None, ONLY_KERNEL)),
        ("x", OLD_SERVER, None, Choice(None, OLD_SERVER)),
    ],
)
def test_which_python_serves_and_which_computes(
    asked: str | None, asked_found: Found | None, on_vm: Found | None, choice: Choice
) -> None:
    assert plan.choose_jupyter(asked=asked, asked_found=asked_found, found=on_vm) == choice


@pytest.mark.parametrize(
    ("asked_found", "code"),
    [(None, "python_not_found"), (NO_KERNEL, "python_without_ipykernel"), (found("x"), "python_without_ipykernel")],
)
def test_a_python_that_can_run_no_notebook_is_refused(asked_found: Found | None, code: str) -> None:
    with pytest.raises(GuestFailure) as caught:
        plan.choose_jupyter(asked="/x/python", asked_found=asked_found, found=WHOLE)
    assert caught.value.code == code
    assert caught.value.hint


def test_options_are_kept_where_nothing_else_is_asked() -> None:
    kept = {"notebook_dir": "~/work", "remote_port": 9000, "unknown": 1}
    merged = plan.merge_options({"remote_port": 9001, "alien": 2}, kept)
    assert merged == {**plan.DEFAULTS, "notebook_dir": "~/work", "remote_port": 9001}


@pytest.mark.parametrize(
    ("asked", "running", "names"),
    [
        ({}, {"python": "/x"}, []),
        ({"python": "/x"}, {"python": "/x"}, []),
        ({"python": "/y", "ui": "none"}, {"python": "/x"}, ["python", "ui"]),
        ({"jupyter_args": ["--a"]}, {"jupyter_args": ["--a"]}, []),
        ({"jupyter_args": ("--a",)}, {"jupyter_args": ["--b"]}, ["jupyter_args"]),
        ({"nonsense": 1}, {}, []),
    ],
)
def test_only_what_was_asked_for_can_differ(
    asked: dict[str, object], running: dict[str, object], names: list[str]
) -> None:
    assert plan.differing(asked, running) == names


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--ServerApp.max_body_size=1000000"],
        ["--ServerApp.terminado_settings", "{}"],
        ["--debug", "--ContentsManager.allow_hidden=True", "--GitHubConfig.access_token=x"],
        ["--MyExtension.port=3", "--ServerApp.base_url=/a/b"],
    ],
)
def test_arguments_that_are_passed_on(arguments: list[str]) -> None:
    plan.check_arguments(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port=1"],
        ["--port", "1"],
        ["--ServerApp.port=1"],
        ["--debug", "--ServerApp.ip=0.0.0.0"],
        ["--IdentityProvider.token=secret"],
        ["--NotebookApp.token="],
        ["--config=/x.py"],
        ["--certfile=x"],
        ["--notebook-dir=/x"],
        ["--version"],
        ["-h"],
        ["--help-all"],
        ["list"],
        ["notebook.ipynb"],
    ],
)
def test_arguments_that_would_take_the_server_from_us(arguments: list[str]) -> None:
    with pytest.raises(GuestFailure) as caught:
        plan.check_arguments(arguments)
    assert caught.value.code == "jupyter_arg_refused"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "base"),
    [
        ([], "/"),
        (["--ServerApp.base_url=/"], "/"),
        (["--ServerApp.base_url=/a/b"], "/a/b/"),
        (["--ServerApp.base_url", "lab/"], "/lab/"),
        (["--base-url=x"], "/x/"),
        (["--ServerApp.base_url"], "/"),
    ],
)
def test_the_base_url_is_in_the_arguments(arguments: list[str], base: str) -> None:
    assert plan.base_url(arguments) == base


@pytest.mark.parametrize("value", ["/a b", "//evil.example?", "/a//b", "/é"])
def test_a_base_url_that_can_not_be_used(value: str) -> None:
    with pytest.raises(GuestFailure, match="base URL"):
        plan.base_url(["--ServerApp.base_url=" + value])


@pytest.mark.parametrize(
    ("text", "numbers"), [("2.14.0", (2, 14, 0)), ("2.0.0rc1", (2, 0, 0)), ("", ()), ("unknown", ()), ("3", (3,))]
)
def test_versions_compare_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert plan.version(text) == numbers
