"""Rows of the fault table: the login works, and the machine's shell, server or file systems are not as usual."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import psutil
import pytest

from tests.faults.hints import ENDED_LOGIN, NO_FORWARDING
from tests.faults.person import Outcome, Person
from tests.faults.rough import Mount, StartRough
from tests.faults.table import fails, works
from tests.jupyter.machine import PATH_WITH_JUPYTER, Machine
from tests.leaks import strays
from tests.openssh import Sshd, StartSshd
from tests.tools import need

BARE_PATH = "/usr/bin:/bin"
SHELLS = ("sh", "bash", "zsh", "csh", "tcsh", "fish")
START_UP_FILES = {
    "bash": ".bashrc",
    "zsh": ".zshenv",
    "csh": ".cshrc",
    "tcsh": ".tcshrc",
    "fish": ".config/fish/config.fish",
}
NOISE = "echo 'Welcome, \x1b]0;title\x07\x1b[2J!'; printf 'no newline'\n"
ENDS_BY_EXIT = ("bash", "zsh")
"""The shells that don't go on after an ``exit`` in such a file."""


@pytest.fixture
def jupyter(start_sshd: StartSshd) -> Sshd:
    """A machine of this test alone, with Jupyter."""
    return start_sshd(environment={"PATH": PATH_WITH_JUPYTER})


def start_up(sshd: Sshd, shell: str, text: str) -> Sshd:
    """Let the shell's start-up file there, which is read for commands too, have that text."""
    file = sshd.home / START_UP_FILES[shell]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return sshd


# -- the login shell ---------------------------------------------------------------------------------------------------


@works("The login shell is sh, bash, zsh, csh, tcsh or fish")
@pytest.mark.parametrize("shell", SHELLS)
def test_login_shells(person: Person, warm: Machine, rough: StartRough, shell: str) -> Outcome:
    person.watches(warm.home)
    return person.connects(person.knows(rough(shell=shell, environment={"HOME": str(warm.home)})))


@works("The start-up files of the shell say something")
@pytest.mark.parametrize("shell", START_UP_FILES)
def test_start_up_files_that_talk(person: Person, rough: StartRough, shell: str) -> Outcome:
    text = NOISE if shell in ENDS_BY_EXIT else f"{NOISE}exit 1\n"
    return person.connects(person.knows(start_up(rough(shell=shell), shell, text)))


