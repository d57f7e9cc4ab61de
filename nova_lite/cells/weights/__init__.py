"""Which cell is the best of those that may build an instance."""

import sys
from typing import Any

from nova_lite.cells import plugins


class BaseCellWeigher:
    """One opinion about cells: the higher the raw weight, the better; `multiplier` says how much it counts."""

    def __init__(self, conf):
        self.conf = conf

    @property
    def multiplier(self) -> float:
        return 1.0

    def raw_weight(self, cell, weight_properties: dict[str, Any]) -> float:
        raise NotImplementedError


def all_weighers() -> list[type[BaseCellWeigher]]:
    """Return every weigher class of this package."""
    return plugins.classes_in(sys.modules[__name__], BaseCellWeigher)


def weigh(cells: list, weighers: list[BaseCellWeigher], weight_properties: dict[str, Any]) -> list[tuple[float, Any]]:
    """Return [(weight, cell)], the best first; equal ones keep their order.

    Each weigher's raw weights are spread over 0…1 between the least and the greatest of this request, multiplied
    and added up. A single cell needs no weighing: 0.0.
    """
    if len(cells) < 2:
        return [(0.0, cell) for cell in cells]
    sums = [0.0] * len(cells)
    for weigher in weighers:
        raw = [weigher.raw_weight(cell, weight_properties) for cell in cells]
        for index, share in enumerate(_normalized(raw)):
            sums[index] += share * weigher.multiplier
    return sorted(zip(sums, cells, strict=True), key=lambda pair: pair[0], reverse=True)


def _normalized(raw: list[float]) -> list[float]:
    low, high = min(raw), max(raw)
    if low == high:
        return [0.0] * len(raw)
    return [(value - low) / (high - low) for value in raw]
