"""Whose credentials are taken, what they cost, and what people are told when they are no good."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.errors import InstanceError
from remote_runtime.model import Dial
from remote_runtime.providers.gce import GceOptions, GceProvider
from remote_runtime.settings import Settings
from tests.gce.cloud import Cloud
from tests.gce.cloud.relay import Relay
from tests.gce.cloud.world import USER_TOKEN

SECONDS = 30.0
ZONE = "us-central1-a"
LOGIN = "gcloud auth application-default login"
VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
SECRET = "the-heart-of-the-key"

Gcloud = Callable[[], int]
"""How often gcloud was started."""


@pytest.fixture
def bare(api: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A cloud that wants a token from everybody, and an environment that has none, nor a project."""
    for name in ("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", "CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_CORE_PROJECT"):
        monkeypatch.delenv(name)
    api.world.token_required = True
    return api


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gcloud:
    """A gcloud, alone on PATH, that knows a project."""
    directory, started = tmp_path / "bin", tmp_path / "started"
    directory.mkdir()
    started.touch()
    program = directory / "gcloud"
    program.write_text(f'#!/bin/sh\necho "$@" >>{started}\necho of-gcloud\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(directory))
    return lambda: len(started.read_text().splitlines())


def provide(**options: object) -> GceProvider:
    return GceProvider(Settings.load(), GceOptions(user="ada", zones=(ZONE,), **options))  # type: ignore[arg-type]


def refused(**options: object) -> InstanceError:
    """The error of a first look; nothing secret is in it, nor in its traceback."""
    with pytest.raises(InstanceError) as caught:
        provide(**options).find("trainer")
    assert SECRET not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    return caught.value


def logged_in(cloud: Cloud) -> Path:
    """The file that gcloud leaves at a login, with a token that is good."""
    path = Path(cloud.environment()["CLOUDSDK_CONFIG"]) / "application_default_credentials.json"
    path.parent.mkdir(exist_ok=True)
    content = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    path.write_text(json.dumps({**content, "token": USER_TOKEN, "expiry": "2099-01-01T00:00:00Z"}))
    return path


# -- the machine's own ----------------------------------------------------------------------------------------------

ON_A_MACHINE = """
import json
from remote_runtime._threads import Deadline
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.providers.gce import GceOptions, GceProvider, GceSpec
from remote_runtime.settings import Settings
try:
    provider, deadline = GceProvider(Settings.load(), GceOptions(user="ada", zones=("us-central1-a",))), Deadline(20)
    endpoint = provider.ensure("trainer", deadline, lambda event: None).resolve(deadline)
    labels = provider.creation_request(GceSpec("other"), deadline)["body"]["labels"]
    print(json.dumps([endpoint.host, endpoint.user, labels["owner"]]))
except RemoteRuntimeError as error:
    print(json.dumps([error.code, error.hint]))
"""


def on_a_machine(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a process finds whose metadata server the cloud's is; google.auth looks for it at its import."""
    monkeypatch.setenv("GCE_METADATA_HOST", cloud.metadata_host)
    monkeypatch.setenv("GCE_METADATA_IP", cloud.metadata_host)
    argv = [sys.executable, "-c", ON_A_MACHINE]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    return list(json.loads(answer.stdout))


def test_a_machines_own_credentials_let_in_by_os_login(bare: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = bare.vm("trainer", metadata={"enable-oslogin": "TRUE"})
    email = bare.world.tokens[bare.world.service_account_token]
    owner = email.replace("@", "_").replace(".", "_")
    assert on_a_machine(bare, monkeypatch) == [vm.address, owner.replace("-", "_"), owner]
    assert len(bare.world.login_profiles[email]["sshPublicKeys"]) == 1
    assert {call.headers["authorization"] for call in bare.calls} == {f"Bearer {bare.world.service_account_token}"}


def test_a_machine_without_a_service_account_is_told_so(bare: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.world.service_account_token = ""
    code, hint = on_a_machine(bare, monkeypatch)
    assert code == "credentials_missing"
    assert "service account" in hint
    assert LOGIN in hint
    assert bare.calls == []


# -- a login, or a key file -----------------------------------------------------------------------------------------


def test_a_login_is_used_without_gcloud_where_the_project_is_known(
    bare: Cloud, gcloud: Gcloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(bare)
    bare.vm("trainer")
    assert provide(project=bare.project).find("trainer") is not None
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", bare.project)
    assert provide().find("trainer") is not None
    assert {call.headers["authorization"] for call in bare.calls} == {f"Bearer {USER_TOKEN}"}
    assert gcloud() == 0


@pytest.mark.parametrize(("variable", "project"), [("", "of-gcloud"), ("GCLOUD_PROJECT", "of-the-environment")])
def test_gcloud_is_asked_for_a_project_that_nothing_else_names(
    bare: Cloud, gcloud: Gcloud, monkeypatch: pytest.MonkeyPatch, variable: str, project: str
) -> None:
    logged_in(bare)
    if variable:
        monkeypatch.setenv(variable, project)
    assert provide().project == project
    assert gcloud() == 1


def test_a_key_file_goes_before_the_login(
    bare: Cloud, gcloud: Gcloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logged_in(bare)
    bare.vm("trainer")
    bare.write_service_account(tmp_path / "key.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "key.json"))
    for project in ("", bare.project):  # the first is the file's
        assert provide(project=project).find("trainer") is not None
    assert {call.headers["authorization"] for call in bare.calls} == {f"Bearer {bare.world.service_account_token}"}
    assert gcloud() == 0


# -- cures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", ["", "p"])
@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{}",
        b"[]",
        f'{{"private_key": "{SECRET}\xff"}}'.encode("latin-1"),
        f'{{"type": "service_account", "client_email": "x@y", "token_uri": "u", "private_key": "{SECRET}"}}'.encode(),
    ],
)
def test_a_key_file_that_can_not_be_read_is_named(
    bare: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, project: str
) -> None:
    key = tmp_path / "key.json"
    if content is not None:
        key.write_bytes(content)
    monkeypatch.setenv(VARIABLE, str(key))
    error = refused(project=project)
    assert error.code == "credentials_unreadable"
    assert str(key) in error.message
    assert error.hint.startswith(f"{VARIABLE} names {key}: ")
    assert f"unset it and log in: {LOGIN}" in error.hint


def test_a_key_file_that_is_rejected_is_named(bare: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.write_service_account(tmp_path / "key.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "key.json"))
    bare.world.grants_refused = True
    error = refused()
    assert error.code == "credentials_rejected"
    assert error.hint.startswith(f"{VARIABLE} names {tmp_path / 'key.json'}: ")


@pytest.mark.parametrize("named", [True, False])
def test_a_damaged_login_is_cured_by_another(bare: Cloud, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    path = logged_in(bare)
    path.write_text("{")
    if named:
        monkeypatch.setenv(VARIABLE, str(path))
    error = refused()
    assert (error.code, error.hint) == ("credentials_unreadable", f"Log in again: {LOGIN}")
    assert str(path) in error.message


def test_credentials_that_are_switched_off_are_to_be_switched_on(bare: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
    error = refused(project=bare.project)
    assert error.code == "credentials_rejected"
    assert "gcloud config unset auth/disable_credentials" in error.hint


def test_iap_names_the_file_whose_token_it_rejects(api: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api.vm("trainer", external=False)
    with Relay(tmp_path, lambda query, token: 4003) as relay:
        for name, value in relay.environment().items():
            monkeypatch.setenv(name, value)
        via = provide().ensure("trainer", Deadline(SECONDS), lambda event: None).resolve(Deadline(SECONDS)).via
        assert isinstance(via, Dial)
        relay.refuse(401, times=2)
        with pytest.raises(InstanceError) as caught:
            via.dial(Deadline(SECONDS))
    assert caught.value.code == "credentials_rejected"
    token_file = api.environment()["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]
    assert caught.value.hint == f"Log in again: gcloud auth print-access-token >{token_file}"
