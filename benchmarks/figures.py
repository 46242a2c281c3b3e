"""The figures of the data plane: the line, what is measured on it, by whom, and what is promised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.forwarders import PEERS
from benchmarks.measures import (
    OPEN,
    Measure,
    Transfer,
    both_ways,
    idle,
    megabytes_per_second,
    pings,
    pings_during,
    round_trips,
    short_connections,
)
from benchmarks.netlab import servers
from benchmarks.promises import Promise
from benchmarks.roundtrips import CLIENTS

OURS, REFERENCE = "lean", "openssh"
PAIR = (OURS, REFERENCE)
ALL = (*PAIR, *PEERS)


@dataclass(frozen=True)
class Figure:
    """``line``: Netlab's settings; None for this machine's own loopback.

    Each of ``rounds`` measures the first two ``kinds``, one after the other; the rest, which is there to compare with,
    takes part in the first ``rounds_of_others``.  Each measurement has a connection of its own, or with ``keeps`` one
    for all rounds.  ``limit`` says why a promise is out of reach, where it is.
    """

    text: str
    line: dict[str, Any] | None
    measure: Measure
    promises: tuple[Promise, ...]
    kinds: Sequence[str] = PAIR
    rounds: int = 5
    rounds_of_others: int = 1
    keeps: bool = False
    limit: str = ""


@dataclass(frozen=True)
class Cell:
    """One kind of path: round trip in milliseconds, bandwidth in Mbit/s, loss in percent, megabytes per transfer."""

    rtt_ms: float
    mbit: int
    loss: float
    megabytes: float
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"path_{self.rtt_ms:g}ms_{self.mbit}mbit_{self.loss:g}loss")

    def figure(self) -> Figure:
        """A download and an upload over it, against OpenSSH's."""
        # What a router queues: a tenth of a second, at least a hundred packets.
        line = {"rtt_ms": self.rtt_ms, "mbit": self.mbit, "queue_bytes": max(150_000, self.mbit * 12_500)}
        reach = 0.7 if self.loss else 0.9
        return Figure(
            f"{self.megabytes:g} MB each way, {self.rtt_ms:g} ms, {self.mbit} Mbit/s, {self.loss:g} % loss",
            {**line, "loss": self.loss / 100},
            both_ways(self.megabytes),
            (
                Promise("down_mb_per_s", at_least=reach, against=REFERENCE),
                Promise("up_mb_per_s", at_least=reach, against=REFERENCE),
            ),
            keeps=not self.loss,  # where packets are lost, a connection remembers what it lost before
        )


# As short as a transfer may be without being all slow start.
CELLS = (
    Cell(1, 10, 0, 2),
    Cell(1, 100, 1, 5),
    Cell(1, 1000, 0, 40),
    Cell(20, 10, 1, 0.8),
    Cell(20, 100, 0, 12),
    Cell(20, 1000, 0.1, 5),
    Cell(60, 10, 0, 2),
    Cell(60, 100, 0.1, 2.5),
    Cell(60, 1000, 0, 40),
    Cell(200, 10, 0.1, 1),
    Cell(200, 100, 0, 12),
    Cell(200, 1000, 0, 25),
)

SEND_BUFFER = (
    "sshd is limited by its own kernel: Linux lets it write again only when a third of the TCP send buffer "
    "(net.ipv4.tcp_wmem, 4 MiB) is free, so 2.8 to 4 MB are under way per round trip, by how much it writes at once "
    "and whatever the window of the channel; `ss -tmi` shows it. OpenSSH's window is 2.1 MB, and the slow start is the "
    "same for both. The contender `tcp` is the same transfer without SSH, by a program that fills that buffer at each "
    "write."
)

ONE_ROUND_TRIP = (
    "The pings take one round trip of the line against OpenSSH's two, so that half is the floor; what is above it is "
    "the computing at both ends. The contender `tcp` is the same without SSH."
)
OTHER_END = (
    "The forwarder is not what is waited for: by its CPU-s/GB it could move more than twice as much. sshd, which "
    "encrypts what all contenders get, and the two ends of the transfer share the processors with it, and how far "
    "OpenSSH's client falls behind depends on the machine."
)


