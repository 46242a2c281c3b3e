"""How soon an outage is known, and how soon a client is served again when it is over; the round trip is 40 ms.

    .venv/bin/python -m benchmarks.outages > benchmarks/results/outages.json
    .venv/bin/python -m benchmarks.outages --only black_hole_120      # takes ten minutes, so it is not among the usual

Each kind of outage is made five times, each time between two new network namespaces:

* ``known``: seconds from its beginning until the link says so,
* ``new_request``: from its end until a request is answered that is made at that moment,
* ``waiting_request``: from its end until one is answered that was made 0.1 s after its beginning, or 20 s after that
  of one that lasts longer than a client may wait.

Needs root, network namespaces and OpenSSH's server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.netlab import Netlab, unavailable
from tests.faults.service import Service, service
from tests.faults.web import web_server
from tests.netlab import FarSshd
from tests.openssh import prepare

RTT_MS = 40

Outage = Callable[[Netlab, FarSshd], object]
"""Makes it and returns when it is over."""


def black_hole(seconds: float) -> Outage:
    """The line swallows everything for a while."""

    def make(lab: Netlab, _: FarSshd) -> None:
        lab.black_hole()
        time.sleep(seconds)
        lab.lift()

    return make


def black_hole_while_coming_back(lab: Netlab, _: FarSshd) -> None:
    """The connection is reset, and in the middle of the next login the line goes dead for 5 s."""
    lab.reset_connections(22)
    time.sleep(8 * RTT_MS / 1000)
    lab.black_hole()
    time.sleep(5)
    lab.lift()


def ssh_server_gone(_: Netlab, sshd: FarSshd) -> None:
    """sshd is killed with all its connections, and starts again after 5 s."""
    sshd.stop()
    time.sleep(5)
    sshd.start()


OUTAGES: dict[str, Outage] = {
    "reset": lambda lab, _: lab.reset_connections(22),
    "client_moved": lambda lab, _: lab.move_near("10.77.1.9"),
    "vm_moved": lambda lab, _: lab.move_far("10.77.1.10"),
    "ssh_server_gone_5": ssh_server_gone,
    "black_hole_4": black_hole(4),  # over just after one of TCP's retransmissions, when the next one is far away
    "black_hole_5": black_hole(5),
    "black_hole_30": black_hole(30),
    "black_hole_5_while_coming_back": black_hole_while_coming_back,
    "black_hole_120": black_hole(120),
}
LONG = {"black_hole_120"}
SOON_SECONDS, LATER_SECONDS = 0.1, 20.0


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--only", choices=OUTAGES, action="append", help="this kind of outage; may be repeated")
    options = parser.parse_args()
    if reason := unavailable():
        raise SystemExit(reason)
    names = options.only or [name for name in OUTAGES if name not in LONG]
    with redirect_stdout(sys.stderr):  # sshd's log is printed at its end
        result = {
            name: measure(OUTAGES[name], options.rounds, LATER_SECONDS if name in LONG else SOON_SECONDS)
            for name in names
        }
    json.dump({"rtt_ms": RTT_MS, **result, **describe()}, sys.stdout, indent=2)
    print()


def measure(outage: Outage, rounds: int, delay: float) -> dict[str, Any]:
    """The medians and all figures of that many outages of one kind, with a client that comes ``delay`` s after each."""
    rows = [one(outage, delay) for _ in range(rounds)]
    return {name: summary([row[name] for row in rows]) for name in rows[0]}


def one(outage: Outage, delay: float) -> dict[str, float | None]:
    """The figures of one outage; one that was never known has none for that."""
    with tempfile.TemporaryDirectory() as directory, Netlab(rtt_ms=RTT_MS) as lab:
        sshd = FarSshd(prepare(Path(directory) / "sshd", ListenAddress="0.0.0.0"), lab)
        try:
            with (
                web_server(lab.far.popen) as port,
                service(sshd.endpoint, port, within=lab.near.in_namespace) as served,
            ):
                return figures(outage, delay, lab, sshd, served)
        finally:
            sshd.stop()


def figures(outage: Outage, delay: float, lab: Netlab, sshd: FarSshd, served: Service) -> dict[str, float | None]:
    """Make the outage, with a client that comes in it and one at its end."""
    began = time.monotonic()
    waiting = served.getting(delay=delay)
    outage(lab, sshd)
    over = time.monotonic()
    new = served.get()
    waited = waiting.result() - over
    known = [moment - began for moment, event in served.told if event.state == "reconnecting"]
    return {"known": min(known, default=None), "new_request": new, "waiting_request": waited}


def summary(measured: Sequence[float | None]) -> dict[str, Any]:
    """The median, and every single one; what never happened (None) counts for neither."""
    seconds = [round(one, 2) for one in measured if one is not None]
    return {"median": round(statistics.median(seconds), 2) if seconds else None, "all": seconds}


if __name__ == "__main__":
    main()
