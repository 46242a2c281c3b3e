"""The fixtures that the other tests stand on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.model import Dial, Endpoint
from remote_runtime.settings import Settings
from tests import leaks
from tests.openssh import Sshd, StartSshd
from tests.tools import need


def ssh(sshd: Sshd, *command: str) -> subprocess.CompletedProcess[str]:
    known = sshd.files.directory / "known_hosts"
    known.write_text("".join(f"[127.0.0.1]:{sshd.port} {key}\n" for key in sshd.files.host_keys))
    argv = [need("ssh", "openssh-client"), "-F", "none", "-i", str(sshd.files.client_key), "-p", str(sshd.port)]
    argv += ["-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "127.0.0.1", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


def test_the_daemon_lets_us_in_with_its_scratch_home(start_sshd: StartSshd) -> None:
    sshd = start_sshd(host_keys=("ed25519", "ecdsa"), environment={"FLAVOUR": "plum jam"})
    answer = ssh(sshd, 'echo "$HOME $FLAVOUR"')
    assert answer.stdout == f"{sshd.home} plum jam\n", answer.stderr + sshd.log
    kinds = [key.split()[0] for key in sshd.files.host_keys]
    assert kinds == ["ssh-ed25519", "ecdsa-sha2-nistp256"]


def test_options_reach_the_daemon(start_sshd: StartSshd) -> None:
    assert "no-such" not in ssh(start_sshd(), "echo ok").stdout
    assert ssh(start_sshd(ForceCommand="echo forced"), "echo ok").stdout == "forced\n"


def test_a_cut_connection_ends_and_the_port_stays(sshd: Sshd) -> None:
    with socket.create_connection(("127.0.0.1", sshd.port), timeout=5) as client:
        assert client.recv(4) == b"SSH-"
        assert sshd.kill_connections() >= 1
        with suppress(ConnectionResetError):  # an orderly end is an end too; a TimeoutError is none
            while client.recv(4096):
                pass
    assert ssh(sshd, "echo again").stdout == "again\n"
    sshd.restart()
    assert ssh(sshd, "echo restarted").stdout == "restarted\n"
    sshd.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sshd.port), timeout=5)


def test_a_pair_speaks_ssh(sshd_pair: Endpoint) -> None:
    assert isinstance(sshd_pair.via, Dial)
    for _ in range(2):
        with sshd_pair.via.dial(Deadline(10)) as client:
            client.settimeout(10)
            assert client.recv(4) == b"SSH-"


def test_settings_are_this_tests_own(settings: Settings, tmp_path: Path) -> None:
    assert settings.home == tmp_path / "home"
    assert tmp_path in settings.state_dir.parents
    assert not any(name.startswith("REMOTE_RUNTIME_") for name in os.environ if name != "REMOTE_RUNTIME_HOME")


def test_what_is_left_behind_is_seen(tmp_path: Path) -> None:
    before = leaks.Present.now()
    ends = threading.Event()
    thread = threading.Thread(target=ends.wait, name="forgotten")
    thread.start()
    detached = [sys.executable, "-c", "import os, time; os.fork() or (os.setsid(), time.sleep(60))"]
    subprocess.run(detached, env={"HOME": f"{tmp_path}/home"}, check=True, timeout=20)
    with (tmp_path / "open").open("w"), subprocess.Popen(["sleep", "60"]) as child:
        seen = leaks.Present.now().since(before, tmp_path)
        assert "thread forgotten" in str(seen)
        assert f"{tmp_path}/open" in str(seen)
        assert "sleep 60" in str(seen)
        assert "os.fork()" in str(seen)
        for process in seen.processes:
            process.kill()
        child.wait(5)
    ends.set()
    thread.join()
    end = time.monotonic() + 5
    while (left := leaks.Present.now().since(before, tmp_path)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left, left
