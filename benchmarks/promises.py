"""What a figure has to reach.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Promise:
    """A bound for one measured value of ours: as such, or as its ratio to the value of ``against``."""

    measured: str
    at_least: float | None = None
    at_most: float | None = None
    against: str = ""

    def judge(self, ours: Mapping[str, float], theirs: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        """The promise with the ``value`` that it is about, and whether it is ``reached``.

        Both are None where it was not measured, or the other contender was not.
        """
        value = ours.get(self.measured)
        if value is not None and self.against:
            reference = theirs.get(self.against, {}).get(self.measured)
            value = value / reference if reference else None
        return {**asdict(self), "value": None if value is None else round(value, 3), "reached": self._holds(value)}

    def _holds(self, value: float | None) -> bool | None:
        if value is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)
