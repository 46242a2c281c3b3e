"""Processes and ports, as far as they concern us: is that still our server, and who listens there?

Everything is read from ``/proc`` where there is one, since starting ``ps`` costs more than a whole warm connect.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from .clock import Deadline

POLL_SECONDS = 0.05
LISTEN = "0A"


def started(pid: int) -> str:
    """When the process started, in a form that serves to compare only; ``""`` if it does not run, as a zombie."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            state, ticks = parse_stat(file.read())
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except FileNotFoundError:
        return "" if os.path.exists("/proc/self/stat") else _ps_started(pid)
    except (OSError, ValueError):
        return ""
    # Ticks count from the boot, so without the boot's id the pid and ticks of a process after the next one may agree.
    return "" if state in ("Z", "X") else "%s/%d" % (boot, ticks)


def parse_stat(content: bytes) -> tuple[str, int]:
    """State and start time from ``/proc/PID/stat``, whose second field may hold any character."""
    fields = content[content.rindex(b")") + 1 :].split()
    return fields[0].decode(), int(fields[19])


def _ps_started(pid: int) -> str:
    import subprocess

    answer = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    state, _, when = answer.stdout.decode("ascii", "replace").strip().partition(" ")
    return "" if state[:1] in ("Z", "") else " ".join(when.split())


def running_from(directory: str) -> bool:
    """Whether a process runs whose program is below ``directory``, as it was called."""
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        try:
            with open("/proc/%s/cmdline" % name, "rb") as file:
                called = file.read(4096).split(b"\0")[0]
        except OSError:
            continue
        if called.startswith(os.fsencode(directory) + b"/"):
            return True
    return False


def descendants(pid: int) -> list[int]:
    """All living processes below ``pid``."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += below
    return found


def ancestors(pid: int) -> list[int]:
    """The processes above ``pid``, the nearest first."""
    parents = dict(_parents())
    found: list[int] = []
    while parents.get(pid, 0) and parents[pid] not in found:
        pid = parents[pid]
        found.append(pid)
    return found


def _parents() -> list[tuple[int, int]]:
    if not os.path.exists("/proc/self/stat"):
        return _ps_parents()
    pairs = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as file:
                    content = file.read()
                pairs.append((int(name), int(content[content.rindex(b")") + 1 :].split()[1])))
            except (OSError, ValueError):
                continue  # it ended meanwhile
    return pairs


def _ps_parents() -> list[tuple[int, int]]:
    import subprocess

    answer = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE, check=False)
    rows = (line.split() for line in answer.stdout.decode("ascii", "replace").splitlines())
    return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]


def end(pids: dict[int, str], number: int, deadline: Deadline) -> dict[int, str]:
    """Signal these processes (pid and start time), wait until they are gone, return those that are not."""
    left = {pid: when for pid, when in pids.items() if when and started(pid) == when}
    for pid in left:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
    while left and not deadline.passed:
        time.sleep(deadline.bounded(POLL_SECONDS))
        left = {pid: when for pid, when in left.items() if started(pid) == when}
    return left


def end_tree(pid: int, when: str, *, gentle: Deadline, hard: Deadline) -> bool:
    """End a process and all that is below it now: asked first, killed at ``gentle``.

    Whether the process itself is gone at ``hard``.
    """
    family = {child: started(child) for child in descendants(pid)}
    left = end({pid: when}, signal.SIGTERM, gentle)  # in order: a server that ends first ends its kernels itself
    left.update(end(family, signal.SIGTERM, gentle.sooner(2.0)))
    return pid not in end(left, signal.SIGKILL, hard)


def port_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def any_port() -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listener_uid(port: int) -> int | None:
    """Whose socket listens on exactly 127.0.0.1 there: -1 for nobody's, None where the system does not tell."""
    try:
        with open("/proc/net/tcp", "rb") as file:
            uids = listeners(file.read(), "127.0.0.1", port)
    except OSError:
        return None
    return uids[0] if uids else -1


def listeners(table: bytes, address: str, port: int) -> list[int]:
    """The users whose sockets listen on exactly this IPv4 address and port, from the text of ``/proc/net/tcp``."""
    local = "%08X:%04X" % (int.from_bytes(socket.inet_aton(address), sys.byteorder), port)
    rows = (line.split() for line in table.decode("ascii", "replace").splitlines()[1:])
    return [int(row[7]) for row in rows if len(row) > 7 and row[1] == local and row[3] == LISTEN and row[7].isdigit()]
