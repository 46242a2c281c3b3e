"""Which wheels of the lock a machine's Python can use, decided from what the machine says about itself.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

# The first glibc for which a manylinux tag exists, and what the older tags were called.
OLDEST_GLIBC = {"x86_64": 5}
OTHER_OLDEST_GLIBC = 17
MANYLINUX_ALIASES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Locked:
    """One line of the lock: a release, the machines that it is for (None: all), and the sha256 of its wheels."""

    name: str
    version: str
    marker: Marker | None
    hashes: frozenset[str]


def parse_lock(text: str) -> list[Locked]:
    """The entries of a requirements file with hashes, where each entry may span lines that end in a backslash.

    Raises :class:`ValueError` on anything else than pinned releases with sha256 hashes.
    """
    return [_parse_entry(line) for line in _logical_lines(text)]


def applies(entry: Locked, target: Mapping[str, Any]) -> bool:
    """Whether the Python described by ``target`` needs this entry."""
    return entry.marker is None or entry.marker.evaluate(marker_environment(target))


# What the machine says of itself is data, and its numbers would be counted through.
_SHAPES = {
    "implementation": r"[a-z]{1,20}",
    "python": r"3\.\d{1,2}\.\d{1,3}[a-z0-9.+]{0,20}",
    "abi": r"[a-z0-9_]{1,20}",
    "system": r"[A-Za-z]{1,20}",
    "machine": r"[A-Za-z0-9_]{1,20}",
    "libc": r"[a-z]{0,10}",
    "libc_version": r"(\d{1,2}\.\d{1,2}(\.\d{1,4})?)?",
    "macos": r"(\d{1,2}(\.\d{1,3}){0,3})?",
}


def check_target(target: Mapping[str, Any]) -> None:
    """Raise :class:`ValueError` if ``target`` is not what a machine's Python would say of itself."""
    for name, shape in _SHAPES.items():
        value = target.get(name)
        if not isinstance(value, str) or not re.fullmatch(shape, value):
            raise ValueError(f"its {name} makes no sense")


def marker_environment(target: Mapping[str, Any]) -> dict[str, str]:
    """The values that environment markers see on the machine described by ``target``."""
    version = str(target["python"])
    return {
        "implementation_name": str(target["implementation"]),
        "implementation_version": version,
        "os_name": "posix",
        "platform_machine": str(target["machine"]),
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(target["implementation"], ""),
        "platform_release": "",
        "platform_system": str(target["system"]),
        "platform_version": "",
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": str(target["system"]).lower(),
    }


def tags_of(target: Mapping[str, Any]) -> dict[Tag, int]:
    """The wheel tags that ``target``'s Python accepts, each with its rank: 0 is the best."""
    major, minor = (int(part) for part in str(target["python"]).split(".")[:2])
    version = (major, minor)
    platforms = platforms_of(target)
    tags: list[Tag] = []
    interpreter = None
    if target["implementation"] == "cpython":
        interpreter = f"cp{major}{minor}"
        tags += cpython_tags(version, [str(target["abi"])], platforms)
    tags += compatible_tags(version, interpreter, platforms)
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def platforms_of(target: Mapping[str, Any]) -> list[str]:
    """The platform tags that ``target`` accepts, best first.

    Raises :class:`ValueError` on a system that is neither Linux nor macOS.
    """
    machine = str(target["machine"])
    if target["system"] == "Darwin":
        return list(mac_platforms(_pair(target["macos"]), machine))
    if target["system"] != "Linux":
        raise ValueError(f"no wheels are known for {target['system']}")
    major, minor = _pair(target["libc_version"])
    if target["libc"] == "musl":
        found = [f"musllinux_{major}_{level}_{machine}" for level in range(minor, -1, -1)]
    else:
        found = []
        for level in range(minor, OLDEST_GLIBC.get(machine, OTHER_OLDEST_GLIBC) - 1, -1):
            found.append(f"manylinux_2_{level}_{machine}")
            if level in MANYLINUX_ALIASES:
                found.append(f"{MANYLINUX_ALIASES[level]}_{machine}")
    return [*found, f"linux_{machine}"]


def best(filenames: Iterable[str], entry: Locked, tags: Mapping[Tag, int]) -> str | None:
    """The wheel of ``entry``'s release among ``filenames`` that suits ``tags`` best, None if none does."""
    ranked = []
    for filename in filenames:
        try:
            name, version, build, wheel_tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            continue
        ranks = [tags[tag] for tag in wheel_tags if tag in tags]
        if ranks and name == canonicalize_name(entry.name) and version == Version(entry.version):
            ranked.append((min(ranks), tuple(-number for number in build[:1] if isinstance(number, int)), filename))
    return min(ranked)[2] if ranked else None


def _logical_lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        entry = line.partition(" #")[0].strip()
        if entry and not entry.startswith("#"):
            yield entry


def _parse_entry(line: str) -> Locked:
    words = line.split()
    options: Sequence[str] = [word for word in words if word.startswith("--")]
    requirement = Requirement(" ".join(word for word in words if not word.startswith("--")))
    pins = list(requirement.specifier)
    if len(pins) != 1 or pins[0].operator != "==" or not options:
        raise ValueError(f"{requirement.name} is not locked to one release with hashes")
    hashes = frozenset(option.removeprefix("--hash=sha256:") for option in options)
    if any(len(value) != 64 for value in hashes):
        raise ValueError(f"{requirement.name}: an option of the lock is not a sha256")
    return Locked(canonicalize_name(requirement.name), pins[0].version, requirement.marker, hashes)


def _pair(version: object) -> tuple[int, int]:
    parts = [int(part) for part in str(version).split(".")[:2]]
    return parts[0], parts[1] if len(parts) > 1 else 0
