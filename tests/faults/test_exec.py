"""``exec``, when the network goes while the command runs."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from remote_runtime.settings import Settings
from tests.cli.conftest import COMMAND
from tests.netlab import PATIENCE, StartFarSshd, StartNetlab

pytestmark = pytest.mark.netns


def test_a_command_does_not_wait_for_a_network_that_is_gone(
    netlab: StartNetlab, far_sshd: StartFarSshd, settings: Settings
) -> None:
    lab = netlab(rtt_ms=20)
    far = far_sshd(lab)
    (settings.home / ".ssh").mkdir(mode=0o700)
    (settings.home / ".ssh" / "known_hosts").write_text(f"{lab.far.address} {far.files.host_keys[0]}\n")
    entry = f"Host trainer\n  HostName {lab.far.address}\n  IdentityFile {far.files.client_key}\n"
    (settings.home / ".ssh" / "config").write_text(entry)
    program = "import time; print('begun', flush=True); time.sleep(60)"
    argv = [*COMMAND, "exec", "--provider", "ssh", "trainer", "--timeout", "60", "--", "python3", "-c", program]
    process = lab.near.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    began = time.monotonic()
    lab.black_hole()
    out, err = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 1, (out, err)
    print(f"given up after {time.monotonic() - began:.1f} s:\n{err}")
    assert "connection is gone" in err
