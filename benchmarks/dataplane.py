"""What a forwarded port carries, against `ssh -N -L` and the other tools, in the same interleaved run.

    .venv/bin/python -m benchmarks.dataplane                        # all, in 35 minutes
    .venv/bin/python -m benchmarks.dataplane --only upload_60       # may be repeated; the other results are kept
    .venv/bin/python -m benchmarks.dataplane --list

Each round measures the contenders one after the other, each over the same line; a result is the median of the rounds.
Every byte is checked.  Results go to ``results/dataplane.json``, each as soon as it is there.  Needs root, network
namespaces and OpenSSH (client and server), and `scripts/setup benchmarks` for the peers: one that is not installed is
left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.figures import FIGURES, OURS, Figure
from benchmarks.forwarders import PEERS
from benchmarks.measures import Bench, Here
from benchmarks.netlab import Netlab, servers, unavailable
from tests.netlab import FarSshd
from tests.openssh import prepare, run_sshd

RESULTS = Path(__file__).parent / "results" / "dataplane.json"
DESCRIPTORS = 20_000

MakeBench = partial[Bench]


def main() -> None:
    """Measure, and write one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=FIGURES, action="append", metavar="FIGURE", help="may be repeated")
    parser.add_argument("--kind", action="append", help="measure this contender alone; may be repeated")
    parser.add_argument("--rounds", type=int, help="default: as many as the figure says")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--list", action="store_true", help="name the figures")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:28} {figure.text}" for name, figure in FIGURES.items()))
        return
    if reason := unavailable():
        raise SystemExit(reason)
    _raise_limit()
    names = options.only or list(FIGURES)
    with redirect_stdout(sys.stderr):  # sshd's log is printed at its end
        for number, name in enumerate(names, 1):
            say(f"{number}/{len(names)} {name}: {FIGURES[name].text}")
            keep(options.output, name, compare(FIGURES[name], options.kind or (), options.rounds))


def compare(figure: Figure, only: Sequence[str], rounds: int | None) -> dict[str, Any]:
    """The medians of all contenders, with every single value; and the promises, judged."""
    began = time.monotonic()
    kinds = [kind for kind in figure.kinds if available(kind) and (not only or kind in only)]
    values: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    failed: dict[str, str] = {}
    with laboratory(figure) as make, ExitStack() as kept:
        benches = {kind: kept.enter_context(make(kind)) for kind in kinds} if figure.keeps else {}
        for number in range(rounds or figure.rounds):
            for kind in kinds if number < figure.rounds_of_others else [k for k in kinds if k in figure.kinds[:2]]:
                try:
                    with ExitStack() as own:
                        bench = benches.get(kind) or own.enter_context(make(kind))
                        values[kind].append(figure.measure(bench))
                except (OSError, servers.WrongBytes) as error:
                    if kind == OURS:
                        raise
                    failed[kind] = repr(error)
                    say(f"{kind} failed: {error!r}")  # which is no end of the comparison: its round is missing
                else:
                    say(f"{kind:10} {_rounded(values[kind][-1])}")
    medians = {kind: _medians(rows) for kind, rows in values.items() if rows}
    return {
        "what": figure.text,
        "promises": [promise.judge(medians.get(OURS, {}), medians) for promise in figure.promises],
        "contenders": {
            kind: {"median": _rounded(median), "all": [_rounded(row) for row in values[kind]]}
            for kind, median in medians.items()
        },
        "failed": failed,
        "left_out": sorted(set(figure.kinds) - set(kinds)),
        "seconds": round(time.monotonic() - began),
        **describe(),
    }


def available(kind: str) -> bool:
    """Whether that contender is installed."""
    if kind == "openssh":
        return shutil.which("ssh") is not None
    return kind not in PEERS or importlib.util.find_spec(kind) is not None


@contextmanager
def laboratory(figure: Figure) -> Iterator[MakeBench]:
    """The near end of a figure's line, with an SSH server and a byte server at the far end; or all of it here."""
    settings: Any = {
        "MaxSessions": "10000",
        "LogLevel": "INFO",
        "environment": {"PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])},
    }
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "sshd"
        if figure.line is None:
            with run_sshd(place, **settings) as here, servers.run_server(Here()) as port:
                yield partial(Bench, near=Here(), far=Here(), sshd=here, port=port, lab=None)
            return
        with Netlab(**figure.line) as lab:
            sshd = FarSshd(prepare(place, ListenAddress="0.0.0.0", **settings), lab)
            try:
                with servers.run_server(lab.far) as port:
                    yield partial(Bench, near=lab.near, far=lab.far, sshd=sshd, port=port, lab=lab)
            finally:
                sshd.stop()


def keep(path: Path, name: str, result: Mapping[str, Any]) -> None:
    """Write a figure's result beside those that are there."""
    known = json.loads(path.read_text())["figures"] if path.exists() else {}
    figures = {**known, name: result}
    ordered = {one: figures[one] for one in FIGURES if one in figures}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"figures": ordered}, indent=2) + "\n")
    fresh.replace(path)


def say(text: str) -> None:
    """Tell how it goes."""
    print(text, file=sys.stderr, flush=True)


def _raise_limit() -> None:
    """Let this process, and all that it starts, have as many descriptors as the figures need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in row.items()}


if __name__ == "__main__":
    main()
