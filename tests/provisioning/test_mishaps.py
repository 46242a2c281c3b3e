"""The shell part of the startup script, where the machine is slow or not as it should be: what it says of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from remote_runtime import startup_script
from tests.provisioning.vm import SCRIPT, Prepared, until

FAILED = "remote-runtime: failed: "
NAP = 0.2
# Stands for apt where there is no python3, which it installs from the place that is written down in /run/python.
APT = """\
#!/bin/sh
[ "$2" = install ] || exit 0
touch /run/apt-works
until [ -e /run/apt-may-end ]; do sleep 0.05; done
[ -e /run/python ] || { echo 'E: no "python3" at https://ada:secret@example.com/'; exit 100; }
ln -s "$(cat /run/python)" /usr/local/bin/python3
"""


def failed(machine: Prepared, said: str, step: str) -> str:
    """Why the script failed at that step, which it has told everywhere alike."""
    *_, line = said.splitlines()
    assert line.startswith(f"{FAILED}{step}: ")
    reason = line[len(f"{FAILED}{step}: ") :]
    assert machine.state() == ("failed", f"{step}: {reason}")
    report = machine.report()
    assert (report["state"], report["step"], report["log"]) == ("failed", step, [reason])
    return reason


def mount(machine: Prepared, place: str, options: str) -> None:
    machine.run("mkdir", "-p", place)
    machine.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", place)


@pytest.mark.parametrize(
    ("place", "options", "step", "reason"),
    [
        ("/opt", "ro", "Unpacking the program", "cannot create directory /opt/remote-runtime: Read-only file system"),
        ("/opt", "size=32k", "Unpacking the program", "No space left on device"),
        ("/var/log", "ro", "Beginning", "cannot create /var/log/remote-runtime.log: Read-only file system"),
    ],
)
def test_what_it_cannot_write_is_told(lonely: Prepared, place: str, options: str, step: str, reason: str) -> None:
    mount(lonely, place, options)
    why = failed(lonely, lonely.prepare(startup_script.render(), status=1), step)
    assert reason in why
    assert "damaged" not in why


def test_an_end_that_nobody_thought_of_is_told(lonely: Prepared) -> None:
    with without_python(lonely, "/run/remote-runtime/apt.log"):
        said = lonely.prepare(startup_script.render(), status=1)
    assert failed(lonely, said, "Installing python3") == "ended with status 1"


def test_before_its_turn_it_tells_the_console_alone(lonely: Prepared) -> None:
    lonely.run("mkdir", "-p", "/run/remote-runtime/lock")
    said = lonely.prepare(startup_script.render(), status=1)
    assert said.endswith(f"{FAILED}ended with status 2\n")
    assert lonely.state() == ("", "")


@contextmanager
def without_python(machine: Prepared, *directories: str) -> Iterator[str]:
    """A machine that has an apt-get of ours in place of python3; the block gets where that was."""
    place = machine.run("sh", "-c", 'readlink -f "$(command -v python3)"').stdout.strip()
    apt = machine.root / "usr/local/sbin/apt-get"
    apt.write_text(APT)
    apt.chmod(0o755)
    machine.run("sh", "-c", "while found=$(command -v python3); do rm $found; done")
    machine.run("mkdir", "-p", "/run/remote-runtime", *directories)
    yield place
    (machine.root / "run/apt-may-end").touch()


def script(**numbers: float) -> str:
    """The script, with other numbers of seconds."""
    text = startup_script.render()
    for name, seconds in numbers.items():
        (former,) = [line for line in text.splitlines() if line.startswith(f"{name}=")]
        text = text.replace(former, f"{name}={seconds}")
    return text


def running(machine: Prepared) -> list[str]:
    """The processes of the script, and those that wait for it, as they were called."""
    found = machine.run("ps", "-eo", "args=").stdout.splitlines()
    return [line for line in found if SCRIPT in line or line.startswith("sleep ")]


def await_apt(machine: Prepared) -> None:
    until(lambda: (machine.root / "run/apt-works").exists())


def test_while_apt_works_it_gives_signs_of_life(lonely: Prepared) -> None:
    mount(lonely, "/opt", "ro")
    with without_python(lonely) as python, lonely.begin(script(pulse_seconds=NAP)) as process:
        await_apt(lonely)
        state = lonely.root / "run/remote-runtime/preparation.json"
        signs = {state.stat().st_mtime_ns}
        until(lambda: signs.add(state.stat().st_mtime_ns) or len(signs) > 4)  # type: ignore[func-returns-value]
        report = lonely.report()
        assert (report["state"], report["step"]) == ("running", "Installing python3")
        (lonely.root / "run/python").write_text(python)
        (lonely.root / "run/apt-may-end").touch()
        said = process.communicate(timeout=60)[0]
    assert "Read-only" in failed(lonely, said, "Unpacking the program")
    assert running(lonely) == []


def test_nothing_of_it_is_left_when_apt_fails(lonely: Prepared) -> None:
    with without_python(lonely), lonely.begin(script(pulse_seconds=300, lock_seconds=0)) as process:
        await_apt(lonely)
        until(lambda: "sleep 300" in running(lonely))
        (lonely.root / "run/apt-may-end").touch()
        said = process.communicate(timeout=60)[0]
    assert failed(lonely, said, "Installing python3") == "E: no python3 at https://example.com/"
    assert running(lonely) == []


def test_its_signs_of_life_end_when_it_is_killed(lonely: Prepared) -> None:
    with without_python(lonely), lonely.begin(script(pulse_seconds=NAP)) as process:
        await_apt(lonely)
        lonely.run("kill", "-KILL", str(lonely.report()["pid"]))
        assert process.wait(60) != 0
        until(lambda: [line for line in running(lonely) if line != "sleep 0.05"] == [])
        (lonely.root / "run/apt-may-end").touch()
        assert process.communicate(timeout=60)[0].splitlines()[-1] == "remote-runtime: Installing python3"
