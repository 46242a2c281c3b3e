"""A VM's operating system: this machine's own files, copied on write, in namespaces of its own.

What runs in it sees its own processes, mounts, host name, accounts and (unless told otherwise) loopback.  Its accounts
are further names of root: they have homes of their own, but no rights of their own.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

METADATA_ADDRESS = "169.254.169.254"
START_SECONDS = 10.0

_ENTER = r"""
set -e
disk=$1; own_network=$2; ours=$3; shift 3
mkdir -p "$disk/upper" "$disk/work" "$disk/root"
# Where the disk itself is on an overlay (a container's), a second one is refused; memory will do.
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$disk/root" 2>/dev/null || {
    mount -t tmpfs tmpfs "$disk/work"
    mkdir "$disk/work/upper" "$disk/work/work"
    cp -a "$disk/upper/." "$disk/work/upper"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/work/upper,workdir=$disk/work/work" "$disk/root"
}
while [ "$1" != -- ]; do
    mount --rbind "$1" "$disk/root$1"
    shift
done
shift
mount --rbind /dev "$disk/root/dev"
mount -t proc proc "$disk/root/proc"
mount -t tmpfs tmpfs "$disk/root/tmp"
mount -t tmpfs tmpfs "$disk/root/run"
mkdir -m 755 "$disk/root/run/sshd" "$disk/root/run/lock"
chmod 1777 "$disk/root/tmp" "$disk/root/run/lock"
case $ours in
# A checkout that is itself in the temporary directory must be seen there, as everything else of this machine is.
/tmp/*) mkdir -p "$disk/root$ours" && mount --rbind "$ours" "$disk/root$ours" ;;
esac
if [ "$own_network" = yes ]; then
    ip link set lo up
    ip address add 169.254.169.254/32 dev lo
fi
exec chroot "$disk/root" "$@"
"""

_NOT_DATA = {
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "cgroup",
    "cgroup2",
    "mqueue",
    "overlay",
    "nsfs",
    "squashfs",
}


class SystemDidNotStart(Exception):
    """Its namespaces could not be made; the text is what the programs said."""


class System:
    """A running system on ``disk``, a directory that outlives it; there when constructed."""

    def __init__(self, disk: Path, hostname: str, *, address: str, own_network: bool) -> None:
        self._ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []
        kinds = ["--mount", "--pid", "--uts", *(["--net"] if own_network else [])]
        init = [sys.executable, "-I", "-S", "-c", Path(__file__).with_name("init.py").read_text()]
        metadata_address = METADATA_ADDRESS if own_network else address
        argv = [
            *("unshare", *kinds, "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"),
            *(str(disk), "yes" if own_network else "no", sys.prefix, *_other_mounts(), "--"),
            *(*init, hostname, metadata_address),
        ]
        with theirs:
            self._unshare = subprocess.Popen(
                argv, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
            )
        self._ours.settimeout(START_SECONDS)
        try:
            word, descriptors, _, _ = socket.recv_fds(self._ours, 16, 1)
        except OSError:
            word, descriptors = b"", []
        if word != b"ready":
            raise SystemDidNotStart(self._complaint())
        self.metadata_listener = socket.socket(fileno=descriptors[0])
        self._init = psutil.Process(self._unshare.pid).children()[0].pid

    @property
    def root(self) -> Path:
        """Its root directory, from outside."""
        return Path(f"/proc/{self._init}/root")

    def popen(self, argv: Sequence[str], *, environment: Mapping[str, str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in it, in its root directory."""
        pid = str(self._init)
        enter = ["nsenter", "--target", pid, "--mount", "--pid", "--uts", "--net", "--root", "--wd", "--", *argv]
        process = subprocess.Popen(enter, env=dict(environment), **options)
        with self._lock:
            self._started = [known for known in self._started if known.poll() is None]
            self._started.append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        """All of its processes but the first one."""
        found = []
        with suppress(psutil.NoSuchProcess):
            found += psutil.Process(self._init).children(recursive=True)
        for process in list(self._started):
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(process.pid).children(recursive=True)
        return found

    def kill(self) -> None:
        """End all of it at once; :meth:`close` is still needed."""
        self._unshare.kill()

    def close(self) -> None:
        """End it; returns when nothing of it runs."""
        self.kill()
        self._unshare.wait(START_SECONDS)
        for process in self._started:
            process.wait(START_SECONDS)
        for part in (self._ours, self.metadata_listener, _pipe(self._unshare)):
            part.close()

    def _complaint(self) -> str:
        self._unshare.kill()
        text = _pipe(self._unshare).read().decode(errors="replace")
        self._unshare.wait(START_SECONDS)
        _pipe(self._unshare).close()
        self._ours.close()
        return text


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stderr is not None
    return process.stderr


def _other_mounts() -> list[str]:
    """File systems beside the root's, which alone an overlay sees: our Python or this repository may be there."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind = line.split()[:3]
        if place != "/" and kind not in _NOT_DATA and Path(place).is_dir():
            found.append(place)
    return found


@functools.cache
def unavailable() -> str:
    """Why VMs can't boot here; "" if they can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "VMs of the stand-in need root: port 22 of loopback addresses, and namespaces"
    probe = ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, check=False, timeout=START_SECONDS)
    except FileNotFoundError:
        return "unshare is not installed: apt-get install util-linux"
    if done.returncode:
        return f"namespaces can't be made here: {done.stderr.strip()}"
    try:
        socket.create_server(("127.69.1.1", 22)).close()
    except OSError as error:
        return f"port 22 of loopback addresses is not free: {error}"
    return ""
