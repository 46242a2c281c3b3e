"""Rows of the fault table: what can be wrong with the call, the environment and the profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_runtime.model import Remembered
from remote_runtime.store import Store
from tests.faults.hints import THREE_WAYS
from tests.faults.other_pythons import make_empty_environment
from tests.faults.person import Outcome, Person
from tests.faults.table import fails, works
from tests.jupyter.machine import Machine


@pytest.fixture
def alias(person: Person, machine: Machine) -> str:
    """A machine with Jupyter, which is the same for all rows of this module, as the person knows it."""
    return person.knows(machine.sshd)


@pytest.fixture
def idle(alias: str, machine: Machine) -> str:
    """The same, where no Jupyter runs now."""
    machine.stop_jupyter()
    return alias


# -- names -----------------------------------------------------------------------------------------------------------


@fails("A command's name is misspelt", code="usage", says="Did you mean connect?", status=2)
def test_misspelt_command(person: Person) -> Outcome:
    return person.runs("conect", "--sandbox")


@fails("An option's name is misspelt", code="usage", says="Did you mean --port?", status=2)
def test_misspelt_option(person: Person) -> Outcome:
    return person.runs("connect", "--sandbox", "--prot", "8888")


def writes(person: Person, profile: str) -> None:
    """Have that profile."""
    person.settings.config_dir.mkdir(parents=True)
    (person.settings.config_dir / "config.toml").write_text(profile)


@works("An option's name in config.toml is misspelt", says="Did you mean remote_port?")
def test_misspelt_entry(person: Person, alias: str) -> Outcome:
    writes(person, "remote-prt = 9999\n")
    return person.connects(alias)


# -- values ----------------------------------------------------------------------------------------------------------


@fails("An option's value is nonsense", code="usage", says="they go from 1 to 65535", status=2)
def test_nonsense(person: Person) -> Outcome:
    return person.runs("connect", "--sandbox", "--port", "66000")


@fails(
    "A variable's value is nonsense",
    code="usage",
    says="The value comes from the environment variable REMOTE_RUNTIME_PORT.",
    status=2,
)
def test_nonsense_in_the_environment(person: Person) -> Outcome:
    return person.runs("connect", "--sandbox", REMOTE_RUNTIME_PORT="http")


@fails(
    "A value in config.toml is nonsense",
    code="usage",
    says="The value comes from the profile, its entry timeout.",
    status=2,
)
def test_nonsense_in_the_profile(person: Person) -> Outcome:
    writes(person, "timeout = -1\n")
    return person.runs("url", "trainer")


@fails("config.toml can't be read", code="profile_unreadable", says="Correct the file, or move it away.", status=2)
def test_no_profile(person: Person) -> Outcome:
    writes(person, "timeout: 60\n")
    outcome = person.runs("list")
    assert "config.toml" in outcome.message
    return outcome


@fails(
    "--host-key is no fingerprint",
    code="usage",
    says=(
        "Invalid value for '--host-key': '12:34': not a fingerprint such as ssh-keygen -lf shows: SHA256: and"
        " 43 characters"
    ),
    status=2,
)
def test_no_fingerprint(person: Person) -> Outcome:
    return person.runs("connect", "ada@gpu.example.com", "--host-key", "12:34")


# -- which machine ---------------------------------------------------------------------------------------------------


@fails("No machine is named", code="usage", says=THREE_WAYS, status=2)
def test_no_machine(person: Person) -> Outcome:
    return person.runs("connect")


@fails("Two machines are named", code="usage", says=THREE_WAYS, status=2)
def test_two_machines(person: Person) -> Outcome:
    return person.runs("connect", "ada@gpu.example.com", "trainer")


@fails("Options contradict each other", code="usage", says="Leave one of them out.", status=2)
def test_contradiction(person: Person) -> Outcome:
    return person.runs("connect", "--sandbox", "--provider", "ssh")


@fails("An address is malformed", code="bad_target", says="Write user@host, user@host:port or [v6]:port.", status=2)
def test_malformed_address(person: Person) -> Outcome:
    return person.runs("connect", "ada@gpu.example.com:http")


@fails(
    "A name is known to two providers",
    code="ambiguous_name",
    says="""\
Say which you mean:
  remote-runtime url --provider ssh trainer
  remote-runtime url --provider gce trainer""",
    status=2,
)
def test_ambiguous_name(person: Person) -> Outcome:
    for provider in ("ssh", "gce"):
        Store(person.settings.state_dir).save(Remembered("trainer", provider, local_port=8888, token="t" * 32))
    return person.runs("url", "trainer")


@fails(
    "It was never connected from here",
    code="instance_not_found",
    says="`remote-runtime list` shows what is known here; `remote-runtime connect` connects a machine.",
)
def test_never_connected(person: Person) -> Outcome:
    return person.runs("url", "ada@gpu.example.com")


@fails(
    "A machine known by its address is to be deleted",
    code="not_supported",
    says="To remove only what we put there: remote-runtime uninstall --provider ssh trainer",
)
def test_delete(person: Person, alias: str) -> Outcome:
    return person.runs("delete", "--provider", "ssh", alias)


@fails(
    "There is no terminal to ask for a confirmation",
    code="confirmation_needed",
    says="Add --yes if you are sure: there is no terminal to ask on.",
    status=2,
)
def test_confirmation(person: Person, alias: str) -> Outcome:
    return person.runs("uninstall", "--provider", "ssh", alias)


# -- what Jupyter is told --------------------------------------------------------------------------------------------


@fails("--notebook-dir is not there", code="notebook_dir_missing", says="Make it there, or name another one.")
def test_no_notebook_dir(person: Person, idle: str) -> Outcome:
    return person.connects(idle, "--notebook-dir", "~/absent")


@fails("--python is not there", code="python_not_found", says="Give --python the path of one there.")
def test_no_python(person: Person, idle: str) -> Outcome:
    return person.connects(idle, "--python", "~/venv/bin/python")


@fails(
    "--python has no ipykernel",
    code="python_without_ipykernel",
    says="Install ipykernel there, or give --python the path of one that has it.",
)
def test_no_ipykernel(person: Person, idle: str, tmp_path: Path) -> Outcome:
    make_empty_environment(tmp_path / "there")
    return person.connects(idle, "--python", str(tmp_path / "there" / "bin" / "python"))


@fails(
    "--jupyter-arg takes what the connection needs", code="jupyter_arg_refused", says="Leave it out: use --remote-port."
)
def test_refused_argument(person: Person, idle: str) -> Outcome:
    return person.connects(idle, "--jupyter-arg", "--ServerApp.port=1")


@fails(
    "--jupyter-arg is wrong", code="server_died", says="Its last lines say why; remote-runtime logs shows them again."
)
def test_wrong_argument(person: Person, idle: str) -> Outcome:
    outcome = person.connects(idle, "--jupyter-arg", "--ServerApp.shutdown_no_activity_timeout=soon")
    assert "shutdown_no_activity_timeout" in outcome.told
    return outcome


@works("Jupyter runs already, with other options", says="stop it first to change that")
def test_other_options(person: Person, alias: str) -> Outcome:
    assert person.connects(alias).ready
    return person.connects(alias, "--notebook-dir", "/")