@works("The server has a banner, and a message of the day")
def test_banner(person: Person, warm: Machine, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    (tmp_path / "banner").write_bytes(b"*** \x1b[31mAuthorised users only\x07 ***\n" * 50)
    person.watches(warm.home)
    sshd = start_sshd(environment={"HOME": str(warm.home)}, Banner=str(tmp_path / "banner"), PrintMotd="yes")
    return person.connects(person.knows(sshd))


@fails(
    "A start-up file of the shell ends it",
    code="guest_failed",
    says=ENDED_LOGIN,
)
@pytest.mark.parametrize("shell", ENDS_BY_EXIT)
def test_start_up_files_that_end(person: Person, rough: StartRough, shell: str) -> Outcome:
    return person.connects(person.knows(start_up(rough(shell=shell), shell, f"{NOISE}exit 1\n")))


@fails(
    "A start-up file of the shell waits for something",
    code="timeout",
    says=(
        "A start-up file of that shell (as .bashrc) may wait for something: see whether `ssh` to it with the "
        "command `python3 --version` comes back."
    ),
)
@pytest.mark.parametrize("waits", ["sleep 5", "yes", "cat >/dev/null", "exec cat"])
def test_start_up_files_that_wait(person: Person, rough: StartRough, waits: str) -> Outcome:
    return person.connects(person.knows(start_up(rough(shell="bash"), "bash", f"{waits}\n")), timeout=4)


@fails(
    "A start-up file of the shell reads what is meant for us",
    code="guest_input_taken",
    says="A start-up file of the login shell there reads its input: let it do so in terminals alone.",
)
def test_start_up_files_that_read(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(start_up(rough(shell="bash"), "bash", "read answer\n")))


@fails(
    "A start-up file of the shell starts another",
    code="guest_failed",
    says=ENDED_LOGIN,
)
def test_start_up_files_that_start_a_shell(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(start_up(rough(shell="bash"), "bash", "exec sh\n")))


@works("Its locale is C")
def test_locale(person: Person, warm: Machine, start_sshd: StartSshd) -> Outcome:
    person.watches(warm.home)
    return person.connects(person.knows(start_sshd(environment={"HOME": str(warm.home), "LC_ALL": "C"})))


# -- the server --------------------------------------------------------------------------------------------------------


@works("The server allows one session at a time (MaxSessions 1)")
def test_one_session(person: Person, start_sshd: StartSshd) -> Outcome:
    return person.connects(person.knows(start_sshd(environment={"PATH": PATH_WITH_JUPYTER}, MaxSessions="1")))


@fails(
    "The server allows no sessions (MaxSessions 0)",
    code="session_refused",
    says="Its sshd_config may say so (MaxSessions), or the machine may be out of processes or memory.",
)
def test_no_session(person: Person, start_sshd: StartSshd) -> Outcome:
    return person.connects(person.knows(start_sshd(environment={"PATH": PATH_WITH_JUPYTER}, MaxSessions="0")))


@fails(
    "The server forbids forwarding",
    code="forwarding_forbidden",
    says=NO_FORWARDING,
)
@pytest.mark.parametrize(
    "forbidden",
    [
        {"AllowTcpForwarding": "no"},
        {"AllowTcpForwarding": "remote"},
        {"DisableForwarding": "yes"},
        {"PermitOpen": "none"},
    ],
)
def test_forwarding_forbidden(
    person: Person, warm: Machine, start_sshd: StartSshd, forbidden: dict[str, str]
) -> Outcome:
    person.watches(warm.home)
    environment = {"HOME": str(warm.home), "PATH": PATH_WITH_JUPYTER}
    return person.connects(person.knows(start_sshd(environment=environment, **forbidden)))


@fails(
    "Your key there is restricted (restrict in authorized_keys)",
    code="forwarding_forbidden",
    says=NO_FORWARDING,
)
def test_restricted_key(person: Person, jupyter: Sshd) -> Outcome:
    keys = jupyter.files.directory / "authorized_keys"
    keys.write_text(f"restrict {keys.read_text()}")
    outcome = person.connects(person.knows(jupyter))
    left = [process for process in strays(jupyter.files.directory) if "jupyter_server" in process.cmdline()]
    assert not left, "a server was started that nobody can reach"
    return outcome


# -- the home ----------------------------------------------------------------------------------------------------------


@works("Its umask is 000")
def test_umask(person: Person, rough: StartRough) -> Outcome:
    sshd = start_up(rough(shell="bash"), "bash", "umask 000\n")
    outcome = person.connects(person.knows(sshd))
    for path in [sshd.home / ".remote-runtime", *(sshd.home / ".remote-runtime").rglob("*")]:
        assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path
    return outcome


@fails("The login's home is missing", code="guest_no_home", says="Give the user a home directory on the VM.")
def test_no_home(person: Person, start_sshd: StartSshd, tmp_path: Path) -> Outcome:
    return person.connects(person.knows(start_sshd(environment={"HOME": str(tmp_path / "gone")})))


CHECK_HOME = "Check the home directory on the VM: its owner, its mode, its free space."


@fails("The login may not write to its home, by its mode or by SELinux", code="guest_state_unusable", says=CHECK_HOME)
def test_denied_home(person: Person, rough: StartRough) -> Outcome:
    sshd = rough(account="ada", home="/srv", environment={"PATH": BARE_PATH})
    sshd.home.chmod(0o755)  # root's
    return person.connects(person.knows(sshd, User="ada"))


@fails("The home is read-only", code="guest_state_unusable", says=CHECK_HOME)
def test_read_only_home(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(rough(("-o", "remount,bind,ro", "/srv"), home="/srv")))


@fails("The home is full", code="guest_state_unusable", says=CHECK_HOME)
@pytest.mark.parametrize("size", ["16k", "340k", "400k"])
def test_full_home(person: Person, rough: StartRough, size: str) -> Outcome:
    sshd = rough(("-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", "/srv"), home="/srv")
    person.watches(sshd.root / "srv")
    return person.connects(person.knows(sshd))


@works("The home is on another file system")
def test_home_on_another_file_system(person: Person, rough: StartRough) -> Outcome:
    sshd = rough(("-t", "tmpfs", "-o", "mode=700", "tmpfs", "/srv"), home="/srv")
    person.watches(sshd.root / "srv")
    return person.connects(person.knows(sshd))


@fails(
    "~/.remote-runtime there is a link, or somebody else's",
    code="guest_state_unsafe",
    says="Move it away on the VM: it has to be a directory (no symbolic link) that belongs to the user who logs in.",
)
@pytest.mark.parametrize("kind", ["link", "foreign", "file"])
def test_unsafe_state(person: Person, rough: StartRough, kind: str) -> Outcome:
    sshd = rough()
    state = sshd.home / ".remote-runtime"
    if kind == "link":
        (sshd.home / "elsewhere").mkdir()
        state.symlink_to("elsewhere")
    elif kind == "foreign":
        state.mkdir(mode=0o777)
        os.chown(state, 65534, 65534)
    else:
        state.touch()
    return person.connects(person.knows(sshd))


@works("The home is shared by several machines, as by NFS")
def test_shared_home(person: Person, rough: StartRough, tmp_path: Path) -> Outcome:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    outcomes = []
    for name in ("first", "second"):
        (tmp_path / name).write_text(f"{name}\n")
        sshd = rough(("--bind", str(tmp_path / name), "/etc/machine-id"), ("--bind", str(shared), "/srv"), home="/srv")
        outcomes.append(person.connects(person.knows(sshd, name)))
    servers = [json.loads(file.read_text()) for file in shared.glob(".remote-runtime/machines/*/server.json")]
    assert len({server["pid"] for server in servers if psutil.pid_exists(server["pid"])}) == 2
    assert outcomes[0].ready and outcomes[0].token != outcomes[1].token
    return outcomes[1]


# -- the rest of the system --------------------------------------------------------------------------------------------


@works("Nothing may be executed in its temporary directory")
@pytest.mark.egress
def test_noexec_temp(person: Person, rough: StartRough) -> Outcome:
    sshd = rough(*tmp_mounted("noexec"), home="/srv", environment={"PATH": BARE_PATH})
    return person.connects(person.knows(sshd), "--ui", "none", timeout=120)


@works("Its temporary directory can't be written")
def test_read_only_temp(person: Person, rough: StartRough) -> Outcome:
    return person.connects(person.knows(rough(*tmp_mounted("ro"), home="/srv")))


def tmp_mounted(option: str) -> list[Mount]:
    """/tmp with that option; a home has to be elsewhere then."""
    return [("--bind", "/tmp", "/tmp"), ("-o", f"remount,bind,{option}", "/tmp")]


@works("Its clock is a day off")
@pytest.mark.parametrize("offset", ["-1d", "+1d"])
def test_clock(person: Person, start_sshd: StartSshd, offset: str) -> Outcome:
    need("faketime", "faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    faked = {"LD_PRELOAD": str(library), "FAKETIME": offset}
    alias = person.knows(start_sshd(environment={"PATH": PATH_WITH_JUPYTER, **faked}))
    assert person.connects(alias).ready
    return person.connects(alias)
