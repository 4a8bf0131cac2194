"""What is kept of a whole disk: how many data clusters each window has, and which L2 tables are needed.

Neighbouring windows with the same number of data clusters are one entry, so a disk of 64 TiB that is empty, or full,
takes a few bytes. Prefix sums turn a window into a position and back.

    window           0    1    2    3    4    5    6
    data clusters    -    8    8    8    3    -    8
    runs                 (1,3,8)        (4,1,3)   (6,1,8)     first window, windows, clusters in each
    before               0              24        27          data clusters before the run
"""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bits", "Summary", "WindowRun"]

_BLOCK = 4096
_RUN_BYTES = 200


class WindowRun(NamedTuple):
    """`windows` windows from `first` on with `each` data clusters, `before` of them before the run."""

    first: int
    windows: int
    each: int
    before: int


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
    """Built window by window, in order; read only after that."""

    def __init__(self, l1_size: int) -> None:
        """Start with nothing."""
        self._runs: list[WindowRun] = []
        self._flags = np.zeros(l1_size, np.bool_)
        self.data_clusters = 0
        self._bits: Bits | None = None

    def add_data(self, window: int, clusters: int) -> None:
        """Say that `window`, above all before, has `clusters` data clusters."""
        if not clusters:
            return
        last = self._runs[-1] if self._runs else WindowRun(-1, 0, 0, 0)
        if last.each == clusters and last.first + last.windows == window:
            self._runs[-1] = last._replace(windows=last.windows + 1)
        else:
            self._runs.append(WindowRun(window, 1, clusters, self.data_clusters))
        self.data_clusters += clusters

    def need_l2(self, first: int, needed: NDArray[np.bool_]) -> None:
        """Say which of the L2 tables from index `first` on are needed, one flag each; what was needed stays so."""
        self._flags[first : first + len(needed)] |= needed

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return 1024 + self._flags.nbytes + _RUN_BYTES * len(self._runs)

    @property
    def l2_tables(self) -> Bits:
        """The L1 indices of the L2 tables that are needed."""
        if self._bits is None:
            self._bits = Bits(self._flags)
        return self._bits

    def data_before(self, window: int) -> int:
        """Return the data clusters of all windows below `window`."""
        at = bisect_right(self._runs, window, key=lambda run: run.first) - 1
        if at < 0:
            return 0
        run = self._runs[at]
        return run.before + min(window - run.first, run.windows) * run.each

    def find_data(self, index: int) -> tuple[int, int]:
        """Return the window that holds data cluster `index` of the output, and the data clusters before that window."""
        run = self._runs[bisect_right(self._runs, index, key=lambda run: run.before) - 1]
        windows = (index - run.before) // run.each
        return run.first + windows, run.before + windows * run.each
