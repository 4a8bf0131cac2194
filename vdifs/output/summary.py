"""What is kept of a whole disk: how many data clusters each window has, and which L2 tables are needed.

Neighbouring windows with the same number of data clusters are one entry, so a disk of 64 TiB that is empty, or full,
takes a few bytes. Prefix sums turn a window into a position and back.

    window           0    1    2    3    4    5    6
    data clusters    -    8    8    8    3    -    8
    runs                 (1,3,8)        (4,1,3)   (6,1,8)     first window, windows, clusters in each
    before               0              24        27          data clusters before the run
"""

from array import array
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from vdifs.output.windows import Windows

__all__ = ["Bits", "Summary"]

_BLOCK = 4096


class Bits:
    """A set of indices below `size`, with rank and select: the L1 entries in use."""

    def __init__(self, flags: NDArray[np.bool_]) -> None:
        """Take over `flags`: bool, one for each index."""
        self._flags = flags
        counts = [int(np.count_nonzero(flags[at : at + _BLOCK])) for at in range(0, len(flags), _BLOCK)]
        self._before = np.cumsum([0, *counts], dtype=np.int64)

    @property
    def count(self) -> int:
        """How many are in the set."""
        return int(self._before[-1])

    def rank(self, index: int) -> int:
        """Return how many members are below `index`."""
        block = index // _BLOCK
        return int(self._before[block] + np.count_nonzero(self._flags[block * _BLOCK : index]))

    def select(self, rank: int) -> int:
        """Return the member that has `rank` members below it."""
        block = int(self._before.searchsorted(rank, "right")) - 1
        members = np.flatnonzero(self._flags[block * _BLOCK : (block + 1) * _BLOCK])
        return block * _BLOCK + int(members[rank - int(self._before[block])])

    def between(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return the flags of [first, last): bool."""
        return self._flags[first:last]


class Summary:
    """Built from the windows in order, `finish`ed, and read only after that."""

    def __init__(self, l1_size: int) -> None:
        """Start with nothing."""
        self._added: list[NDArray[np.int64]] = []
        self._flags = np.zeros(l1_size, np.bool_)
        self.finish(Windows(1, 0))

    def add_data(self, runs: NDArray[np.int64]) -> None:
        """Say how many data clusters windows have that are above all before.

        runs: int64, shape (n, 3): the first of neighbouring windows, how many they are, and the data clusters of each.
        """
        self._added.append(_merged(runs[(runs[:, 1] > 0) & (runs[:, 2] > 0)]))

    def need_l2(self, ranges: NDArray[np.int64]) -> None:
        """Say which L2 tables are needed: ranges of indices, int64, shape (n, 2), sorted, apart; those stay so."""
        if not len(ranges):
            return
        low, high = int(ranges[0, 0]), int(ranges[-1, 1])
        turns = np.zeros(high - low + 1, np.int8)
        turns[ranges[:, 0] - low] = 1
        turns[ranges[:, 1] - low] -= 1
        self._flags[low:high] |= turns[:-1].cumsum(dtype=np.int8).view(np.bool_)

    def finish(self, windows: Windows) -> None:
        """Count what was added of `windows`."""
        self.windows = windows
        runs = _merged(np.concatenate([np.empty((0, 3), np.int64), *self._added]))
        self._added.clear()
        clusters = runs[:, 1] * runs[:, 2]
        ends = np.cumsum(clusters)
        self._first, self._windows, self._each = (_plain(column) for column in runs.T)
        self._before = _plain(ends - clusters)
        self.data_clusters = int(clusters.sum())
        self.l2_tables = Bits(self._flags)
        """The L1 indices of the L2 tables that are needed."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return 1024 + self._flags.nbytes + 32 * len(self._first) + self.windows.nbytes

    def data_before(self, window: int) -> int:
        """Return the data clusters of all windows below `window`."""
        at = bisect_right(self._first, window) - 1
        if at < 0:
            return 0
        windows = min(window - self._first[at], self._windows[at])
        return self._before[at] + windows * self._each[at]

    def find_data(self, index: int) -> tuple[int, int]:
        """Return the window that holds data cluster `index` of the output, and the data clusters before that window."""
        at = bisect_right(self._before, index) - 1
        before, each = self._before[at], self._each[at]
        windows = (index - before) // each
        return self._first[at] + windows, before + windows * each


def _plain(values: NDArray[np.int64]) -> "array[int]":
    """Return them as what gives an integer in less time than numpy does."""
    return array("q", values.tobytes())


def _merged(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return neighbouring runs of windows that have as many data clusters as one run."""
    if len(runs) < 2:
        return runs
    before, after = runs[:-1], runs[1:]
    new = np.append(True, (before[:, 2] != after[:, 2]) | (before[:, 0] + before[:, 1] != after[:, 0]))
    first = np.flatnonzero(new)
    return np.stack([runs[first, 0], np.add.reduceat(runs[:, 1], first), runs[first, 2]], 1)
