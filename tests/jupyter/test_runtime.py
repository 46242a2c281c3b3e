"""What a program does with a Runtime: code in a kernel of the VM, commands, and further ports."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from remote_runtime import CellError, Runtime, Settings
from remote_runtime.errors import GuestError, KernelError, NetworkError, PortInUse, TimedOut
from remote_runtime.kernels import Kernel
from tests.jupyter.machine import Machine
from tests.jupyter.test_connect import get, join, kill
from tests.ssh.peers import echo, serving

PATIENCE_SECONDS = 30.0


@pytest.fixture
def runtime(user: Settings) -> Iterator[Runtime]:
    with join(user) as runtime:
        yield runtime


def another_host(user: Settings) -> Settings:
    return Settings.load({"HOME": str(user.home), "REMOTE_RUNTIME_HOME": str(user.home / "other")})


def kernels(runtime: Runtime) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(get(runtime, "api/kernels"))
    return found


# -- code -------------------------------------------------------------------------------------------------------------


def test_code_gives_what_it_prints_and_what_it_is_worth(runtime: Runtime) -> None:
    result = runtime.execute("print('one'); print('two'); 6 * 7")
    assert result.outputs == [
        {"output_type": "stream", "name": "stdout", "text": "one\ntwo\n"},
        {"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "execution_count": 1},
    ]
    assert (result.text, result.data, result.execution_count) == ("one\ntwo\n42\n", {"text/plain": "42"}, 1)
    assert (result.error, result.complete) == (None, True)
    assert runtime.execute("x = 1").outputs == []
    assert runtime.execute("x + 1").data == {"text/plain": "2"}, "the kernel is the same one"


def test_outputs_come_while_the_code_runs(runtime: Runtime) -> None:
    came: list[tuple[float, str]] = []
    result = runtime.execute(
        "import time\nfor i in range(3):\n    print(i, flush=True); time.sleep(0.3)",
        on_output=lambda output: came.append((time.monotonic(), output["text"])),
    )
    assert "".join(text for _, text in came) == result.text == "0\n1\n2\n"
    assert came[-1][0] - came[0][0] > 0.3


def test_an_exception_in_the_code_is_an_error_with_all_that_is_known(runtime: Runtime) -> None:
    with pytest.raises(CellError) as caught:
        runtime.execute("print('before')\n1 / 0")
    error = caught.value
    assert (error.code, error.ename, error.evalue) == ("cell_failed", "ZeroDivisionError", "division by zero")
    assert any("1 / 0" in line for line in error.traceback) or "ZeroDivisionError" in error.traceback[-1]
    assert error.result
    assert error.result.outputs[0]["text"] == "before\n"
    assert error.result.outputs[1]["output_type"] == "error"
    result = runtime.execute("1 / 0", check=False)
    assert result.error
    assert result.error.ename == "ZeroDivisionError"
    assert runtime.execute("'fine'").text == "'fine'\n"


def test_displays_are_updated_and_outputs_cleared_as_in_a_notebook(runtime: Runtime) -> None:
    shown = runtime.execute(
        "from IPython.display import clear_output, display\n"
        "print('gone'); clear_output(wait=True)\n"
        "handle = display('old', display_id=True); handle.update('new')"
    )
    assert [output["data"]["text/plain"] for output in shown.outputs] == ["'new'"]
    assert runtime.execute("input('?')", check=False).error, "nobody is there to answer"


def test_code_that_takes_too_long_is_interrupted(runtime: Runtime) -> None:
    runtime.execute("kept = 1")
    with pytest.raises(TimedOut):
        runtime.execute("import time; time.sleep(60)", timeout=0.5)
    assert runtime.execute("kept", timeout=PATIENCE_SECONDS).text == "1\n"


def test_code_outlives_a_cut_with_its_variables_and_its_result(runtime: Runtime, machine: Machine) -> None:
    started = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        code = "import time\nprint('begun', flush=True)\ntime.sleep(2)\nkept = 'kept'\nprint('done')"
        running = pool.submit(runtime.execute, code, on_output=lambda _: started.set())
        assert started.wait(PATIENCE_SECONDS)
        assert machine.sshd.kill_connections() > 0
        result = running.result(PATIENCE_SECONDS)
    assert result.text.endswith("done\n")
    assert not result.complete, "outputs that were on their way may be lost, and that is said"
    after = runtime.execute("kept")
    assert (after.text, after.complete) == ("'kept'\n", True)


def test_a_cut_between_two_pieces_of_code_is_not_noticed(runtime: Runtime, machine: Machine) -> None:
    runtime.execute("kept = 1")
    machine.sshd.kill_connections()
    result = runtime.execute("kept", timeout=PATIENCE_SECONDS)
    assert result.text == "1\n"


def test_a_kernel_that_dies_is_told_and_the_next_one_is_fresh(runtime: Runtime) -> None:
    runtime.execute("kept = 1")
    with pytest.raises(KernelError) as caught:
        runtime.execute("import os; os._exit(1)", timeout=PATIENCE_SECONDS)
    assert caught.value.code == "kernel_died"
    assert runtime.execute("'kept' in globals()", timeout=PATIENCE_SECONDS).text == "False\n"


def test_a_server_that_dies_takes_its_kernels_along_and_that_is_told_once(runtime: Runtime) -> None:
    runtime.execute("kept = 1")
    kill(runtime.server)
    with pytest.raises(KernelError) as caught:
        runtime.execute("kept", timeout=PATIENCE_SECONDS)
    assert caught.value.code == "kernel_lost"
    assert runtime.execute("'kept' in globals()", timeout=PATIENCE_SECONDS).text == "False\n"


def test_its_kernel_ends_with_the_runtime_and_no_other_does(user: Settings) -> None:
    with join(user) as other:
        other.execute("1")
        mine = kernels(other)
        with join(another_host(user)) as runtime:
            runtime.execute("1")
            assert len(kernels(runtime)) == len(mine) + 1
        assert [kernel["id"] for kernel in kernels(other)] == [kernel["id"] for kernel in mine]


def test_closing_ends_code_that_runs_in_another_thread(user: Settings) -> None:
    started = threading.Event()
    with ThreadPoolExecutor(1) as pool, join(user) as runtime:
        code = "import time\nprint('begun', flush=True)\ntime.sleep(60)"
        running = pool.submit(runtime.execute, code, on_output=lambda _: started.set())
        assert started.wait(PATIENCE_SECONDS)
        runtime.close()
        with pytest.raises(KernelError) as caught:
            running.result(PATIENCE_SECONDS)
    assert caught.value.code == "kernel_closed"
    with pytest.raises(NetworkError):
        runtime.execute("1")


def test_closing_does_not_wait_for_a_kernel_that_can_not_start(user: Settings, machine: Machine) -> None:
    with ThreadPoolExecutor(1) as pool, join(user) as runtime:
        machine.sshd.signal(signal.SIGSTOP)  # who comes back is not let in
        try:
            machine.sshd.kill_connections()
            running = pool.submit(runtime.execute, "1")
            _await_client(runtime.port)
            began = time.monotonic()
            runtime.close()
            assert time.monotonic() - began < 20, "it would be two minutes until the request is given up"
            with pytest.raises(NetworkError) as caught:
                running.result(PATIENCE_SECONDS)
        finally:
            machine.sshd.signal(signal.SIGCONT)
    assert caught.value.code == "closed"


def test_a_kernel_that_starts_while_it_is_closed_ends(
    user: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``runtime`` looks on; closing comes at the moment at which the server has just made the kernel."""
    before = {kernel["id"] for kernel in kernels(runtime)}
    made, closing = threading.Event(), threading.Event()

    class Slow(Kernel):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.set()
            assert closing.wait(PATIENCE_SECONDS)

    monkeypatch.setattr("remote_runtime.runtime.Kernel", Slow)
    with ThreadPoolExecutor(2) as pool, join(another_host(user)) as closed:
        running = pool.submit(closed.execute, "1")
        assert made.wait(PATIENCE_SECONDS)
        ended = pool.submit(closed.close)
        while not closed._closed:
            time.sleep(0.01)
        closing.set()
        ended.result(PATIENCE_SECONDS)
        with pytest.raises(NetworkError) as caught:
            running.result(PATIENCE_SECONDS)
    assert caught.value.code == "closed"
    end = time.monotonic() + PATIENCE_SECONDS  # far less than its lease
    while {kernel["id"] for kernel in kernels(runtime)} - before:
        assert time.monotonic() < end
        time.sleep(0.1)


