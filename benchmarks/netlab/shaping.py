"""One direction of the delay line as a pure decision: when does a packet arrive, if it does?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Wire:
    """What the line is like, the same in both directions."""

    rtt_ms: float = 0.0
    mbit: float | None = None
    """Megabits a second; None: as fast as this machine can."""
    queue_bytes: int = 1 << 20
    """What may wait for its turn on the wire; a packet that finds no room is dropped."""
    loss: float = 0.0
    """Share of the packets that vanish at random, 0 to 1."""

    def __post_init__(self) -> None:
        slow = self.mbit is not None and self.mbit <= 0
        if slow or self.rtt_ms < 0 or not 0 <= self.loss <= 1 or self.queue_bytes < 1:
            raise ValueError(f"no such line: {self}")

    @property
    def takes_super_segments(self) -> bool:
        """Whether packets may come in bundles of up to 64 KiB, which costs a tenth of the work.

        Not where packets are lost one by one, and not where a bundle would be long on the wire.
        """
        return not self.loss and (self.mbit is None or self.mbit >= 200)


@dataclasses.dataclass
class Counters:
    """One direction until now.  Bytes are those of IP packets; a super-segment counts as the packets it stands for."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    """Packets dropped at random."""
    overflowed: int = 0
    """Packets dropped because the queue was full."""
    swallowed: int = 0
    """Packets dropped in a black hole, or because the line had reset their connection."""


class Shaper:
    """Decides for each packet of one direction.  Times are seconds of the monotonic clock, sizes are bytes."""

    def __init__(self, wire: Wire, random: Callable[[], float]) -> None:
        self.count = Counters()
        self._random = random
        self._free_at = 0.0
        self._hole_until = 0.0
        self.set(wire)

    def set(self, wire: Wire) -> None:
        """Be like ``wire`` from the next packet on; those under way stay under way."""
        self._delay = wire.rtt_ms / 2000
        self._seconds_per_byte = 8e-6 / wire.mbit if wire.mbit else 0.0
        self._room = wire.queue_bytes * self._seconds_per_byte
        self._loss = wire.loss

    def black_hole(self, until: float = math.inf) -> None:
        """Swallow what comes before ``until``; what is under way arrives."""
        self._hole_until = until

    def arrival(self, size: int, packets: int, now: float) -> float | None:
        """When a packet that comes ``now`` leaves the line, or None if it does not.

        Packets never overtake each other as long as the round trip does not get shorter.
        """
        count = self.count
        if now < self._hole_until:
            count.swallowed += packets
            return None
        if self._loss and self._random() < self._loss:
            count.lost += packets
            return None
        starts = max(now, self._free_at)
        takes = size * self._seconds_per_byte
        if starts > now and starts - now + takes > self._room:
            count.overflowed += packets
            return None
        self._free_at = starts + takes
        count.packets += packets
        count.bytes += size
        return self._free_at + self._delay
