"""Many gigabytes through one connection whose keys are exchanged again and again, by either side.

    .venv/bin/python -m benchmarks.rekey --gigabytes 10      # writes results/rekey.json; minutes, on loopback

Half of it goes down, half up, and a client of its own pings all the while.  Every byte is compared, or hashed.  What is
told of is the longest time in which nothing moved, and the longest ping.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.measures import MB, Here
from benchmarks.netlab import servers
from remote_runtime import ssh
from remote_runtime._threads import Deadline
from remote_runtime.forward import LocalForward, listen
from tests.openssh import run_sshd

RESULTS = Path(__file__).parent / "results" / "rekey.json"
PIECE_BYTES = 1_000_000_000
STALL_SECONDS = 3.0
LOGIN_SECONDS = 30.0


def main() -> None:
    """Measure, and write one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10, help="default: 10")
    parser.add_argument("--ours", type=int, default=200, help="megabytes until we exchange keys; default: 200")
    parser.add_argument("--theirs", type=int, default=300, help="megabytes until the server does; default: 300")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):  # sshd's log is printed at its end
        result = measure(options.gigabytes, options.ours, options.theirs)
    options.output.write_text(json.dumps({**result, **describe()}, indent=2) + "\n")


def measure(gigabytes: float, ours: int, theirs: int) -> dict[str, Any]:
    """What was moved, how many key exchanges there were, and the longest silences.  A wrong byte ends it."""
    with (
        tempfile.TemporaryDirectory() as directory,
        run_sshd(Path(directory) / "sshd", RekeyLimit=f"{theirs}M none", LogLevel="INFO") as sshd,
        servers.run_server(Here()) as port,
        ssh.connect(sshd.endpoint(), ask=None, on_event=lambda _: None, deadline=Deadline(LOGIN_SECONDS)) as connection,
        LocalForward(listen(0), lambda sink: connection.open_stream("127.0.0.1", port, sink)) as forward,
    ):
        with connection.execute("true", Deadline(LOGIN_SECONDS)) as process:
            process.wait()
        exchanges = _count_exchanges(connection, ours)
        began = time.monotonic()
        silences: dict[str, float] = {}
        with _pinging(forward.port) as longest_ping:
            for way, transfer in (("down", servers.download), ("up", servers.upload)):
                silences[way] = _longest_silence(forward.port, transfer, int(gigabytes * 1000 * MB / 2))
        return {
            "gigabytes": gigabytes,
            "key_exchanges": len(exchanges),
            "wrong_bytes": 0,
            "longest_silence_s": {way: round(seconds, 3) for way, seconds in silences.items()},
            "longest_ping_s": round(longest_ping(), 3),
            "allowed_s": STALL_SECONDS,
            "seconds": round(time.monotonic() - began),
        }


def _count_exchanges(connection: ssh.Connection, megabytes: int) -> list[float]:
    """Exchange keys after so many megabytes; the moment of each exchange is put on the list, whoever wanted it."""
    transport: Any = connection._transport
    transport.packetizer.REKEY_BYTES = megabytes * MB
    moments: list[float] = []
    activate = transport._activate_outbound

    def activated() -> None:
        moments.append(time.monotonic())
        activate()

    transport._activate_outbound = activated
    return moments


def _longest_silence(port: int, transfer: Callable[[Any, int], None], size: int) -> float:
    """Move ``size`` bytes, a gigabyte to a client; the longest time in which no byte moved, in seconds."""
    longest = 0.0
    while size > 0:
        piece = min(size, PIECE_BYTES)
        with servers.connect(Here(), ("127.0.0.1", port), timeout=120) as client:
            watched = Watched(client)
            transfer(watched, piece)
        longest = max(longest, watched.longest)
        size -= piece
        print(f"{piece / MB:g} MB, longest silence {watched.longest:.3f} s")
    return longest


class Watched:
    """A socket that takes note of how long each of its calls took at most."""

    def __init__(self, sock: Any) -> None:
        self.longest = 0.0
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._sock, name)

        def timed(*arguments: Any) -> Any:
            began = time.monotonic()
            try:
                return method(*arguments)
            finally:
                self.longest = max(self.longest, time.monotonic() - began)

        return timed


@contextmanager
def _pinging(port: int) -> Iterator[Callable[[], float]]:
    """Ping ten times a second in the block; gives how long the longest took until now, in seconds."""
    longest = 0.0
    over = threading.Event()

    def ping() -> None:
        nonlocal longest
        with servers.connect(Here(), ("127.0.0.1", port), timeout=120) as client:
            servers.echo(client)
            while not over.wait(0.1):
                began = time.monotonic()
                servers.exchange(client, bytes(64))
                longest = max(longest, time.monotonic() - began)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield lambda: longest
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