def _await_client(port: int) -> None:
    """Wait until this process has a connection to that port of its own."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not any(
        connection.pid == os.getpid() and connection.raddr and connection.raddr.port == port
        for connection in psutil.net_connections("tcp4")
    ):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_kernel_whose_program_was_killed_ends_by_itself(user: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes, and nobody says goodbye: as from a process that was killed."""
    monkeypatch.setenv("REMOTE_RUNTIME_KERNEL_LEASE", "1")
    with join(Settings.load()) as runtime:
        before = len(kernels(runtime))
        runtime.execute("1")
        assert len(kernels(runtime)) == before + 1
        time.sleep(2.5)
        assert runtime.execute("2").text == "2\n", "as long as its program lives it stays, whatever it does"
        kernel, runtime._kernel = runtime._kernel, None
        assert kernel
        kernel._threads.close()
        end = time.monotonic() + PATIENCE_SECONDS
        while len(kernels(runtime)) > before:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_threads_take_turns_and_asyncio_need_not_wait(runtime: Runtime) -> None:
    runtime.execute("count = 0")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: runtime.execute("count += 1"), range(8)))

    async def both() -> tuple[str, bytes]:
        result, done = await asyncio.gather(
            asyncio.to_thread(runtime.execute, "count"), asyncio.to_thread(runtime.run, ["echo", "hello"])
        )
        return result.text, done.stdout

    assert asyncio.run(both()) == ("8\n", b"hello\n")


