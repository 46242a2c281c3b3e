"""What the machine's gauges say is read right, and nothing they could say does harm."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest.jupyter_http_over_ws import gauges, resources
from remote_runtime.guest.jupyter_http_over_ws.gauges import VERSION_1, VERSION_2, Gpu, Memory

MEMINFO = "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\nHugePages_Total:       0\n"
ALL = Memory(16384 * 1024, 8192 * 1024)
UNLIMITED = str((1 << 63) - 4096)
SIZES = st.integers(0, 1 << 62)


def test_the_machines_memory() -> None:
    assert gauges.memory(MEMINFO) == ALL
    assert gauges.memory("MemTotal: 100 kB\nMemFree: 40 kB\n") == Memory(102400, 40960)
    assert gauges.memory("MemTotal: 100 kB\nMemAvailable: 200 kB\n") == Memory(102400, 102400)
    for text in ("", "MemTotal: 100 kB\n", "MemTotal: 0 kB\nMemAvailable: 0 kB\n", "nonsense"):
        assert gauges.memory(text) is None


def test_the_groups_of_a_process_from_itself_to_the_root() -> None:
    assert list(gauges.group_directories("0::/user.slice/jupyter\n")) == [
        ("user.slice/jupyter", VERSION_2),
        ("user.slice", VERSION_2),
        ("", VERSION_2),
    ]
    mixed = "5:cpu,cpuacct:/\n4:memory,hugetlb:/docker/abc\n1:name=systemd:/\n0::/\n"
    assert list(gauges.group_directories(mixed)) == [
        ("memory/docker/abc", VERSION_1),
        ("memory/docker", VERSION_1),
        ("memory", VERSION_1),
        ("", VERSION_2),
    ]
    assert next(gauges.group_directories("0::/../../etc\n")) == ("etc", VERSION_2)
    assert list(gauges.group_directories("")) == []


@pytest.mark.parametrize(
    ("limit", "usage", "stat", "files", "left"),
    [
        ("max\n", "5", "", VERSION_2, ALL),
        (UNLIMITED, "5", "", VERSION_1, ALL),
        ("", "", "", VERSION_2, ALL),
        ("4194304", "1048576", "inactive_file 0\n", VERSION_2, Memory(4194304, 3145728)),
        ("4194304", "4194304", "anon 1\ninactive_file 4000000\n", VERSION_2, Memory(4194304, 4000000)),
        ("4194304", "4194304", "inactive_file 4\ntotal_inactive_file 1000\n", VERSION_1, Memory(4194304, 1000)),
        ("4194304", "5000000", "", VERSION_2, Memory(4194304, 0)),
        ("4194304", "0", "inactive_file 99\n", VERSION_2, Memory(4194304, 4194304)),
        ("16000000", "1", "", VERSION_2, Memory(16000000, 8192 * 1024)),
        (str(1 << 40), "1", "", VERSION_2, ALL),
    ],
)
def test_a_group_narrows_the_memory(limit: str, usage: str, stat: str, files: gauges.GroupFiles, left: Memory) -> None:
    assert gauges.within_group(ALL, limit, usage, stat, files) == left


def test_the_table_of_gpus() -> None:
    table = (
        "1, NVIDIA A100-SXM4-40GB MIG 1g.5gb, 10, 40960, [N/A], [N/A]\n"
        "0, Tesla T4, 3, 15360, 100, 2\n"
        "Unable to determine the device handle for GPU 0000:00:04.0: Unknown Error\n"
        "2, GPU, with a comma, 0, [Not Supported], 101, 0\n"
    )
    mib = 1024 * 1024
    assert gauges.gpus(table) == [
        Gpu("Tesla T4", 15360 * mib, 3 * mib, 1.0, 0.02),
        Gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 40960 * mib, 10 * mib, None, None),
        Gpu("GPU, with a comma", 0, 0, 1.0, 0.0),
    ]
    assert gauges.gpus("") == []


def test_single_numbers() -> None:
    assert gauges.resident("100 25 3 1 0 9 0\n", 4096) == 102400
    assert gauges.resident("", 4096) is None
    assert gauges.uptime("12493.52 49000.11\n") == 12493.52
    assert gauges.uptime("") is None


@given(st.text(alphabet=st.characters(codec="utf-8")), st.text(), st.text())
def test_no_text_breaks_a_gauge(text: str, other: str, third: str) -> None:
    gauges.memory(text)
    gauges.uptime(text)
    gauges.resident(text, 4096)
    for directory, files in gauges.group_directories(text):
        assert ".." not in directory.split("/")
        assert 0 <= gauges.within_group(ALL, text, other, third, files).available <= ALL.total
    for gpu in gauges.gpus(text):
        assert gpu.busy is None or 0 <= gpu.busy <= 1


@given(
    st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.sampled_from([VERSION_1, VERSION_2])
)
def test_a_group_never_widens_the_memory(limit: int, usage: int, inactive: int, files: gauges.GroupFiles) -> None:
    left = gauges.within_group(ALL, str(limit), str(usage), f"{files.inactive} {inactive}\n", files)
    assert left.total <= ALL.total
    assert 0 <= left.available <= min(ALL.available, left.total)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_every_group_above_counts(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    write(proc, meminfo=MEMINFO, self__cgroup="0::/a/b\n")
    for directory, limit, usage in (("a/b", "max", "1000"), ("a", "6000000", "5000000"), ("", "", "")):
        (groups / directory).mkdir(parents=True, exist_ok=True)
        (groups / directory / "memory.max").write_text(limit)
        (groups / directory / "memory.current").write_text(usage)
    assert resources.read_memory(str(proc), str(groups)) == Memory(6000000, 1000000)
    assert resources.read_memory(str(proc), str(tmp_path / "none")) == ALL
    assert resources.read_memory(str(tmp_path / "none")) is None


def test_this_machine_tells() -> None:
    memory, disk = resources.read_memory(), resources.read_disk("/")
    assert memory and 0 < memory.available <= memory.total
    assert disk and disk.used + disk.available <= disk.total
    assert resources.read_disk("/no/such/directory") is None
    assert (resources.read_uptime() or 0) > 0
    assert (resources.read_resident(os.getpid()) or 0) > 1_000_000
    assert resources.read_resident(1 << 30) is None


def driver(directory: Path, script: str) -> Path:
    """A program in place of the driver's own that counts its calls."""
    directory.mkdir(exist_ok=True)
    path, calls = directory / "nvidia-smi", directory / "calls"
    path.write_text(f'#!/bin/sh\necho "$@" >>"{calls}"\n{script}\n')
    path.chmod(0o755)
    return calls


def test_however_many_ask_the_driver_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = driver(tmp_path / "bin", "sleep 0.2; echo '0, Tesla T4, 1, 15360, 5, 6'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    async def many() -> list[resources.Reading]:
        reader = resources.Resources(str(tmp_path))
        impatient = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        impatient.cancel()
        return [*await asyncio.gather(*(reader.read() for _ in range(20))), await reader.read()]

    readings = asyncio.run(many())
    assert {gpu.name for reading in readings for gpu in reading.gpus} == {"Tesla T4"}
    assert calls.read_text() == (
        "--query-gpu=index,name,memory.used,memory.total,utilization.gpu,utilization.memory"
        " --format=csv,noheader,nounits\n"
    )


def test_a_driver_that_hangs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = driver(tmp_path / "bin", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(resources, "GPU_SECONDS", 0.3)
    graphics = resources.Graphics()
    began = time.monotonic()
    assert graphics.read() == [] and graphics.read() == []
    assert time.monotonic() - began < 10
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "script", ["exit 9", "echo '0, Tesla T4, 1, 15360, 5, 6'; exit 1", "echo No devices were found"]
)
def test_a_driver_that_fails_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    driver(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert resources.Graphics().read() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resources.Graphics().read() == []
