"""Which image a new VM boots.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from remote_runtime.providers.gce.spec import GceSpec, has_gpu

STOCK_PROJECT, STOCK_FAMILY = "debian-cloud", "debian-12"
GPU_PROJECT = "deeplearning-platform-release"

PROJECTS = {
    "debian": "debian-cloud",
    "ubuntu": "ubuntu-os-cloud",
    "common": GPU_PROJECT,
    "pytorch": GPU_PROJECT,
    "tf": GPU_PROJECT,
    "rocky": "rocky-linux-cloud",
    "rhel": "rhel-cloud",
    "cos": "cos-cloud",
}
"""Where the public families are, by the first word of their names."""

_GPU_FAMILY = re.compile(r"common-cu(?P<cuda>[0-9]+)-ubuntu-(?P<ubuntu>[0-9]+)-nvidia-(?P<driver>[0-9]+)")


GPU_FILTER = 'family eq "common-cu[0-9]+-ubuntu-[0-9]+-nvidia-[0-9]+"'
"""The same for the API, which would otherwise list years of images; an expression of this kind can ask nothing else."""


@dataclass(frozen=True)
class Wanted:
    """How to find the image: its own name, a ``family`` (``""``: the newest one for GPUs), and the project of it."""

    project: str
    family: str = ""
    image: str = ""


def wanted(spec: GceSpec, project: str) -> Wanted:
    """What to look for; ``project`` is ours, where images of one's own are."""
    if spec.image:
        if "/" in spec.image:  # a whole path
            return Wanted("", image=spec.image[max(0, spec.image.find("projects/")) :])
        return Wanted(spec.image_project or project, image=spec.image)
    if spec.image_family:
        public = PROJECTS.get(re.split(r"[-0-9]", spec.image_family)[0], project)
        return Wanted(spec.image_project or public, family=spec.image_family)
    return Wanted(GPU_PROJECT) if has_gpu(spec) else Wanted(STOCK_PROJECT, STOCK_FAMILY)


def newest_for_gpus(images: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The image with the newest CUDA, Ubuntu and driver that has nothing but these; None if there is none.

    Images that are obsolete or deprecated don't count.
    """
    best: tuple[tuple[int, int, int, str], Mapping[str, Any]] | None = None
    for image in images:
        family = _GPU_FAMILY.fullmatch(str(image.get("family", "")))
        if not family or image.get("deprecated", {}).get("state", "ACTIVE") != "ACTIVE":
            continue
        age = (_cuda(family["cuda"]), int(family["ubuntu"]), int(family["driver"]), image.get("creationTimestamp", ""))
        if best is None or age > best[0]:
            best = age, image
    return best[1] if best else None


def path(image: Mapping[str, Any], project: str) -> str:
    """The path by which a request names it."""
    return f"projects/{project}/global/images/{image['name']}"


def _cuda(digits: str) -> int:
    """``128`` for 12.8 and for 128 alike: two digits of it are the major version."""
    return int(digits.ljust(3, "0"))
