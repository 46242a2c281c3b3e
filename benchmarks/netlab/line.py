"""The delay line: a process that carries packets between two TUN devices, late, slowly, or not at all.

It is a process of its own so that the interpreter lock of its user does not add to the delays.  Its user holds the
other end of a socket: each line there is a command in JSON, and is answered by one.  When the user dies without a
word, the namespaces are removed from here.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import random
import select
import socket
import sys
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any

from benchmarks.netlab import packets, tun
from benchmarks.netlab.leftovers import remove
from benchmarks.netlab.shaping import Shaper, Wire

_AT_ONCE = 64
"""Packets read from one device before what is due is sent on."""
_LONGEST = packets.PREFIX + 65536


class Way:
    """One direction: from the device ``source`` to the device ``target``, both file descriptors."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.shaper = Shaper(Wire(), random.random)
        self.under_way: deque[tuple[float, bytes]] = deque()
        self.seen: dict[bytes, bytes] = {}
        """The headers of the last frame of each TCP connection: what a reset is made from."""
        self.latest = 0.0
        """By how many seconds a packet left later than it should have, at worst."""

    def send_due(self, now: float) -> None:
        """Send what is due; a device that is gone takes nothing."""
        under_way, target = self.under_way, self.target
        while under_way and under_way[0][0] <= now:
            due, frame = under_way.popleft()
            if now - due > self.latest:
                self.latest = now - due
            with suppress(OSError):
                os.write(target, frame)
            now = monotonic()

    def inject(self, frame: bytes, now: float) -> None:
        """Let a frame of ours follow all that is under way."""
        due = self.under_way[-1][0] if self.under_way else now
        self.under_way.append((max(due, now), frame))


class Line:
    """Both directions, and the commands that change them."""

    def __init__(self, up: Way, down: Way) -> None:
        self.ways = (up, down)
        self._back = {up: down, down: up}
        self._forgotten: set[bytes] = set()
        """Connections that were reset: whoever still speaks there is answered by a reset."""
        self._speaker: Way | None = None
        self._turns = 0

    def take(self, way: Way) -> None:
        """Read what came at one end, and decide about each packet."""
        for _ in range(_AT_ONCE):
            try:
                frame = os.read(way.source, _LONGEST)
            except OSError:  # nothing more for now, or the device is down
                return
            now = monotonic()
            if packets.is_tcp(frame):
                if self._forgotten and self._answer_forgotten(way, frame, now):
                    continue
                way.seen[packets.connection(frame)] = frame[: packets.HEADERS]
            due = way.shaper.arrival(len(frame) - packets.PREFIX, packets.segments(frame), now)
            if due is not None:
                way.under_way.append((due, frame))
            if way is not self._speaker and packets.says_something(frame):
                self._speaker = way
                self._turns += 1

    def _answer_forgotten(self, way: Way, frame: bytes, now: float) -> bool:
        """Whether the frame was of a connection that had been reset; a new one between the same ports is none."""
        key = packets.connection(frame)
        if key not in self._forgotten:
            return False
        if packets.opens(frame):
            self._forgotten -= {key, packets.other_way(key)}
            return False
        way.shaper.count.swallowed += 1
        if not packets.resets(frame):
            self._back[way].inject(packets.reset_of_sender(frame), now)
        return True

    def command(self, name: str, arguments: dict[str, Any]) -> Any:
        """Carry out one command of the user's."""
        return {
            "set": self._set,
            "black_hole": self._black_hole,
            "lift": self._lift,
            "reset": self._reset,
            "statistics": self._statistics,
        }[name](**arguments)

    def _set(self, **wire: Any) -> None:
        new = Wire(**wire)
        for way in self.ways:
            way.shaper.set(new)
            tun.offload(way.source, new.takes_super_segments)

    def _black_hole(self, seconds: float | None) -> None:
        for way in self.ways:
            if seconds is None:
                way.shaper.black_hole()
            else:
                way.shaper.black_hole(monotonic() + seconds)

    def _lift(self) -> None:
        self._black_hole(0.0)

    def _reset(self, port: int | None) -> int:
        """Reset every connection of that port, or of any; returns how many."""
        up, down = self.ways
        both = [key for key in up.seen if packets.other_way(key) in down.seen]
        keys = [key for key in both if port is None or packets.has_port(key, port)]
        now = monotonic()
        for key in keys:
            to_far, to_near = packets.resets_of_both(up.seen, down.seen, key)
            up.inject(to_far, now)
            down.inject(to_near, now)
            self._forgotten |= {key, packets.other_way(key)}
            del up.seen[key], down.seen[packets.other_way(key)]
        return len(keys)

    def _statistics(self) -> dict[str, Any]:
        up, down = (dataclasses.asdict(way.shaper.count) for way in self.ways)
        latest = max(way.latest for way in self.ways)
        return {"up": up, "down": down, "turns": self._turns, "latest_ms": latest * 1000}


class OwnerIsGone(Exception):
    """The user of the line died without closing it."""


def carry(line: Line, control: socket.socket, owner: int) -> None:
    """Carry packets until told to stop.  ``owner`` is a file descriptor for the user's process."""
    up, down = line.ways
    commands = control.makefile("rw")
    sources = {up.source: up, down.source: down}
    watched = [*sources, control.fileno(), owner]
    while True:
        now = monotonic()
        pause = 60.0
        for way in line.ways:
            way.send_due(now)
            if way.under_way:
                pause = min(pause, way.under_way[0][0] - monotonic())
        readable, _, _ = select.select(watched, (), (), max(0.0, pause))
        for number in readable:
            if number in sources:
                line.take(sources[number])
            elif number == owner:
                raise OwnerIsGone
            elif not _obey(line, commands):
                return


def _obey(line: Line, commands: Any) -> bool:
    """Answer one command; False if it was the last.  The user sends the next only after our answer."""
    text = commands.readline()
    if not text:
        raise OwnerIsGone
    order = json.loads(text)
    name = order.pop("command")
    answer = None if name == "stop" else line.command(name, order)
    commands.write(json.dumps({"answer": answer}) + "\n")
    commands.flush()
    return bool(name != "stop")


def _be_punctual() -> None:
    """Ask the system for an early turn and exact timers; where it says no the line is less exact, and tells so."""
    gc.freeze()
    gc.disable()  # nothing here makes cycles
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    set_timer_slack, nanoseconds = 29, 1
    ctypes.CDLL(None).prctl(set_timer_slack, nanoseconds, 0, 0, 0)


def main() -> None:
    """Started by Netlab; the argument is JSON: descriptors, the user's pid, and the namespaces to remove after it."""
    order = json.loads(sys.argv[1])
    near, far = order["devices"]
    for device in (near, far):
        os.set_blocking(device, False)
    control = socket.socket(fileno=order["control"])
    try:
        if os.getppid() != order["owner"]:
            raise OwnerIsGone
        _be_punctual()
        carry(Line(Way(near, far), Way(far, near)), control, os.pidfd_open(order["owner"]))
    except (OwnerIsGone, ConnectionError):
        remove(order["namespaces"])


if __name__ == "__main__":
    main()
