"""Where the values of a search's parameters are on the axes of its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Positions of the values of a dimension in 0..1; numbers by value or its logarithm, others in their order."""

    name: str
    low: float
    high: float
    log: bool
    options: tuple[str, ...] = ()

    def at(self, value: str) -> float:
        """The position of a value."""
        if self.options:
            return self.options.index(value) / max(len(self.options) - 1, 1)
        return (self._of(float(value)) - self._of(self.low)) / (self._of(self.high) - self._of(self.low))

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and labels."""
        if self.options:
            return [self.at(option) for option in self.options], list(self.options)
        places = [0.0, 0.25, 0.5, 0.75, 1.0]
        ends = self._of(self.low), self._of(self.high)
        values = [ends[0] + place * (ends[1] - ends[0]) for place in places]
        return places, [f"{10**value if self.log else value:.3g}" for value in values]

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value


def scales(space: Mapping[str, str]) -> dict[str, Scale]:
    """A scale for each dimension that has more than one value.

    Args:
        space: the range of each dimension, in the notation after the ``=``.
    """
    found = {}
    for name, inside in space.items():
        if ":" not in inside:
            options = tuple(inside.split("|"))
            if len(options) > 1:
                found[name] = Scale(name, 0, 1, False, options)
            continue
        low, high, *log = inside.split(":")
        found[name] = Scale(name, float(low), float(high), bool(log))
    return found
