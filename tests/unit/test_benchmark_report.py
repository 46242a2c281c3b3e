"""What benchmarks/ promises and tells: judged right, whole, and fit to be read."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.charts import Bar, bar_chart
from benchmarks.figures import CELLS, FIGURES
from benchmarks.promises import Promise
from benchmarks.report import dataplane, other, plots

SSH = {"openssh": {"speed": 10.0, "ms": 0.0}}


@pytest.mark.parametrize(
    ("promise", "ours", "value", "reached"),
    [
        (Promise("speed", at_least=1.3, against="openssh"), {"speed": 13.0}, 1.3, True),
        (Promise("speed", at_least=1.3, against="openssh"), {"speed": 12.9}, 1.29, False),
        (Promise("speed", at_most=0.5, against="openssh"), {"speed": 5.0}, 0.5, True),
        (Promise("failed", at_most=0), {"failed": 0.0}, 0.0, True),
        (Promise("failed", at_most=0), {"failed": 1.0}, 1.0, False),
        (Promise("speed", at_least=3, against="sshtunnel"), {"speed": 13.0}, None, None),
        (Promise("ms", at_most=1, against="openssh"), {"ms": 1.0}, None, None),
        (Promise("speed", at_least=1), {}, None, None),
    ],
)
def test_a_promise_is_kept_or_not_or_was_not_measured(
    promise: Promise, ours: dict[str, float], value: float | None, reached: bool | None
) -> None:
    judged = promise.judge(ours, SSH)
    assert (judged["value"], judged["reached"]) == (value, reached)


def test_the_cells_cover_the_paths_that_people_have() -> None:
    assert len(CELLS) == len({cell.name for cell in CELLS}) == 12
    assert {cell.mbit for cell in CELLS} == {10, 100, 1000}
    assert {1, 200} <= {cell.rtt_ms for cell in CELLS}
    assert {0, 1} <= {cell.loss for cell in CELLS}
    assert all(cell.name in FIGURES for cell in CELLS)


def test_a_chart_has_a_bar_for_each_value_and_can_be_parsed() -> None:
    svg = ElementTree.fromstring(bar_chart("a < b & c", [Bar("<one>", 1.0, 0.9), Bar("two", 0.0)], reference=1))
    space = "{http://www.w3.org/2000/svg}"
    bars = svg.findall(f"{space}rect")
    assert [float(bar.attrib["width"]) for bar in bars] == [360.0, 0.0]
    assert len(svg.findall(f"{space}line")) == 2
    assert svg.findtext(f"{space}title") == "a < b & c"


def figure(value: float, **more: Any) -> dict[str, Any]:
    promise = Promise("mb_per_s", at_least=1.3, against="openssh")
    medians = {"lean": {"mb_per_s": value}, "openssh": {"mb_per_s": 10.0}}
    return {
        "what": "200 MB down",
        "promises": [promise.judge(medians["lean"], medians)],
        "contenders": {kind: {"median": median} for kind, median in medians.items()},
        "date": "2026-01-02",
        "cpus": 2,
        **more,
    }


def test_the_limit_is_told_where_a_figure_is_not_reached_and_only_there() -> None:
    limit = FIGURES["download_60"].limit
    assert limit
    missed = dataplane({"download_60": figure(12.0)}, [])
    assert "| 200 MB down | MB/s, ratio to openssh | >= 1.3 | 1.2 | **no** |" in missed
    assert f"- 200 MB down: {limit}" in missed
    reached = dataplane({"download_60": figure(14.0)}, [])
    assert "| 1.4 | yes |" in reached
    assert limit not in reached
    assert "Taken 2026-01-02, 2 processors." in reached
    assert "Taken on a day that is not known, 2 processors." in other("cuts", {"cpus": 2})


def test_a_contender_that_failed_is_told_with_its_reason() -> None:
    told = dataplane({"download_60": figure(14.0, failed={"sshtunnel": "TimeoutError('timed out')"})}, [])
    assert "- 200 MB down: sshtunnel: TimeoutError('timed out')" in told


def test_plots_show_what_was_measured() -> None:
    assert [name for name, _ in plots({"download": figure(12.0)})] == ["throughput"]


def test_what_another_script_did_not_measure_is_said() -> None:
    section = other("cuts", {"failed": 0, "after_cut": {"worst": 1.5}})
    assert "| requests that failed | <= 0 | 0 | yes |" in section
    assert "| longest wait at a cut, s | <= 1 | 1.5 | **no** |" in section
    assert "| requests that failed | <= 0 | not measured | ? |" in other("cuts", {})
    assert "| download | at least 0.4 of direct | | yes |" in other(
        "extension", {"holds": {"download: at least 0.4 of direct": True}}
    )


def test_growth_is_what_counts_of_what_has_to_stay_flat() -> None:
    flat = {"first": 14.0, "last": 14.0, "most": 84}
    grown = {"connect_process": {"memory_mb": {"first": 55.1, "last": 66.3}, "descriptors": flat, "threads": {}}}
    section = other("soak", {"requests": {"failed": 0}, **grown})
    assert "| memory at the end, MB | <= 80 | 66.3 | yes |" in section
    assert "| more memory than at the beginning, MB | <= 10 | 11.2 | **no** |" in section
    assert "| more file descriptors than at the beginning | <= 0 | 0 | yes |" in section
    assert "| more threads than at the beginning | <= 0 | not measured | ? |" in section


def test_calls_are_counted_and_what_gcloud_could_not_do_is_no_failure_of_ours() -> None:
    warm = {"more_than_ssh": 0.1, "times_as_fast_as_gcloud": None, "api_calls_of_warm_connects": ["instances.get"]}
    section = other("gce_warm_connect", warm)
    assert "| calls of an API | <= 0 | 1 | **no** |" in section
    assert "| more than `ssh HOST true`, s | <= 1 | 0.1 | yes |" in section
    assert "| times as fast as `gcloud compute ssh --command=true` | >= 2 | not measured | ? |" in section
    iap = other("iap", {"ratio": {"upload": 3, "download": 1, "both": None}, "ours": {"both": {"hung": 0}}})
    assert "| transfers both ways at once that hung | <= 0 | 0 | yes |" in iap
