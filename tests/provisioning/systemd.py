"""A machine that systemd runs: a Debian of its own, in namespaces, with Google's guest agent and a metadata server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.gce.cloud import Cloud, Vm, system
from tests.gce.cloud.server import serve_metadata
from tests.provisioning.vm import until
from tests.tools import need

PACKAGES = "systemd,systemd-sysv,dbus,google-guest-agent,openssh-server,ca-certificates,curl,iproute2,procps"
SECONDS = 240
CGROUPS = Path("/sys/fs/cgroup/systemd")
"""Where systemd's own hierarchy is, on a machine with the first version of control groups."""

# Becomes systemd in namespaces of its own, once a line comes on its standard input.
_BOOT = r"""
set -e
root=$1
hostname vm
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
if grep -q name=systemd /proc/self/cgroup; then
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
ip link set lo up
ip address add 169.254.169.254/32 dev lo
read -r _
cd "$root"
mount --move . /
exec chroot . env -i container=remote-runtime PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


def make_debian(directory: Path) -> None:
    """A minimal Debian there, with systemd and Google's guest agent, and without Python."""
    if os.getuid() != 0:
        pytest.skip("only root can make a system of its own")
    debootstrap = need("debootstrap", "debootstrap")
    argv = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        pytest.skip(f"no Debian to be had here: {done.stdout[-300:]}")
    for name in ("/etc/pip.conf", "/etc/resolv.conf"):  # the ways to a package index that this machine has
        if Path(name).exists():
            shutil.copy(name, directory / name.lstrip("/"))
    shutil.copytree(
        "/usr/local/share/ca-certificates", directory / "usr/local/share/ca-certificates", dirs_exist_ok=True
    )
    in_root(directory, "update-ca-certificates")
    # As in Google's images.
    (directory / "etc/hosts").write_text(f"127.0.0.1 localhost\n{system.METADATA_ADDRESS} metadata.google.internal\n")


def in_root(directory: Path, *argv: str, **options: object) -> str:
    """Run a program in there without booting it, with this machine's network; what it said."""
    inner = 'mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/run" && mount --bind /dev "$1/dev" && root=$1 && '
    inner += 'shift && exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"'
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inner, "sh", str(directory), *argv]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Booted:
    """One boot of such a machine."""

    def __init__(self, unshare: subprocess.Popen[bytes]) -> None:
        self._unshare = unshare
        self.pid = psutil.Process(unshare.pid).children()[0].pid

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program as its root; what it said."""
        command = [
            "nsenter",
            "--target",
            str(self.pid),
            "--all",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            *argv,
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def power_off(self) -> None:
        """The orderly end."""
        self.run("systemctl", "--no-block", "poweroff")
        self._unshare.wait(SECONDS)


@contextmanager
def booted(root: Path, cloud: Cloud, vm: Vm) -> Iterator[Booted]:
    """Boot what is in ``root``, as ``vm``: that is who its metadata server takes it for."""
    group = CGROUPS / f"remote-runtime-{os.getpid()}"
    enter = (
        ["sh", "-c", 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"', "sh", str(group)] if CGROUPS.is_dir() else []
    )
    kinds = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child"]
    if enter:
        group.mkdir(exist_ok=True)
    unshare = subprocess.Popen(
        [*enter, "unshare", *kinds, "sh", "-c", _BOOT, "sh", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: bool(psutil.Process(unshare.pid).children()))
        machine = Booted(unshare)
        until(lambda: system.METADATA_ADDRESS in Path(f"/proc/{machine.pid}/net/fib_trie").read_text())
        with _metadata_socket(machine.pid) as listener:
            server = serve_metadata(cloud.world, vm, listener)
            assert unshare.stdin
            unshare.stdin.write(b"go\n")
            unshare.stdin.close()
            yield machine
            unshare.kill()
            unshare.wait()
            server.close()
    finally:
        unshare.kill()
        unshare.wait()
        if enter:
            until(lambda: _emptied(group))


def _emptied(group: Path) -> bool:
    """Whether the control group is gone, with all below: its processes take a moment to end."""
    try:
        for path in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()
        group.rmdir()
    except OSError:
        return False
    return True


@contextmanager
def _metadata_socket(pid: int) -> Iterator[socket.socket]:
    """A listening socket at the metadata server's address, in the network of that process."""
    ours, theirs = socket.socketpair()
    init = Path(system.__file__).with_name("init.py").read_text()
    argv = ["nsenter", "--target", str(pid), "--net", "--uts", sys.executable, "-I", "-S", "-c", init]
    with ours:
        with theirs:
            helper = subprocess.Popen([*argv, "vm", system.METADATA_ADDRESS], stdin=theirs)
        ours.settimeout(SECONDS)
        _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
        with socket.socket(fileno=descriptors[0]) as listener:
            yield listener
    helper.wait(SECONDS)
