"""gcloud's properties, endpoints, and what is remembered of a VM."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.errors import UsageError
from remote_runtime.providers.gce import endpoints
from remote_runtime.providers.gce.gcloud import Properties, configuration_directory, properties, read_properties
from remote_runtime.providers.gce.memory import Known, Memory, parse
from remote_runtime.settings import Settings

CONFIGURATION = """
[core]
project = from-file
account = ada@example.com
[compute]
zone = us-west1-b
[auth]
disable_credentials = True
"""


def test_environment_beats_the_configuration() -> None:
    assert properties({}, CONFIGURATION) == Properties(
        project="from-file", account="ada@example.com", zone="us-west1-b", no_credentials=True
    )
    said = {
        "CLOUDSDK_CORE_PROJECT": "said",
        "GOOGLE_CLOUD_PROJECT": "weak",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "false",
    }
    found = properties(said, CONFIGURATION)
    assert (found.project, found.no_credentials) == ("said", False)
    assert properties({"GOOGLE_CLOUD_PROJECT": "weak"}, "").project == "weak"


@given(st.text(max_size=80))
def test_any_file_can_be_read(text: str) -> None:
    assert isinstance(properties({}, text), Properties)


def test_active_configuration(tmp_path: Path) -> None:
    directory = tmp_path / ".config" / "gcloud"
    (directory / "configurations").mkdir(parents=True)
    (directory / "configurations" / "config_work").write_text("[core]\nproject = work\n")
    (directory / "configurations" / "config_default").write_text("[core]\nproject = usual\n")
    assert read_properties({}, tmp_path).project == "usual"
    (directory / "active_config").write_text("work\n")
    assert read_properties({}, tmp_path).project == "work"
    assert read_properties({"CLOUDSDK_ACTIVE_CONFIG_NAME": "default"}, tmp_path).project == "usual"
    assert read_properties({"CLOUDSDK_CONFIG": str(tmp_path / "none")}, tmp_path).project == ""
    assert configuration_directory({"CLOUDSDK_CONFIG": "/x"}, tmp_path) == Path("/x")


@pytest.mark.parametrize(
    ("override", "endpoint"),
    [
        ("", "https://compute.googleapis.com"),
        ("https://compute.p.example/compute/v1/", "https://compute.p.example"),
        ("http://127.0.0.1:8123/compute/v1", "http://127.0.0.1:8123"),
        ("http://[::1]:8123/compute/v1/", "http://[::1]:8123"),
        ("http://localhost:8123/x/compute/v1/", "http://localhost:8123/x"),
    ],
)
def test_compute_endpoint(override: str, endpoint: str) -> None:
    assert endpoints.compute_endpoint(override) == endpoint


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("http://compute.example/compute/v1/", "insecure_endpoint"),
        ("http://127.0.0.1.example/compute/v1/", "insecure_endpoint"),
        ("ftp://127.0.0.1/compute/v1/", "bad_endpoint"),
        ("https://compute.example/", "bad_endpoint"),
        ("https://compute.example/compute/v1/more", "bad_endpoint"),
    ],
)
def test_credentials_go_nowhere_else(override: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        endpoints.compute_endpoint(override)
    assert caught.value.code == code


def test_oslogin_endpoint() -> None:
    assert endpoints.oslogin_endpoint("") == "https://oslogin.googleapis.com/"
    assert endpoints.oslogin_endpoint("http://127.0.0.1:1/oslogin") == "http://127.0.0.1:1/oslogin/"


KNOWN = Known("p", "z", "42", "ada", "external", "34.1.2.3", "/key", 5.0, ("ssh-ed25519 AAAA",), "the attributes", 7.0)


def test_memory_keeps_what_it_was_told(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.load("trainer") is None
    memory.save("trainer", KNOWN)
    assert memory.load("trainer") == KNOWN
    assert memory.load("other") is None
    memory.forget("trainer")
    memory.forget("trainer")
    assert memory.load("trainer") is None


WARM = """
import sys
from remote_runtime._threads import Deadline
from remote_runtime.providers.gce import GceOptions, GceProvider
from remote_runtime.settings import Settings
machine = GceProvider(Settings.load(), GceOptions()).ensure("trainer", Deadline(9), lambda event: None)
print(machine.resolve(Deadline(9)).host, [name for name in sys.modules if name.startswith(("google", "requests"))])
"""


def test_what_is_remembered_is_used_without_any_of_googles_libraries(settings: Settings) -> None:
    Memory(settings.state_dir).save("trainer", dataclasses.replace(KNOWN, key_until=time.time() + 999999))
    answer = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout == "34.1.2.3 []\n", answer.stderr


@pytest.mark.parametrize(
    "change",
    [{"route": "by-foot"}, {"zone": 3}, {"host_keys": "x"}, {"new": 1}, {"key_until": "soon"}, {"at_end": "sell"}],
)
def test_damaged_memory_counts_as_none(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(json.dumps({**dataclasses.asdict(KNOWN), **change}).encode())


def test_memory_of_an_older_version_is_that_of_a_vm_that_is_stopped() -> None:
    values = dataclasses.asdict(KNOWN)
    del values["at_end"]
    assert parse(json.dumps(values).encode()) == KNOWN
    assert parse(json.dumps({**values, "at_end": "delete"}).encode()).at_end == "delete"


def test_memory_without_a_field_counts_as_none() -> None:
    values = dataclasses.asdict(KNOWN)
    del values["address"]
    with pytest.raises(ValueError, match="missing"):
        parse(json.dumps(values).encode())