def test_without_jupyter_client_the_way_to_it_is_said(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyter_client.session", None)
    with pytest.raises(KernelError) as caught:
        runtime.execute("1")
    assert caught.value.code == "kernels_missing"
    assert "pip install 'remote-runtime[kernels]'" in caught.value.hint


# -- commands ---------------------------------------------------------------------------------------------------------


def test_a_commands_output_comes_while_it_runs(runtime: Runtime) -> None:
    came: list[tuple[str, bytes]] = []
    done = runtime.run(["sh", "-c", "echo out; echo err >&2; exit 3"], on_output=lambda *piece: came.append(piece))
    assert sorted(came) == [("stderr", b"err\n"), ("stdout", b"out\n")]
    assert (done.returncode, done.stdout) == (3, b"")


def test_a_command_runs_where_and_with_what_it_is_told(runtime: Runtime, machine: Machine) -> None:
    (machine.home / "below").mkdir(exist_ok=True)
    script = 'pwd; echo "$COLOUR"; echo "$HOME"'
    done = runtime.run(["sh", "-c", script], cwd="below", env={"COLOUR": "it's green"})
    assert done.stdout.decode().split("\n")[:3] == [f"{machine.home}/below", "it's green", str(machine.home)]
    assert runtime.run(["pwd"], cwd="no/such/place").returncode == 127


def test_a_command_ends_with_its_connection(runtime: Runtime, machine: Machine) -> None:
    started: queue.Queue[int] = queue.Queue()
    with ThreadPoolExecutor(1) as pool:
        shell = ["sh", "-c", "echo $$; sleep 600"]
        running = pool.submit(runtime.run, shell, on_output=lambda _, piece: started.put(int(piece)))
        pid = started.get(timeout=PATIENCE_SECONDS)
        machine.sshd.kill_connections()
        with pytest.raises(NetworkError):
            running.result(PATIENCE_SECONDS)
    _gone(pid)


def test_a_command_that_takes_too_long_is_ended(runtime: Runtime) -> None:
    with pytest.raises(GuestError) as caught:
        runtime.run(["sleep", "60"], timeout=1)
    assert caught.value.code == "command_timeout"


def _gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the command still runs"
        time.sleep(0.05)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_cut_off_can_be_sent_again(runtime: Runtime, machine: Machine, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 16)
    cut = threading.Event()

    def cut_once(done: int, of: int) -> None:
        if done > of / 4 and not cut.is_set():
            cut.set()
            machine.sshd.kill_connections()

    with pytest.raises(NetworkError):
        runtime.put(big, on_progress=cut_once)
    assert not (machine.home / "big").exists()
    assert until_connected(lambda: runtime.put(big)) == str(machine.home / "big")
    end = time.monotonic() + PATIENCE_SECONDS
    while list(machine.home.glob(".big*")):
        assert time.monotonic() < end, "what had come of the first attempt is still there"
        time.sleep(0.05)
    cut.clear()
    with pytest.raises(NetworkError):
        runtime.get("big", tmp_path / "back", on_progress=cut_once)
    assert sorted(path.name for path in tmp_path.glob("*b*")) == ["big"]
    assert until_connected(lambda: runtime.get("big", tmp_path / "back")).read_bytes() == big.read_bytes()


def until_connected(action: Callable[[], Any]) -> Any:
    """What it gives, as soon as the link is back."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except NetworkError:
            assert time.monotonic() < end
            time.sleep(0.05)


# -- ports ------------------------------------------------------------------------------------------------------------


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"hello")
        return client.recv(10)


def test_a_port_is_forwarded_until_it_is_closed(runtime: Runtime, machine: Machine) -> None:
    with serving(echo) as port:
        forward = runtime.forward(port)
        assert ask(forward.port) == b"hello"
        machine.sshd.kill_connections()
        assert ask(forward.port) == b"hello", "it waits for the link to come back"
        with pytest.raises(PortInUse):
            runtime.forward(port, local_port=forward.port)
        forward.close()
        with pytest.raises(ConnectionError):
            ask(forward.port)
        with runtime.forward(port, local_port=forward.port) as again:
            assert ask(again.port) == b"hello"


def test_forwards_end_with_the_runtime(user: Settings) -> None:
    with serving(echo) as port:
        with join(user) as runtime:
            forward = runtime.forward(port)
        with pytest.raises(ConnectionError):
            ask(forward.port)
        with pytest.raises(NetworkError):
            runtime.forward(port)