def bulk(text: str, transfer: Transfer, *, reach: float, limit: str = "", **line: float) -> Figure:
    """A transfer of 200 MB over that line."""
    return Figure(
        f"200 MB {text}",
        line,
        megabytes_per_second(transfer, 200),
        (Promise("mb_per_s", at_least=reach, against=REFERENCE),),
        kinds=(*ALL, OPEN),
        rounds=3,
        limit=limit,
    )


def loopback(text: str, transfer: Transfer, *, cpu: float) -> Figure:
    """A transfer of 1 GB on this machine: what it costs."""
    return Figure(
        f"1 GB {text} on loopback",
        None,
        megabytes_per_second(transfer, 1000),
        (
            Promise("mb_per_s", at_least=1.2, against=REFERENCE),
            Promise("mb_per_s", at_least=3.0, against="sshtunnel"),
            Promise("cpu_s_per_gb", at_most=cpu),
        ),
        kinds=ALL,
        rounds=3,
        limit=OTHER_END,
    )


def ping_during(text: str, transfer: Transfer, *promises: Promise) -> Figure:
    """A ping while 60 MB go over a usual line."""
    return Figure(
        f"a ping during a bulk {text}, 50 Mbit/s, 30 ms",
        {"rtt_ms": 30, "mbit": 50, "queue_bytes": 4 << 20},
        pings_during(transfer, 50),
        promises,
        kinds=ALL,
        rounds=3,
    )


def faster(reach: float) -> Promise:
    """A median round trip of so much of OpenSSH's at most."""
    return Promise("p50_ms", at_most=reach, against=REFERENCE)


FIGURES: dict[str, Figure] = {
    "first_byte": Figure(
        "round trips of 200 ms from TCP's SYN to the first forwarded byte (`ssh -W`, paramiko's SSHClient)",
        {"rtt_ms": 0},
        round_trips(200),
        (Promise("round_trips", at_most=7.5),),
        kinds=CLIENTS,
    ),
    "warm_connect": Figure(
        "round trips of 200 ms of a whole warm connect, to the URL that answered",
        {"rtt_ms": 0},
        round_trips(200, client="connect"),
        (Promise("round_trips", at_most=11),),
        kinds=(OURS,),
    ),
    "upload_60": bulk("up, 60 ms", servers.upload, reach=1.75, rtt_ms=60, queue_bytes=8 << 20),
    "upload_120": bulk("up, 120 ms", servers.upload, reach=1.75, rtt_ms=120, queue_bytes=8 << 20),
    "download_20": bulk(
        "down, 20 ms, 1 Gbit/s", servers.download, reach=1.0, rtt_ms=20, mbit=1000, queue_bytes=4 << 20
    ),
    "download_60": bulk(
        "down, 60 ms, 1 Gbit/s",
        servers.download,
        reach=1.3,
        limit=SEND_BUFFER,
        rtt_ms=60,
        mbit=1000,
        queue_bytes=8 << 20,
    ),
    "download_120": bulk(
        "down, 120 ms, 1 Gbit/s",
        servers.download,
        reach=1.3,
        limit=SEND_BUFFER,
        rtt_ms=120,
        mbit=1000,
        queue_bytes=16 << 20,
    ),
    "pings_60": Figure(
        "4 streams of 64-byte pings, 60 ms",
        {"rtt_ms": 60},
        pings(4, 30),
        (faster(0.5),),
        kinds=(*ALL, OPEN),
        limit=ONE_ROUND_TRIP,
    ),
    "ping_in_download": ping_during(
        "download", servers.download, faster(0.5), Promise("mb_per_s", at_least=0.95, against=REFERENCE)
    ),
    "ping_in_upload": ping_during("upload", servers.upload, faster(0.8)),
    "loopback_download": loopback("down", servers.download, cpu=3.0),
    "loopback_upload": loopback("up", servers.upload, cpu=3.5),
    "idle_2000": Figure(
        "2,000 idle connections: memory and threads of the forwarder",
        None,
        idle(2000),
        (Promise("mb", at_most=60), Promise("threads", at_most=0)),
        rounds=1,
    ),
    "short_5000": Figure(
        "5,000 short connections, 50 at a time, 2 ms, 1 % loss",
        {"rtt_ms": 2, "loss": 0.01},
        short_connections(5000, 50),
        (
            Promise("failed", at_most=0),
            Promise("descriptors_left", at_most=0),
            Promise("threads_left", at_most=0),
        ),
        rounds=1,
    ),
    **{cell.name: cell.figure() for cell in CELLS},
}
