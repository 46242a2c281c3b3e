"""What the cloud offers: zones, machine types, GPUs, images.  A small choice, in the words of the real one."""

from __future__ import annotations

from dataclasses import dataclass

PROJECT = "test-project"
PROJECT_NUMBER = "424242424242"

ZONES = ("us-central1-a", "us-central1-b", "us-central1-f", "us-west1-b", "europe-west4-a")


@dataclass(frozen=True)
class MachineType:
    """``accelerator`` is what comes with the machine: its type and how many."""

    cpus: int
    memory_mb: int
    accelerator: tuple[str, int] | None = None


MACHINE_TYPES = {
    "e2-micro": MachineType(2, 1024),
    "e2-medium": MachineType(2, 4096),
    "e2-standard-2": MachineType(2, 8192),
    "e2-standard-4": MachineType(4, 16384),
    "n1-standard-1": MachineType(1, 3840),
    "n1-standard-4": MachineType(4, 15360),
    "n1-standard-8": MachineType(8, 30720),
    "n2-standard-4": MachineType(4, 16384),
    "g2-standard-4": MachineType(4, 16384, ("nvidia-l4", 1)),
    "g2-standard-8": MachineType(8, 32768, ("nvidia-l4", 1)),
    "g2-standard-24": MachineType(24, 98304, ("nvidia-l4", 2)),
    "a2-highgpu-1g": MachineType(12, 87040, ("nvidia-tesla-a100", 1)),
    "a2-highgpu-2g": MachineType(24, 174080, ("nvidia-tesla-a100", 2)),
    "a2-ultragpu-1g": MachineType(12, 174080, ("nvidia-a100-80gb", 1)),
    "a3-highgpu-1g": MachineType(26, 239616, ("nvidia-h100-80gb", 1)),
    "a3-highgpu-8g": MachineType(208, 1916928, ("nvidia-h100-80gb", 8)),
}


def machine_type(name: str) -> MachineType | None:
    """The one of that name; nobody lists those that are made to measure."""
    if name.startswith("custom-") or "-custom-" in name:
        return MachineType(4, 16384)
    return MACHINE_TYPES.get(name)


ACCELERATORS = {
    "nvidia-tesla-t4": 4,
    "nvidia-tesla-v100": 8,
    "nvidia-tesla-p100": 4,
    "nvidia-l4": 8,
    "nvidia-tesla-a100": 16,
    "nvidia-a100-80gb": 8,
    "nvidia-h100-80gb": 8,
}
"""GPU types, and how many of them one machine may have."""

DISK_TYPES = ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced")


@dataclass(frozen=True)
class Image:
    project: str
    name: str
    family: str
    created: str
    disk_gb: int = 10
    deprecated: str = ""


IMAGES = (
    Image("debian-cloud", "debian-11-bullseye-v20261007", "debian-11", "2026-10-07"),
    Image("debian-cloud", "debian-12-bookworm-v20261007", "debian-12", "2026-10-07", deprecated="DEPRECATED"),
    Image("debian-cloud", "debian-12-bookworm-v20261111", "debian-12", "2026-11-11"),
    Image("ubuntu-os-cloud", "ubuntu-2404-noble-amd64-v20261105", "ubuntu-2404-lts-amd64", "2026-11-05"),
    *(
        Image("deeplearning-platform-release", f"{family}-v{date.replace('-', '')}", family, date, 50, deprecated)
        for family, date, deprecated in (
            ("common-cpu", "2025-02-17", ""),
            ("common-cu124-ubuntu-2204-nvidia-550", "2026-05-12", "DEPRECATED"),
            ("common-cu128-ubuntu-2204-nvidia-570", "2026-09-30", ""),
            ("common-cu128-ubuntu-2204-nvidia-570", "2026-11-04", ""),
            ("common-cu129-ubuntu-2204-nvidia-580", "2026-11-04", ""),
            ("common-cu129-ubuntu-2404-nvidia-580", "2026-10-21", ""),
            ("pytorch-2-7-cu128-ubuntu-2204-nvidia-570", "2026-11-04", ""),
        )
    ),
)


def region_of(zone: str) -> str:
    """ "us-central1-a" is in "us-central1"."""
    return zone.rpartition("-")[0]


def newest(project: str, family: str) -> Image | None:
    """The image that a family stands for: the newest that is not deprecated."""
    images = [i for i in IMAGES if i.project == project and i.family == family and not i.deprecated]
    return max(images, key=lambda image: image.created, default=None)
