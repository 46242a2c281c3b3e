"""What a machine says is data: it reaches no terminal as it is, and costs no memory."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import InTerminal, Running
from tests.faults.person import Person
from tests.faults.rough import StartRough
from tests.openssh import StartSshd
from tests.ssh.peers import serving

EVIL = "\x1b]0;pwned\x07\x1b[2J\x1b[31m\x1b]8;;http://evil.example\x07link\x9b1m\u202egnp.exe\u2066\r\x08\x00\x7f"
NOISE_BYTES = 30_000_000
ROOM_BYTES = 16 << 20
"""What a noisy connect may take more than a quiet one: SSH's window and a line of it, but not the noise."""


def written(text: str, file: Path) -> str:
    """A shell's line that writes it, and bytes that are no text at all."""
    file.write_bytes(text.encode() + b"\xff\xfe\x1b[5m\n")
    return f"cat {file}"


def noisy_shell(person: Person, start_sshd: StartSshd, rough: StartRough, place: Path) -> str:
    sshd = rough(shell="bash")
    (sshd.home / ".bashrc").write_text(f"{written(EVIL * 20, place)}\nexit 1\n")
    return person.knows(sshd)


def noisy_banner(person: Person, start_sshd: StartSshd, rough: StartRough, place: Path) -> str:
    place.write_text(EVIL)
    return person.knows(start_sshd(AuthorizedKeysFile="none", Banner=str(place)))


def noisy_proxy_command(person: Person, start_sshd: StartSshd, rough: StartRough, place: Path) -> str:
    return person.configures("trainer", ProxyCommand=f"{written(EVIL, place)} >&2; exit 1")


Noisy = Callable[[Person, StartSshd, StartRough, Path], str]


@pytest.mark.parametrize("noisy", [noisy_shell, noisy_banner, noisy_proxy_command])
def test_nothing_that_acts_on_a_terminal_gets_there(
    person: Person, start_sshd: StartSshd, rough: StartRough, noisy: Noisy, tmp_path: Path
) -> None:
    alias = noisy(person, start_sshd, rough, tmp_path / "noise")
    with InTerminal("connect", "--provider", "ssh", alias, "--port", "auto", TERM="dumb") as terminal:
        assert terminal.ended() == 1
    assert "error: " in terminal.shown
    acting = [char for char in terminal.shown.replace("\r\n", "\n") if unicodedata.category(char) in ("Cc", "Cf")]
    assert set(acting) <= {"\n"}


def test_an_ssh_server_with_a_noisy_name(person: Person) -> None:
    def serve(client: object) -> None:
        client.sendall(EVIL.encode() + b"\r\nSSH-2.0-" + EVIL.encode() + b"\r\n")  # type: ignore[attr-defined]

    with serving(serve) as port, InTerminal("connect", f"ada@127.0.0.1:{port}", TERM="dumb") as terminal:
        assert terminal.ended() == 1
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\u2066]", terminal.shown)


@pytest.mark.slow  # it judges by memory, of which the measuring of coverage takes some
@pytest.mark.parametrize("noise", ["yes one line after another", "tr '\\0' x </dev/zero"])
def test_noise_costs_no_memory(person: Person, rough: StartRough, noise: str, tmp_path: Path) -> None:
    sshd = rough(shell="bash")
    alias = person.knows(sshd)
    quiet = peak(tmp_path / "quiet", alias)
    (sshd.home / ".bashrc").write_text(f"{noise} | head -c {NOISE_BYTES}; echo\n")
    noisy = peak(tmp_path / "noisy", alias)
    print(f"quiet {quiet >> 20} MiB, noisy {noisy >> 20} MiB")
    assert noisy - quiet < ROOM_BYTES


def peak(directory: Path, alias: str) -> int:
    """The most memory that a connect ever had, in bytes, when it is ready."""
    with Running(directory, "connect", "--provider", "ssh", alias, "--port", "auto") as running:
        running.until("\n")
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        running.end()
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found) << 10
