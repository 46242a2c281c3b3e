"""The user data for cloud-init."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from remote_runtime import cloud_init, startup_script

AWKWARD = "#!/bin/sh\n# x: y\n\n\tcat <<'END'\n  two\n\nEND\necho \"$x\" 'a: b' # c\n"


@pytest.mark.parametrize("script", [AWKWARD, startup_script.render()], ids=["awkward", "ours"])
def test_script_arrives_as_it_is(script: str) -> None:
    text = cloud_init.render(script)
    data: dict[str, Any] = yaml.safe_load(text)
    assert text.startswith("#cloud-config\n")
    assert data == {
        "write_files": [
            {"path": cloud_init.PLACE, "owner": "root:root", "permissions": "0700", "content": script},
        ]
    }


@pytest.mark.skipif(
    shutil.which("cloud-init") is None, reason="cloud-init is not installed: it would run at every boot"
)
def test_cloud_init_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "user-data.yaml"
    file.write_text(cloud_init.render(startup_script.render()))
    done = subprocess.run(["cloud-init", "schema", "--config-file", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
