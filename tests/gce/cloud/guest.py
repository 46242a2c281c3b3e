"""The system in a running VM, as far as others notice: sshd, the guest agent, host keys, the console, scripts."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.gce.cloud import firewalls
from tests.gce.cloud.accounts import Accounts
from tests.gce.cloud.doors import Doors
from tests.gce.cloud.scripts import run_startup_script
from tests.gce.cloud.server import serve_metadata
from tests.gce.cloud.system import System
from tests.openssh import make_key

if TYPE_CHECKING:
    from tests.gce.cloud.vm import Vm
    from tests.gce.cloud.world import World

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOST_KEYS = ("ecdsa", "ed25519")
_SSHD = shutil.which("sshd", path=f"/usr/sbin:/sbin:{PATH}") or "/usr/sbin/sshd"


class Guest:
    """One boot of a VM, from power on to power off; also what resumes from suspension boots here.

    Its methods may be called with the world's lock held: none waits for the boot, which has a thread of its own.
    """

    def __init__(self, world: World, vm: Vm) -> None:
        self._world = world
        self._vm = vm
        self._disk = world.directory / vm.id
        self._doors = Doors()
        self._off = threading.Event()
        self._up = False
        self._system: System | None = None
        self._accounts: Accounts | None = None
        self._script: threading.Thread | None = None
        self._predecessor = vm.last_boot
        self._thread = threading.Thread(target=self._live, name=f"VM {vm.name}")
        vm.last_boot = self._thread

    def boot(self) -> None:
        """Begin; :attr:`ready` turns true when one can log in."""
        self._world.boots_begun.append(self._thread)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether everything that belongs to the boot is done, but for the startup script."""
        return self._up

    @property
    def root(self) -> Path:
        """Its root directory, from outside."""
        assert self._system is not None, "it has not booted"
        return self._system.root

    def home(self, user: str) -> Path:
        return self.root / "home" / user

    def execute(self, *argv: str, timeout: float = 20.0) -> str:
        """Run a program in it as its root, with an emptied environment; what it printed.

        Raises :class:`subprocess.CalledProcessError` if it fails.
        """
        process = self.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=timeout)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, argv, output)
        return output.decode()

    def dial(self, source: str) -> socket.socket | None:
        """A way to its sshd from ``source`` (:mod:`tests.gce.cloud.firewalls`); None if no rule lets that in.

        For who comes by other ways than its addresses: a relay.
        """
        if not (self._up and firewalls.lets_in(self._world.firewalls, source, self._tags())):
            return None
        ours, theirs = socket.socketpair()
        self._serve(theirs)
        return ours

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in it, as :meth:`execute` does; it ends with the system at the latest."""
        assert self._system is not None, "it has not booted"
        return self._system.popen(argv, environment={"PATH": PATH}, stdin=subprocess.DEVNULL, **options)

    # -- what others do to it ------------------------------------------------------------------------------------------

    def metadata_changed(self) -> None:
        """Somebody wrote metadata or OS Login keys: the agent notices soon."""
        self._world.when(self._world.agent_seconds, self._apply_accounts)

    def firewall_changed(self) -> None:
        """Its ways in may have changed."""
        if self._up:
            self._open_doors()

    def kill_connections(self) -> int:
        """Cut every SSH connection; commands that were detached go on.  Returns how many."""
        daemons = [process for process in self._processes() if process.name().startswith("sshd")]
        for process in daemons:
            with suppress(psutil.Error):
                process.kill()
        return len(daemons)

    def freeze(self) -> None:
        """Stand still: connections are taken by the kernel, and nothing ever answers."""
        self._doors.pause(True)
        for process in self._processes():
            with suppress(psutil.Error):
                process.suspend()

    def thaw(self) -> None:
        """Go on."""
        for process in self._processes():
            with suppress(psutil.Error):
                process.resume()
        self._doors.pause(False)

    def shut_down(self) -> None:
        """The orderly end: sshd ends its connections, everything else is asked to end."""
        self._up = False
        self._doors.end()
        for process in self._processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGTERM)

    def pull_plug(self) -> None:
        """The end, at once."""
        self._up = False
        self._off.set()
        self._doors.end()
        if self._system:
            self._system.kill()

    # -- the boot ------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """The thread of this boot."""
        if self._predecessor:
            self._predecessor.join()
        try:
            with ExitStack() as opened:
                opened.callback(self._doors.close)
                opened.callback(self._join_script)  # which ends with the system
                self._boot(opened)
                self._doors.serve(self._serve)
                self._off.wait()
        except Exception:  # noqa: BLE001 the top of a thread
            if not self._off.is_set():
                self._world.problems.append(traceback.format_exc())

    def _boot(self, opened: ExitStack) -> None:
        self._say("Booting", self._vm.resource["disks"][0]["source"].rpartition("/")[2])
        first = not (self._disk / "upper").exists()
        keys = self._prepare_disk()
        self._system = System(
            self._disk, self._vm.name, address=self._vm.internal_address, own_network=self._world.own_network
        )
        opened.callback(self._system.close)
        opened.callback(serve_metadata(self._world, self._vm, self._system.metadata_listener).close)
        if first and self._world.has_agent:
            self._publish_host_keys(keys)
        self._race()
        self._begin_agent()
        self._open_doors()
        with self._world.changed:
            if self._off.is_set():
                return
            self._say(f"{self._vm.name} login:")
            self._up = True
            self._world.changed.notify_all()
        if self._world.has_agent:
            self._script = run_startup_script(self._system, self._vm.effective("startup-script"), self._print)

    def _race(self) -> None:
        """What a client may meet before all is ready."""
        boot = self._world.boot
        self._off.wait(boot.sshd_after)
        if boot.keys_after:
            self._open_doors()
            self._off.wait(boot.keys_after)
        if boot.refused_for:
            for address in self._addresses():
                self._doors.set(address, "refusing")
            self._off.wait(boot.refused_for)

    def _begin_agent(self) -> None:
        """Make the accounts, unless a test brings an agent of its own."""
        with self._world.changed:
            if not self._world.has_agent:
                return
            self._accounts = Accounts(self._world, self._vm, self.root)
            self._apply_accounts()
            self._attribute("guest-agent", "sshable", str(int(time.time())))

    def _join_script(self) -> None:
        if self._script:
            self._script.join()

    def _prepare_disk(self) -> list[str]:
        """Write what a fresh disk lacks; the public host keys."""
        etc = self._disk / "upper" / "etc"
        ssh = etc / "ssh"
        if not ssh.exists():
            ssh.mkdir(parents=True)
            (self._disk / "upper" / "home").mkdir()
            for kind in _HOST_KEYS:
                line = make_key(ssh / f"ssh_host_{kind}_key", kind)
                (ssh / f"ssh_host_{kind}_key.pub").write_text(f"{line} root@{self._vm.name}\n")
            shutil.copy("/etc/passwd", etc / "passwd")
            (etc / "machine-id").write_text(f"{int(self._vm.id):032x}\n")
            self._fill_disk()
        metadata = self._vm.internal_address if not self._world.own_network else "169.254.169.254"
        (etc / "hosts").write_text(
            f"127.0.0.1 localhost\n{self._vm.internal_address} {self._vm.name}\n"
            f"{metadata} metadata.google.internal metadata\n"
        )
        (ssh / "sshd_config").write_text("".join(f"{line}\n" for line in self._sshd_options()))
        return [path.read_text() for path in sorted(ssh.glob("ssh_host_*_key.pub"))]

    def _fill_disk(self) -> None:
        """What the image brings along, besides what this machine has."""
        upper = self._disk / "upper"
        if self._world.own_rights:
            (upper / "root").mkdir(mode=0o711)  # our Python may be in there, and is needed by everybody
        for place, target in self._world.links.items():
            link = upper / place.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)

    def _sshd_options(self) -> list[str]:
        environment = {"PATH": PATH, **self._world.guest_environment}
        return [
            *(f"HostKey /etc/ssh/ssh_host_{kind}_key" for kind in _HOST_KEYS),
            "PidFile none",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "DenyUsers root",  # the images say PermitRootLogin no, which here would mean every account
            "PermitRootLogin prohibit-password",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in environment.items()),
        ]

    def _publish_host_keys(self, keys: list[str]) -> None:
        """To the guest attributes and on the console, at the first boot only; usually earlier than sshd listens."""
        if self._world.boot.host_keys_after:
            self._world.when(self._world.boot.host_keys_after, partial(self._tell_host_keys, keys))
        else:
            self._tell_host_keys(keys)

    def _tell_host_keys(self, keys: list[str]) -> None:
        with self._world.changed:
            if self._off.is_set():
                return
            for line in keys:
                kind, value = line.split()[:2]
                self._attribute("hostkeys", kind, value)
            self._say("-----BEGIN SSH HOST KEY KEYS-----", *map(str.strip, keys), "-----END SSH HOST KEY KEYS-----")
            self._world.changed.notify_all()

    def _apply_accounts(self) -> None:
        """Let the agent look at the metadata; the world's lock is held."""
        if self._accounts and not self._off.is_set():
            expiry = self._accounts.apply()
            if expiry is not None:
                self._world.when(expiry, self._apply_accounts)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        """An sshd for one connection, as inetd starts it."""
        assert self._system is not None
        with connection, suppress(FileNotFoundError):
            self._system.popen(
                [_SSHD, "-i", "-f", "/etc/ssh/sshd_config", "-E", "/var/log/sshd.log"],
                environment={"PATH": PATH},
                stdin=connection,
                stdout=connection,
                stderr=subprocess.DEVNULL,
            )

    def _open_doors(self) -> None:
        if self._off.is_set():
            return
        for address, source in self._addresses().items():
            allowed = firewalls.lets_in(self._world.firewalls, source, self._tags())
            self._doors.set(address, "open" if allowed else "silent")

    def _addresses(self) -> dict[str, str]:
        """Its addresses, and who comes to them."""
        found = {self._vm.internal_address: firewalls.NEIGHBOUR}
        return {**found, self._vm.address: firewalls.ANYBODY} if self._vm.address else found

    def _tags(self) -> list[str]:
        tags: list[str] = self._vm.resource["tags"].get("items", [])
        return tags

    def _attribute(self, namespace: str, key: str, value: str) -> None:
        if self._vm.enabled("enable-guest-attributes"):
            self._vm.guest_attributes[namespace, key] = value

    def _print(self, line: str) -> None:
        with self._world.changed:
            self._say(line)
            self._world.changed.notify_all()

    def _say(self, *lines: str) -> None:
        self._vm.serial += "".join(f"{line}\r\n" for line in lines)

    def _processes(self) -> list[psutil.Process]:
        return self._system.processes() if self._system else []
