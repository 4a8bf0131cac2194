"""Half-open ranges of integers: int64, shape (n, 2)."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["union"]


def union(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return overlapping and touching ranges as one each, sorted, without the empty ones: int64, shape (n, 2)."""
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    if len(ranges) < 2:
        return ranges
    ranges = ranges[ranges[:, 0].argsort(kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    first = np.flatnonzero(np.append(True, ranges[1:, 0] > reach[:-1]))
    last = np.append(first[1:], len(ranges)) - 1
    return np.stack([ranges[first, 0], reach[last]], 1)
