"""Processes and ports on the VM: whose they are, whether they live, and how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest import processes
from remote_runtime.guest.clock import Deadline

STAT = b"42 (a) R (b) S 7 42 42 0 -1 4194304 1 0 0 0 5 6 0 0 20 0 1 0 987654 1000 10 18446744073709551615"
TABLE = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    b"   0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0\n"
    b"   1: 00000000:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 2 1 0\n"
    b"   2: 0100007F:22B9 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0\n"
)
little = pytest.mark.skipif(sys.byteorder == "big", reason="the table is of a little-endian machine")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_the_stat_of_a_process_with_an_awkward_name() -> None:
    assert processes.parse_stat(STAT) == ("S", 987654)


def test_a_process_has_one_start_time_as_long_as_it_lives(sleeper: subprocess.Popen[bytes]) -> None:
    when = processes.started(sleeper.pid)
    assert when
    assert processes.started(sleeper.pid) == when
    sleeper.kill()
    while os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT) is None:
        pass
    assert processes.started(sleeper.pid) == ""  # a zombie: dead, though its pid is still taken
    sleeper.wait()
    assert processes.started(sleeper.pid) == ""


def test_ps_tells_the_same_where_there_is_no_proc(sleeper: subprocess.Popen[bytes]) -> None:
    when = processes._ps_started(sleeper.pid)
    assert when
    assert processes._ps_started(sleeper.pid) == when
    assert (sleeper.pid, os.getpid()) in processes._ps_parents()
    sleeper.kill()
    sleeper.wait()
    assert processes._ps_started(sleeper.pid) == ""


def test_descendants_of_all_generations() -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'echo ready; sleep 60; :'; :"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        found = processes.descendants(process.pid)
        assert len(found) >= 1
        assert process.pid in processes.ancestors(found[-1])
        assert processes.ancestors(process.pid)[0] == os.getpid()
        assert processes.end_tree(process.pid, processes.started(process.pid), gentle=Deadline(5), hard=Deadline(5))
        assert all(processes.started(pid) == "" for pid in found)


def test_what_does_not_listen_is_killed_with_its_children() -> None:
    code = "import signal,time;signal.signal(15,signal.SIG_IGN);print(flush=True);time.sleep(60)"
    script = f"trap '' TERM; {sys.executable} -c '{code}'; :"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        child = processes.descendants(process.pid)[0]
        assert processes.end_tree(process.pid, processes.started(process.pid), gentle=Deadline(0.2), hard=Deadline(5))
        assert process.wait() == -signal.SIGKILL
        assert processes.started(child) == ""


def test_a_pid_that_was_used_again_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.end({sleeper.pid: "boot/1"}, signal.SIGKILL, Deadline(1)) == {}
    assert sleeper.poll() is None


def test_what_can_not_be_ended_is_reported(sleeper: subprocess.Popen[bytes]) -> None:
    when = processes.started(sleeper.pid)
    assert processes.end({sleeper.pid: when}, 0, Deadline(0.1)) == {sleeper.pid: when}


@little
def test_listeners_of_exactly_one_address() -> None:
    assert processes.listeners(TABLE, "127.0.0.1", 8888) == [1000]
    assert processes.listeners(TABLE, "0.0.0.0", 8888) == [33]
    assert processes.listeners(TABLE, "127.0.0.1", 8889) == []  # a connection is no listener


@given(st.binary() | st.lists(st.sampled_from([*TABLE.split(), b"\n", b" "])).map(b" ".join))
def test_no_table_breaks_the_reader(table: bytes) -> None:
    assert all(uid >= 0 for uid in processes.listeners(table, "127.0.0.1", 8888))


def test_who_listens_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert processes.listener_uid(port) == os.geteuid()
        assert not processes.port_free(port)
    assert processes.listener_uid(port) == -1
    assert processes.port_free(port)


def test_a_listener_on_every_address_takes_the_port_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not processes.port_free(listener.getsockname()[1])


def test_any_port_is_free() -> None:
    assert processes.port_free(processes.any_port())


def test_the_deadline_counts_down() -> None:
    deadline = Deadline(0.05)
    assert not deadline.passed
    assert deadline.bounded(0.01) == 0.01
    assert 0 < deadline.sooner(60).left() <= 0.05
    time.sleep(0.06)
    assert deadline.passed
    assert deadline.left() == 0


def test_a_start_is_told_apart_over_a_boot(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert processes.started(os.getpid()).startswith(boot + "/")
