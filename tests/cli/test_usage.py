"""Calls that can't work are told so in words, with exit status 2, before anything is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from remote_runtime.cli import main
from remote_runtime.cli.app import COMMANDS
from remote_runtime.settings import Settings
from tests.cli.conftest import json_lines, run

pytestmark = pytest.mark.usefixtures("settings")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["conect", "x"], ["Did you mean connect?"]),
        (["zzz"], ["The commands are: connect, url,"]),
        (["install"], ["The commands are: connect, url,"]),
        (["login"], ["The commands are: connect, url,"]),
        (["extension", "instal"], ["'extension instal'", "Did you mean install?"]),
        (["extension", "remove"], ["The commands are: disable, enable,"]),
        (["connect", "ada@"], ["'ada@'", "no host", "user@host"]),
        (["connect", "ada@:22"], ["no host"]),
        (["url", ":22"], ["no host"]),
        (["status", "@host"], ["no user"]),
        (["connect", "host:"], ["not [user@]host[:port]"]),
        (["connect", "ada@[::1"], ["not [user@]host[:port]"]),
        (["connect", "host:65536"], ["port", "65535"]),
        (["connect"], ["No machine was named", "connect NAME", "connect user@host[:port]", "connect --sandbox"]),
        (["stop"], ["No machine was named", "stop --sandbox"]),
        (["url", "a", "b"], ["2 machines", "url --sandbox"]),
        (["connect", "me@host", "--sandbox"], ["Two machines", "connect --sandbox"]),
        (["connect", "a", "--instance", "b"], ["2 machines"]),
        (["connect", "--sandbox", "--provider", "ssh"], ["contradict"]),
        (["connect", "a", "--provider", "aws"], ["--provider", "aws"]),
        (["connect", "a", "--prot", "1"], ["--prot", "Did you mean", "--port"]),
        (["connect", "a", "--port", "0"], ["--port", "1 to 65535", "auto"]),
        (["connect", "a", "--timeout", "nan"], ["--timeout", "more than 0"]),
        (["connect", "a", "-L", "80:x"], ["-L", "6006:localhost:6006"]),
        (["connect", "a", "--port", "80", "-L", "80:h:80"], ["80 was named twice"]),
        (["connect", "a", "--allow-origin", "*"], ["--allow-origin", "https://colab.research.google.com"]),
        (["connect", "a", "--host-key", "abc"], ["--host-key", "SHA256:"]),
        (["connect", "a", "--python", ""], ["--python", "empty"]),
        (["connect", "a", "-q", "-v"], ["contradict"]),
        (["connect", "me@host", "--gpu", "l4"], ["--gpu means nothing"]),
        (["connect", "a", "--gpu", "l4"], ["--gpu is for a new VM", "--create"]),
        (["connect", "a", "--create", "--gpu", "L4"], ["--gpu", "t4:2"]),
        (["connect", "a", "--create", "--gpu", "l4:3"], ["no VM with 3 x nvidia-l4"]),
        (["connect", "a", "--create", "--max-run-duration", "soon"], ["--max-run-duration", "24h"]),
        (["create", "a", "--zone", "z", "--region", "r"], ["contradict"]),
        (["create", "a", "--label", "x"], ["--label", "KEY=VALUE"]),
        (["create", "a", "--scope", "x"], ["--scope is for a service account", "--service-account"]),
        (["create", "a", "--image", "i", "--image-family", "f"], ["--image and --image-family contradict"]),
        (["create", "a", "--jump", "host"], ["No such option", "--jump"]),
        (["list", "--project", "p"], ["--project", "Add --vms"]),
        (["list", "--vms", "--timeout", "0"], ["--timeout", "more than 0"]),
        (["exec", "a"], ["No command was given", "exec NAME -- COMMAND"]),
        (["exec", "a", "--"], ["No command was given"]),
        (["exec", "a", "ls"], ["No command was given", "exec NAME -- COMMAND"]),
        (["exec", "--", "ls"], ["No machine was named", "exec --sandbox"]),
        (["connect", "a", "--internal-ip", "--tunnel-through-iap"], ["two ways"]),
        (["connect", "a", "--jump", "host", "--tunnel-through-iap"], ["--jump and --tunnel-through-iap are two ways"]),
        (["connect", "--sandbox", "--zone", "here"], ["--zone means nothing", "sandbox"]),
        (["connect", "me@host", "--user", "you"], ["Two users"]),
        (["connect", "--", "-rf"], ["can't be the name"]),
        (["logs", "a", "-n", "0"], ["--lines"]),
        (["stop", "--all", "a"], ["contradict"]),
        (["delete", "--sandbox"], ["confirmation", "--yes"]),
        (["uninstall", "me@host"], ["confirmation", "--yes"]),
    ],
)
def test_wrong_calls(arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    where = 1 if "--" in arguments else len(arguments)
    assert main([*arguments[:where], "--json", *arguments[where:]]) == 2
    shown = capsys.readouterr()
    [error] = json_lines(shown.out)
    assert (error["event"], error["retryable"]) == ("error", False)
    assert error["code"] in ("usage", "bad_target", "bad_spec", "confirmation_needed")
    for text in (f"{error['message']}\n{error['hint']}", shown.err):
        assert all(word in text for word in said), text


def test_a_wrong_call_writes_nothing_to_stdout_and_shows_no_traceback_unless_asked() -> None:
    plain = run("connect", "a", "--port", "0")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr.startswith("error: ")
    assert "Traceback" in run("connect", "a", "--port", "0", "-v").stderr


def test_a_name_of_two_providers(settings: Settings) -> None:
    assert run("create", "--sandbox", "--instance", "twice").returncode == 0
    from remote_runtime.model import Remembered
    from remote_runtime.store import Store

    Store(settings.state_dir).save(Remembered("twice", "ssh", local_port=1234, token="t"))
    answer = run("url", "twice")
    assert answer.returncode == 2
    assert "sandbox and ssh" in answer.stderr
    assert "remote-runtime url --sandbox --instance twice" in answer.stderr
    assert run("url", "twice", "--provider", "ssh").stdout == "http://localhost:1234/?token=t\n"
    assert run("delete", "--sandbox", "--instance", "twice", "-y").returncode == 0
    assert run("url", "twice").stdout == "http://localhost:1234/?token=t\n"


def test_a_bare_name_is_a_vm_of_googles_which_takes_credentials() -> None:
    answer = run("connect", "trainer", "--zone", "us-central1-a", "--project", "p", "--json", NO_GCE_CHECK="true")
    assert answer.returncode == 1
    assert json_lines(answer.stdout)[-1]["code"] == "credentials_missing"
    assert "gcloud auth application-default login" in answer.stderr
    assert "--sandbox" in answer.stderr


def test_a_bare_name_of_which_nothing_is_known_is_given_no_provider() -> None:
    assert "error: plain was never connected from this computer" in run("url", "plain").stderr


def test_a_stopped_sandbox_tells_how_to_start_it() -> None:
    sandbox = ("--sandbox", "--instance", "two")
    assert run("create", *sandbox).returncode == 0
    assert run("stop", *sandbox).returncode == 0
    assert "Machine     two (sandbox): stopped\n" in run("status", *sandbox).stdout
    for verb in ("logs", "uninstall"):
        assert "Start it first: remote-runtime start --sandbox --instance two\n" in run(verb, *sandbox, "-y").stderr
    assert run("delete", *sandbox, "-y").returncode == 0


def test_options_come_from_the_environment_and_the_profile(settings: Settings) -> None:
    assert "REMOTE_RUNTIME_PORT" in run("connect", "a", REMOTE_RUNTIME_PORT="x").stderr
    assert "'y'" in run("connect", "a", "--port", "y", REMOTE_RUNTIME_PORT="1").stderr
    assert "sandbox (sandbox) was never connected" in run("url", REMOTE_RUNTIME_SANDBOX="1").stderr
    assert "me@host (ssh) was never" in run("url", REMOTE_RUNTIME_INSTANCE="me@host").stderr
    settings.config_dir.mkdir(parents=True)
    profile = settings.config_dir / "config.toml"
    profile.write_text('provider = "ssh"\ninstance = "gpu"\nzone = "one"\nforward = "1:h:2"\nall = true\ntimeout = 5\n')
    assert "gpu (ssh) was never" in run("url").stderr
    assert "box (sandbox) was never" in run("url", "box", REMOTE_RUNTIME_PROVIDER="sandbox").stderr
    assert "1 was named twice" in run("connect", "gpu", "--port", "1").stderr
    assert "No machine is known" not in run("stop", "--sandbox").stderr  # --all is for one call, whatever a file says
    profile.write_text("timeout = -1\n")
    assert "the profile, its entry timeout" in run("url", "gpu").stderr
    profile.write_text("not toml")
    answer = run("list", "--json")
    assert answer.returncode == 2
    assert json_lines(answer.stdout)[0]["code"] == "profile_unreadable"


def test_a_profile_is_remarked_on_only_where_nothing_reads_it(settings: Settings) -> None:
    settings.config_dir.mkdir(parents=True)
    profile = settings.config_dir / "config.toml"
    profile.write_text('kernel_lease = 60\nsandbox_server = "auto"\niap_endpoint = "wss://host/v4"\nuser = "ada"\n')
    assert run("list").stderr == "No machine is known yet. To try one: remote-runtime connect --sandbox\n"
    profile.write_text('kernel_leese = 60\nnew_token = true\nhost_key = "x"\ntargets = "trainer"\n')
    answer = run("url")
    assert "'kernel_leese' is no option, so it is not used. Did you mean kernel_lease?" in answer.stderr
    for flag in ("new-token", "host-key"):
        assert f"is not used: --{flag} must be said for each call." in answer.stderr
    assert "No machine was named" in answer.stderr  # an argument is no option


def test_new_token_and_host_key_are_for_one_call(settings: Settings) -> None:
    said = run("connect", REMOTE_RUNTIME_NEW_TOKEN="nonsense", REMOTE_RUNTIME_HOST_KEY="nonsense").stderr
    assert "No machine was named" in said


def test_a_user_to_connect_as_is_not_whom_a_vm_is_prepared_for(settings: Settings) -> None:
    plain = run("startup-script").stdout
    settings.config_dir.mkdir(parents=True)
    (settings.config_dir / "config.toml").write_text('user = "ada"\n')
    assert run("startup-script", REMOTE_RUNTIME_USER="ada").stdout == plain


def test_the_wish_for_json_or_details_reaches_everything(settings: Settings) -> None:
    for call in (["conect"], ["connect", "a", "--prot", "1"], ["extension", "instal"]):
        [error] = json_lines(run(*call, REMOTE_RUNTIME_JSON="1").stdout)
        assert (error["event"], error["code"]) == ("error", "usage")
        assert run(*call, REMOTE_RUNTIME_JSON="0").stdout == ""
    assert "Traceback" in run("conect", REMOTE_RUNTIME_VERBOSE="1").stderr
    settings.config_dir.mkdir(parents=True)
    (settings.config_dir / "config.toml").write_text("json = true\nverbose = true\n")
    answer = run("extension", "status", "--python", "/nowhere/python")
    assert json_lines(answer.stdout)[0]["event"] == "error"
    assert "Traceback" in answer.stderr


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> tuple[int, str, str]:
        return main(arguments), *capsys.readouterr()

    status, overview, _ = shown("--help")
    assert status == 0
    for name in COMMANDS:
        assert f"  {name} " in overview
        status, text, errors = shown(name, "--help")
        assert (status, errors) == (0, "")
        if name == "extension":
            assert "  install " in text and "  status " in text
            text = shown(name, "install", "--help")[1]
        assert "--json" in text
        assert "[NAME|TARGET]" in text or name in ("list", "extension", "startup-script")
    assert "remote-runtime connect --sandbox" in shown("connect", "--help")[1]
    assert shown() == (2, "", overview)


def test_the_version() -> None:
    from remote_runtime import __version__

    assert run("--version").stdout == f"remote-runtime {__version__}\n"


SEEN = """
import os, sys
os.environ.update({environment})
from remote_runtime.cli import main
try:
    main({arguments})
