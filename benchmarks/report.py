"""Makes RESULTS.md, and its plots, of what is in results/.

.venv/bin/python -m benchmarks.report
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.charts import Bar, bar_chart
from benchmarks.figures import FIGURES
from benchmarks.promises import Promise

HERE = Path(__file__).parent
OURS, REFERENCE = "lean", "openssh"

HEADER = """# Results

Made by `python -m benchmarks.report` of the files in `results/`; README.md tells what each script measures and how to
run it. Every section says where it was taken, and when, if its file has the day; `load` is the machine's at the end of
the measurement, 1.0 for each busy processor. A ratio is always one of the same interleaved run.
"""

BASE64 = (
    "What keeps a download from more: the wire has base64. In the same run a bare process that does nothing but read, "
    "encode and send took {bare:g} times the time of plain HTTP, and the extension {ours:g} times that process's. "
    "What would encode faster is part of neither Python nor Jupyter."
)

MEASURED = {
    "mb_per_s": "MB/s",
    "down_mb_per_s": "MB/s down",
    "up_mb_per_s": "MB/s up",
    "cpu_s_per_gb": "CPU-s/GB",
    "p50_ms": "median ping, ms",
    "round_trips": "round trips",
    "waits": "round trips without computing",
    "mb": "MB of memory",
    "threads": "threads",
    "failed": "failed",
    "descriptors_left": "descriptors left",
    "threads_left": "threads left",
    "per_s": "per second",
}


@dataclass(frozen=True)
class Single:
    """A figure of another script: where its value is, its bound; ``since``: where that is from which it has grown."""

    what: str
    path: str
    promise: Promise
    since: str = ""

    def value(self, result: Mapping[str, Any]) -> float | None:
        """The value in that result; None if it was not measured."""
        value, before = _at(result, self.path), _at(result, self.since) if self.since else 0.0
        return None if value is None or before is None else round(value - before, 3)


def at_most(what: str, path: str, bound: float) -> Single:
    """A value that may not be more."""
    return Single(what, path, Promise(path, at_most=bound))


def grows(what: str, path: str, bound: float) -> Single:
    """A value whose ``last`` may not be more than that above its ``first``."""
    return Single(what, f"{path}.last", Promise(f"{path}.last", at_most=bound), since=f"{path}.first")


def at_least(what: str, path: str, bound: float) -> Single:
    """A value that may not be less."""
    return Single(what, path, Promise(path, at_least=bound))


OUTAGES = ("reset", "client_moved", "vm_moved", "ssh_server_gone_5", "black_hole_4", "black_hole_5", "black_hole_30")

OTHERS: dict[str, Sequence[Single]] = {
    "rekey": (
        at_most("wrong bytes", "wrong_bytes", 0),
        at_most("longest silence of a download, s", "longest_silence_s.down", 3),
        at_most("longest silence of an upload, s", "longest_silence_s.up", 3),
        at_most("longest ping meanwhile, s", "longest_ping_s", 3),
    ),
    "warm_connect": (at_most("a warm connect to a sandbox, s", "warm_connect.median", 2),),
    "cuts": (at_most("requests that failed", "failed", 0), at_most("longest wait at a cut, s", "after_cut.worst", 1)),
    "outages": tuple(
        single
        for name in OUTAGES
        for single in (
            at_most(f"{name}: known after, s", f"{name}.known.median", 15),
            at_most(f"{name}: served again after, s", f"{name}.new_request.median", 2),
        )
        # Nobody can be served by a machine that moved before that is known.
        if not (name.endswith("_moved") and single.path.endswith("new_request.median"))
    ),
    "black_hole_120": (at_most("served again after, s", "black_hole_120.new_request.median", 2),),
    "soak": (
        at_most("requests that failed", "requests.failed", 0),
        at_most("memory at the end, MB", "connect_process.memory_mb.last", 80),
        grows("more memory than at the beginning, MB", "connect_process.memory_mb", 10),
        grows("more file descriptors than at the beginning", "connect_process.descriptors", 0),
        grows("more threads than at the beginning", "connect_process.threads", 0),
    ),
    "iap": (
        at_least("upload, ratio to gcloud's", "ratio.upload", 2),
        at_least("download, ratio to gcloud's", "ratio.download", 2),
        at_most("transfers both ways at once that hung", "ours.both.hung", 0),
    ),
    "prepared_connect": (at_most("the first connect to a prepared VM, s", "first_connect.median", 2),),
    "vm": (at_most("tests that failed", "failed", 0), at_least("tests that passed", "passed", 3)),
    "gce_warm_connect": (
        at_most("calls of an API", "api_calls_of_warm_connects", 0),
        at_most("more than `ssh HOST true`, s", "more_than_ssh", 1),
        at_least("times as fast as `gcloud compute ssh --command=true`", "times_as_fast_as_gcloud", 2),
    ),
}


def main() -> None:
    """Write RESULTS.md and results/*.svg."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*.json"))}
    parts = [HEADER]
    if "dataplane" in found:
        figures = found["dataplane"]["figures"]
        charts = dict(plots(figures))
        for name, svg in charts.items():
            (HERE / "results" / f"{name}.svg").write_text(svg)
        parts.append(dataplane(figures, list(charts)))
    parts += [other(name, result) for name, result in found.items() if name != "dataplane"]
    (HERE / "RESULTS.md").write_text("\n".join(parts))


def dataplane(figures: Mapping[str, Any], charts: Sequence[str]) -> str:
    """The section of the data plane: what is promised, then who measured what."""
    lines = ["## The data plane, against `ssh -N -L`", ""]
    lines += [line for chart in charts for line in (f"![{chart}](results/{chart}.svg)", "")]
    lines += ["| figure | measured | to reach | got | reached |", "| --- | --- | --- | --- | --- |"]
    lines += [row for figure in figures.values() for row in _promised(figure)]
    limits = {name: FIGURES[name].limit for name, figure in figures.items() if name in FIGURES and not _reached(figure)}
    if any(limits.values()):
        lines += ["", "What keeps the rest from being reached:", ""]
        lines += [f"- {figures[name]['what']}: {limit}" for name, limit in limits.items() if limit]
    if failed := [(figure["what"], *one) for figure in figures.values() for one in figure.get("failed", {}).items()]:
        lines += ["", "What was not measured, as the contender failed:", ""]
        lines += [f"- {what}: {kind}: {error}" for what, kind, error in failed]
    lines += ["", "Medians of all contenders:", "", "| figure | contender | values |", "| --- | --- | --- |"]
    for figure in figures.values():
        for kind, contender in figure["contenders"].items():
            values = ", ".join(f"{value:g} {MEASURED.get(name, name)}" for name, value in contender["median"].items())
            lines.append(f"| {figure['what']} | {kind} | {values} |")
    taken = sorted({_taken(figure) for figure in figures.values()})
    return "\n".join([*lines, "", *[f"Taken {one}." for one in taken], ""])


def plots(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The charts of the data plane, by name: speed and latency as ratios to OpenSSH's, and round trips."""
    ratios = [(figure["what"], promise) for figure in figures.values() for promise in figure["promises"]]
    ratios = [one for one in ratios if one[1]["against"] == REFERENCE and one[1]["value"] is not None]
    faster = [_bar(what, promise) for what, promise in ratios if promise["at_least"] is not None]
    sooner = [_bar(what, promise) for what, promise in ratios if promise["at_most"] is not None]
    if faster:
        yield "throughput", bar_chart("Throughput, as a ratio to ssh -N -L (more is better)", faster, reference=1)
    if sooner:
        yield "latency", bar_chart("Median ping, as a ratio to ssh -N -L (less is better)", sooner, reference=1)
    if first := figures.get("first_byte"):
        medians = {kind: one["median"]["round_trips"] for kind, one in first["contenders"].items()}
        goal = first["promises"][0]["at_most"]
        bars = [Bar(kind, value, goal if kind == OURS else None) for kind, value in medians.items()]
        yield "round_trips", bar_chart("Round trips to the first forwarded byte (less is better)", bars)


def other(name: str, result: Mapping[str, Any]) -> str:
    """The section of another script's result."""
    lines = [f"## {name}", "", "| figure | to reach | got | reached |", "| --- | --- | --- | --- |"]
    for single in OTHERS.get(name, ()):
        value = single.value(result)
        judged = single.promise.judge({} if value is None else {single.path: value}, {})
        lines.append(f"| {single.what} | {_bound(judged)} | {_value(value)} | {_word(judged['reached'])} |")
    for promise, kept in result.get("holds", {}).items():
        what, _, bound = promise.partition(": ")
        lines.append(f"| {what} | {bound} | | {_word(kept)} |")
    if len(lines) == 4:
        lines = [*lines[:2], "No bound is promised."]
    if limit := result.get("download_limit"):
        lines += [
            "",
            BASE64.format(bare=limit["base64_to_direct"]["seconds"], ours=limit["carried_to_base64"]["seconds"]),
        ]
    return "\n".join([*lines, "", f"Taken {_taken(result)}.", ""])


def _promised(figure: Mapping[str, Any]) -> Iterator[str]:
    for promise in figure["promises"]:
        measured = MEASURED.get(promise["measured"], promise["measured"])
        if promise["against"]:
            measured += f", ratio to {promise['against']}"
        got, reached = _value(promise["value"]), _word(promise["reached"])
        yield f"| {figure['what']} | {measured} | {_bound(promise)} | {got} | {reached} |"


def _reached(figure: Mapping[str, Any]) -> bool:
    return all(promise["reached"] is not False for promise in figure["promises"])


def _bar(what: str, promise: Mapping[str, Any]) -> Bar:
    goal = promise["at_most"] if promise["at_least"] is None else promise["at_least"]
    way = promise["measured"].partition("_mb_per_s")[0] if promise["measured"].endswith("_mb_per_s") else ""
    short = what.replace(" MB each way", " MB").replace("4 streams of 64-byte ", "4 streams of ")
    return Bar(f"{short} {way}".strip()[:42], promise["value"], goal)


def _bound(promise: Mapping[str, Any]) -> str:
    return f"<= {promise['at_most']:g}" if promise["at_least"] is None else f">= {promise['at_least']:g}"


def _value(value: float | None) -> str:
    return "not measured" if value is None else f"{value:g}"


def _word(reached: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "?"}[reached]


def _at(result: Mapping[str, Any], path: str) -> float | None:
    """The number at that path, or how long the list there is; None if there is nothing."""
    value: Any = result
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else float(len(value) if isinstance(value, list) else value)


def _taken(result: Mapping[str, Any]) -> str:
    forms = {
        "date": "{}",
        "system": "{}",
        "cpus": "{} processors",
        "python": "Python {}",
        "remote_runtime": "remote-runtime {}",
        "load": "load {}",
    }
    said = [form.format(result[name]) for name, form in forms.items() if name in result]
    return ", ".join(said if "date" in result else ["on a day that is not known", *said])


if __name__ == "__main__":
    main()
