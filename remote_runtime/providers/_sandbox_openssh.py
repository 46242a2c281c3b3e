"""OpenSSH's sshd as a sandbox's server: its configuration, and whether it lets the account in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from remote_runtime._threads import Deadline, timed_out
from remote_runtime.providers._sandbox_files import SandboxFiles
from remote_runtime.providers._sandbox_plan import Unusable, missing_directory, sshd_config
from remote_runtime.store import write_private
from remote_runtime.text import printable

TEST_SECONDS = 10.0
LOGIN_SECONDS = 20.0
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where sshd is found besides PATH, which has no system directories for most users."""


def prepare(files: SandboxFiles, port: int, path: str) -> list[str]:
    """Write the configuration that this sshd accepts; the command that runs it."""
    if os.name == "nt":
        raise Unusable("OpenSSH's server for Windows runs as a service alone")
    sshd = _find("sshd")
    config = files.server / "sshd_config"
    complaint = ""
    for penalties in (True, False):
        text = sshd_config(
            server=files.server,
            home=files.home,
            port=port,
            path=path,
            only_user=account_name() if is_root() else "",
            penalties=penalties,
        )
        write_private(config, text.encode())
        complaint = _check_config(sshd, config)
        if not complaint:
            return [sshd, "-D", "-e", "-f", str(config)]
    raise Unusable(f"sshd does not take our configuration ({printable(complaint)})")


def _find(program: str) -> str:
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
    if not found:
        raise Unusable(f"OpenSSH's {program} is not installed")
    return str(Path(found).absolute())


def _check_config(sshd: str, config: Path) -> str:
    """What sshd has to complain about this configuration; ``""`` if nothing."""
    for _ in range(2):
        try:
            tested = subprocess.run(
                [sshd, "-t", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TEST_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unusable(f"{sshd} can't be run ({error})") from error
        complaint = tested.stderr.decode(errors="replace")
        missing = missing_directory(complaint) if is_root() else None
        if tested.returncode == 0 or not missing:
            break
        try:
            Path(missing).mkdir()
            Path(missing).chmod(0o755)
        except FileExistsError:
            continue  # somebody else needed it too
        except OSError as error:
            raise Unusable(f"sshd needs the directory {missing}, which can't be made ({error.strerror})") from error
    return "" if tested.returncode == 0 else complaint or f"exit status {tested.returncode}"


def try_login(files: SandboxFiles, port: int, deadline: Deadline) -> None:
    """Log in once, as sshd has many reasons to let an account in or not that only a login shows.

    A locked account, one without a shell, a login policy: then another server must do.  Where OpenSSH's client is
    missing, this is left to the real connection.
    """
    try:
        ssh = _find("ssh")
    except Unusable:
        return
    account = account_name()
    known = files.server / "known_hosts"
    write_private(known, f"[127.0.0.1]:{port} {files.host_key()}\n".encode())
    escaped = {name: str(path).replace("%", "%%") for name, path in (("known", known), ("key", files.client_key))}
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{escaped["known"]}"',
        "GlobalKnownHostsFile": "none",
        "IdentityFile": f'"{escaped["key"]}"',
    }
    argv = [ssh, "-F", "none", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    seconds = deadline.bounded(LOGIN_SECONDS)
    try:
        tried = subprocess.run(
            [*argv, "-p", str(port), "-l", account, "127.0.0.1", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise timed_out("logging in to the sandbox", seconds) from error
    except OSError as error:
        raise Unusable(f"{ssh} can't be run ({error.strerror})") from error
    if tried.returncode != 0:
        said = (tried.stdout + tried.stderr).decode(errors="replace").strip() or files.last_words()
        raise Unusable(f"sshd does not let the account {account} in ({printable(said)})")


def repair(files: SandboxFiles) -> None:
    """Bring back the directory without which root's sshd refuses every login; it can vanish while sshd runs."""
    if is_root():
        with suppress(Unusable):
            _check_config(_find("sshd"), files.server / "sshd_config")


def account_name() -> str:
    """Who logs in to the sandbox: the account that runs it, as sshd lets nobody else in."""
    if sys.platform != "win32":
        import pwd

        with suppress(KeyError):
            return pwd.getpwuid(os.getuid()).pw_name
    return "sandbox"


def is_root() -> bool:
    """Whether sshd runs with the rights to become other users."""
    return sys.platform != "win32" and os.getuid() == 0
