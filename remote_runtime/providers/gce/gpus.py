"""GPUs of VMs: some are attached to an N1, the others come with a machine type.  Pure.

The machine types and what they bring are as https://cloud.google.com/compute/docs/gpus lists them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from remote_runtime.errors import UsageError

DEFAULT_MACHINE_TYPE = "n1-standard-8"
"""What GPUs are attached to, unless a machine type was named."""

NAMES = {
    "t4": "nvidia-tesla-t4",
    "v100": "nvidia-tesla-v100",
    "p100": "nvidia-tesla-p100",
    "p4": "nvidia-tesla-p4",
    "l4": "nvidia-l4",
    "a100": "nvidia-tesla-a100",
    "a100-80gb": "nvidia-a100-80gb",
    "h100": "nvidia-h100-80gb",
    "h100-mega": "nvidia-h100-mega-80gb",
    "h200": "nvidia-h200-141gb",
    "b200": "nvidia-b200",
    "rtx-pro-6000": "nvidia-rtx-pro-6000",
}
"""Short names for what the API calls by long ones."""

BRINGING = {
    "nvidia-l4": {1: "g2-standard-4", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    "nvidia-tesla-a100": {
        1: "a2-highgpu-1g",
        2: "a2-highgpu-2g",
        4: "a2-highgpu-4g",
        8: "a2-highgpu-8g",
        16: "a2-megagpu-16g",
    },
    "nvidia-a100-80gb": {1: "a2-ultragpu-1g", 2: "a2-ultragpu-2g", 4: "a2-ultragpu-4g", 8: "a2-ultragpu-8g"},
    "nvidia-h100-80gb": {1: "a3-highgpu-1g", 2: "a3-highgpu-2g", 4: "a3-highgpu-4g", 8: "a3-highgpu-8g"},
    "nvidia-h100-mega-80gb": {8: "a3-megagpu-8g"},
    "nvidia-h200-141gb": {8: "a3-ultragpu-8g"},
    "nvidia-b200": {8: "a4-highgpu-8g"},
    "nvidia-rtx-pro-6000": {1: "g4-standard-48", 2: "g4-standard-96", 4: "g4-standard-192", 8: "g4-standard-384"},
}
"""GPUs that come with a machine type: the smallest one by their number."""

_LARGER = dict.fromkeys(("g2-standard-8", "g2-standard-12", "g2-standard-16", "g2-standard-32"), ("nvidia-l4", 1))
_BROUGHT = {type_: (kind, count) for kind, types in BRINGING.items() for count, type_ in types.items()} | _LARGER

_FAMILIES = ("g2-", "g4-", "a2-", "a3-", "a4-", "a4x-")
_ATTACHES = ("n1-", "custom-")
_ATTACHED = "nvidia-tesla-"
_KIND = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Gpu:
    """Accelerators: ``kind`` as the API names it, or one of the short names."""

    kind: str
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Gpu:
        """Read ``TYPE`` or ``TYPE:N``.

        Raises :class:`ValueError`.
        """
        kind, colon, count = text.partition(":")
        if not _KIND.fullmatch(kind) or (colon and not re.fullmatch(r"[1-9][0-9]?", count)):
            raise ValueError("not a GPU such as l4, t4:2 or nvidia-tesla-t4:2")
        return cls(NAMES.get(kind, kind), int(count) if colon else 1)

    def __str__(self) -> str:
        return f"{self.count} x {self.kind}"


def machine_type_for(gpu: Gpu, named: str | None) -> str:
    """The machine type of a VM with that ``gpu``: the one that was ``named``, else one that suits.

    A type that we don't know may be named for any GPU that is not attached: then Google judges.
    Raises :class:`UsageError` with code ``bad_spec`` for a GPU that this type can't have, or has in another number.
    """
    usual = BRINGING.get(gpu.kind)
    if usual is None and gpu.kind.startswith(_ATTACHED):
        if named and not attaches(named):
            raise _bad(
                f"{gpu.kind} can't be attached to a {named}",
                f"Leave the machine type out, or take an N1 such as {DEFAULT_MACHINE_TYPE}.",
            )
        return named or DEFAULT_MACHINE_TYPE
    if usual and not named and gpu.count not in usual:
        raise _bad(f"There is no VM with {gpu}", f"Take one of: {', '.join(map(str, usual))}.")
    if not named:
        if usual is None:
            raise _bad(f"It is not known which machine type has a {gpu.kind}", "Name one with --machine-type.")
        return usual[gpu.count]
    _check_brought(gpu, named)
    return named


def _check_brought(gpu: Gpu, named: str) -> None:
    usual = BRINGING.get(gpu.kind, {})
    brought = _BROUGHT.get(named)
    families = {type_.partition("-")[0] for type_ in usual.values()}
    if brought == (gpu.kind, gpu.count) or (not brought and (not families or named.partition("-")[0] in families)):
        return
    if brought and brought[0] == gpu.kind:
        raise _bad(f"A {named} has {Gpu(*brought)}, not {gpu.count}", "Leave --gpu or --machine-type out.")
    example = usual.get(gpu.count) or next(iter(usual.values()), "")
    hint = f"It comes with machine types such as {example}: leave one of both out." if example else "Leave --gpu out."
    raise _bad(f"A {named} has no {gpu.kind}", hint)


def attaches(machine_type: str) -> bool:
    """Whether GPUs are attached to VMs of that type, by a field of their own in the request."""
    return machine_type.startswith(_ATTACHES)


def brings(machine_type: str) -> bool:
    """Whether VMs of that type have GPUs that nobody asks for."""
    return machine_type.startswith(_FAMILIES)


def _bad(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code="bad_spec")
