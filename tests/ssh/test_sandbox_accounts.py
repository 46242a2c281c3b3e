"""The sandbox of an ordinary user, where the tests run as root: in a mount namespace with accounts of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import need

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="only root can become other users; others test with themselves"
)

UID = 64123
STORY = """
import subprocess, sys
from remote_runtime import ssh
from remote_runtime._threads import Deadline
from remote_runtime.errors import RemoteRuntimeError
from remote_runtime.providers.sandbox import SandboxProvider
from remote_runtime.settings import Settings

deadline = Deadline(60)
provider = SandboxProvider(Settings.load())
try:
    instance = provider.ensure("sandbox", deadline, lambda _: None)
    endpoint = instance.resolve(deadline)
    with ssh.connect(endpoint, ask=None, on_event=lambda _: None, deadline=deadline) as connection:
        with connection.execute("id -u; pwd", deadline) as process:
            print(instance.detail.split()[0], endpoint.user, *(line.decode() for line in process.lines()))
    provider.delete("sandbox", deadline)
except RemoteRuntimeError as error:
    print(error.code, error.message)
"""
ENTER = """
mount --bind "$1" /etc/passwd || exit 99
mount --bind "$2" /etc/shadow || exit 99
shift 2
exec "$@"
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can get to, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="remote-runtime-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def story(place: Path, kind: str, *, uid: int = UID, shell: str | None = "/bin/sh", locked: bool = False) -> str:
    """What an account with that shell (None: one that the system does not list) gets to see."""
    need("unshare", "util-linux")
    need("setpriv", "util-linux")
    state = place / "state"
    state.mkdir(mode=0o700)
    os.chown(state, uid, uid)
    accounts = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    accounts.append("root:x:0:0::/root:/bin/sh")
    if shell and uid:
        accounts.append(f"ada:x:{uid}:{uid}::/:{shell}")
    (place / "passwd").write_text("\n".join(accounts) + "\n")
    (place / "shadow").write_text(f"root:{'!' if locked else '*'}:20000:0:99999:7:::\n")
    # Reading everything is all that is kept of root's power: our own interpreter may be below root's home.
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    become += [
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ]
    environ = {"HOME": str(place), "PATH": "/usr/bin:/bin", "REMOTE_RUNTIME_HOME": str(state)}
    environ["REMOTE_RUNTIME_SANDBOX_SERVER"] = kind
    argv = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(place / "passwd"), str(place / "shadow")]
    argv += [*(become if uid else []), sys.executable, "-c", STORY]
    ended = subprocess.run(argv, env=environ, cwd="/", capture_output=True, timeout=120, check=False)
    if ended.returncode == 99 or b"unshare:" in ended.stderr:
        pytest.skip(f"no mount namespaces here: {ended.stderr.decode()}")
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode().strip()


def test_an_ordinary_user_gets_openssh(place: Path) -> None:
    home = place / "state" / "state" / "sandboxes" / "sandbox" / "home"
    assert story(place, "openssh") == f"OpenSSH ada {UID} {home}"


def test_an_account_without_a_shell_gets_the_other_server(place: Path) -> None:
    assert story(place, "auto", shell="/usr/sbin/nologin").startswith(f"AsyncSSH ada {UID} ")


def test_an_account_that_the_system_does_not_list(place: Path) -> None:
    assert story(place, "auto", shell=None).startswith(f"AsyncSSH sandbox {UID} ")


def test_the_reason_is_said_where_only_openssh_may_be_used(place: Path) -> None:
    said = story(place, "openssh", shell="/usr/sbin/nologin")
    assert said.startswith("sandbox_unavailable ")
    assert "not available" in said


def test_a_locked_root(place: Path) -> None:
    assert story(place, "auto", uid=0, locked=True).startswith("AsyncSSH root 0 ")


def test_a_root_that_is_not_locked(place: Path) -> None:
    assert story(place, "auto", uid=0).startswith("OpenSSH root 0 ")
