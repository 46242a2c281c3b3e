"""Each example does what its first lines say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from remote_runtime import GceSpec, startup_script
from remote_runtime.providers.sandbox import SandboxProvider
from tests.examples.conftest import EXAMPLES, SECONDS, run
from tests.gce.cloud import Cloud
from tests.gce.conftest import api as api
from tests.gce.conftest import cloud as cloud

URL = re.compile(r"http://localhost:\d+/\?token=\w+")


def test_automation_in_a_sandbox(sandboxes: SandboxProvider) -> None:
    done = run(sys.executable, EXAMPLES / "automation.py", "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("adding 100 numbers on ")
    assert last == "{'sum': 5050}"
    assert sandboxes.list() == [], "it deletes what it made"


def test_automation_asks_where_to_make_a_vm_with_a_gpu(sandboxes: SandboxProvider) -> None:
    done = run(sys.executable, EXAMPLES / "automation.py", "--gpu", "l4")
    assert done.returncode == 2
    assert "--zone" in done.stderr
    assert sandboxes.list() == []


@pytest.mark.slow
def test_automation_on_a_vm(cloud: Cloud) -> None:
    options = ["--zone", "us-central1-a", "--user", "ada", "--python", sys.executable]
    done = run(sys.executable, EXAMPLES / "automation.py", *options, "job")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{'sum': 5050}"
    assert cloud.vms == []
    [made] = [call for call in cloud.calls if call.method == "instances.insert"]
    assert made.body["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert GceSpec("job").at_end == "stop", "which is what is said for a VM that is kept"


def test_a_notebook_is_run_and_saved_with_its_outputs_and_its_failure(tmp_path: Path) -> None:
    saved = tmp_path / "done.ipynb"
    done = run(
        sys.executable, EXAMPLES / "run_notebook.py", EXAMPLES / "squares.ipynb", saved, "--python", sys.executable
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[1, 4, 9, 16, 25]\n")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(saved, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[2].outputs[0].data["text/plain"] == "[1, 4, 9, 16, 25]"
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2]

    broken = json.loads((EXAMPLES / "squares.ipynb").read_text())
    broken["cells"][2]["source"] = ["1 / 0"]
    (tmp_path / "broken.ipynb").write_text(json.dumps(broken))
    argv = [EXAMPLES / "run_notebook.py", tmp_path / "broken.ipynb", saved, "--python", sys.executable]
    done = run(sys.executable, *argv)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert json.loads(saved.read_text())["cells"][2]["outputs"][0]["ename"] == "ZeroDivisionError"


def test_the_command_line(sandboxes: SandboxProvider) -> None:
    done = run(EXAMPLES / "command_line.sh")
    assert done.returncode == 0, done.stderr
    assert URL.search(done.stdout)
    assert "connected" in done.stdout
    assert [(machine.name, machine.state) for machine in sandboxes.list()] == [("example", "stopped")]


def test_what_to_paste_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen(
        [EXAMPLES / "front_ends.sh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as example:
        try:
            assert example.stdout
            lines = []
            for line in example.stdout:
                lines.append(line)
                if "do not share" in line:
                    break
            said = "".join(lines)
            assert example.poll() is None, "it stays"
            [url] = set(URL.findall(said))
            with urllib.request.urlopen(url.replace("/?", "/api/status?"), timeout=20) as answer:
                assert answer.status == 200
        finally:
            os.killpg(example.pid, signal.SIGINT)
            status = example.wait(SECONDS)
    assert status == 0, "Ctrl-C is its usual end"
    assert list(tmp_path.glob("tmp.*")) == []
    for front_end in ("Colab", "VS Code", "JupyterLab"):
        assert front_end in said


@pytest.mark.parametrize("example", ["command_line.sh", "front_ends.sh"])
def test_what_cannot_be_connected_fails_as_connect_does(example: str) -> None:
    """The line of words says why, and nothing is printed in place of the URL."""
    done = run(EXAMPLES / example, "--timeout", "3", "ada@127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed (cloud.google.com/sdk)")
def test_a_startup_script_and_gcloud(api: Cloud) -> None:
    done = run(EXAMPLES / "startup_script.sh", "trainer", "us-central1-a", "ada")
    assert done.returncode == 0, done.stderr
    [vm] = api.vms
    assert (vm.name, vm.metadata["startup-script"]) == ("trainer", startup_script.render())
    assert vm.metadata["remote-runtime-user"] == "ada"
    assert "remote-runtime connect --zone us-central1-a --user ada trainer" in done.stdout


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_finds_the_module_and_what_it_asks_for(tmp_path: Path) -> None:
    """As far as it goes without Google's provider."""
    for part in ("examples/terraform", "provisioning/terraform"):
        shutil.copytree(EXAMPLES.parent / part, tmp_path / part)
    here = f"-chdir={tmp_path / 'examples/terraform'}"
    for words in (["fmt", "-check"], ["get"]):
        done = run("terraform", here, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "examples/terraform/main.tf").read_text()
    given = set(re.findall(r"^  (\w+) +=", text.partition('module "trainer"')[2].partition("}\n")[0], re.MULTILINE))
    variables = (tmp_path / "provisioning/terraform/variables.tf").read_text()
    assert given - {"source"} <= set(re.findall(r'^variable "(\w+)"', variables, re.MULTILINE))
    assert {"name", "zone", "startup_script"} <= given


def test_the_readme_of_the_examples_names_each() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name not in ("README.md", "__pycache__"):
            assert f"]({path.name})" in listed, path.name