except SystemExit:
    pass
heavy = [name for name in ("paramiko", "google", "cryptography", "rich", "asyncssh") if name in sys.modules]
sys.stderr.write("heavy:" + ",".join(heavy))
"""
COMPLETING = {"_REMOTE_RUNTIME_COMPLETE": "bash_complete", "COMP_CWORD": "1", "COMP_WORDS": "remote-runtime con"}


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["connect", "--help"], {}),
        (["--version"], {}),
        (["connect"], {}),
        ([], COMPLETING),
        ([], {**COMPLETING, "COMP_CWORD": "2", "COMP_WORDS": "remote-runtime connect --p"}),
        (["list"], {}),
    ],
)
def test_light_calls_import_nothing_heavy(arguments: list[str], environment: dict[str, str]) -> None:
    code = SEEN.format(arguments=arguments, environment=environment)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stderr.endswith("heavy:"), answer.stderr


def test_shells_complete_commands_options_and_names(settings: Settings) -> None:
    from remote_runtime.model import Remembered
    from remote_runtime.store import Store

    Store(settings.state_dir).save(Remembered("trainer", "ssh"))
    program = str(Path(sys.executable).with_name("remote-runtime"))
    for words, number, expected in [
        ("remote-runtime con", "1", "connect"),
        ("remote-runtime stop tra", "2", "trainer"),
        ("remote-runtime connect --rem", "2", "--remote-port"),
    ]:
        environment = {**COMPLETING, "COMP_WORDS": words, "COMP_CWORD": number}
        answer = subprocess.run(
            [program],
            env={"HOME": str(settings.home), "REMOTE_RUNTIME_HOME": str(settings.state_dir.parent), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert expected in answer.stdout, answer.stderr
