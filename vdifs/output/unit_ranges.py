"""Ranges of units of a disk, by their indices: int64, shape (n, 2), sorted, apart.

A run costs the same however many units it touches: a disk of 64 TiB of zeros is one range.

    runs     |-----|      |--||-------|
    units  |    |xxxx|xxxx|    |xxxx|xxxx|xxxx|    |
    ranges      [0        2)   [3              6)
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranges", "coarser", "intersection", "touched"]

Ranges = NDArray[np.int64]


def touched(starts: NDArray[np.int64], stops: NDArray[np.int64], unit_bits: int) -> Ranges:
    """Return the units that byte ranges touch, which must be sorted and apart, and not empty."""
    return _joined(starts >> unit_bits, (stops - 1 >> unit_bits) + 1)


def coarser(ranges: Ranges, bits: int) -> Ranges:
    """Return the units of 2**bits units that `ranges` touch."""
    return touched(ranges[:, 0], ranges[:, 1], bits)


def intersection(one: Ranges, other: Ranges) -> Ranges:
    """Return what both have in common."""
    first = other[:, 1].searchsorted(one[:, 0], "right")
    count = other[:, 0].searchsorted(one[:, 1], "left") - first
    mine = np.arange(len(one)).repeat(count)
    theirs = np.arange(len(mine)) + (first - (count.cumsum() - count)).repeat(count)
    return np.stack([np.maximum(one[mine, 0], other[theirs, 0]), np.minimum(one[mine, 1], other[theirs, 1])], 1)


def _joined(first: NDArray[np.int64], last: NDArray[np.int64]) -> Ranges:
    """Return ranges, of which both ends are sorted, with those joined that touch or overlap."""
    apart = first[1:] > last[:-1]
    return np.stack([first[np.append(True, apart)[: len(first)]], last[np.append(apart, True)[: len(last)]]], 1)
