"""Half-open ranges of integers, as one value: sorted, none empty, none touching the next.

ranges      |=======|      |===|   |==========|
edges      start   stop  start stop          stop      in turns: an index among them tells inside from outside
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import between, columns

__all__ = ["Ranges"]


_MOST = (1 << 63) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """edges: int64, strictly increasing, of an even count: where each range starts and where it stops, in turns."""

    edges: NDArray[np.int64]

    @classmethod
    def of(cls, rows: "NDArray[np.int64] | Iterable[tuple[int, int]]") -> "Ranges":
        """Return ranges that are in order already: shape (n, 2), sorted, none empty, none touching the next."""
        array = rows if isinstance(rows, np.ndarray) else np.array(list(rows), np.int64)
        return cls(array.reshape(-1))

    @classmethod
    def union(cls, rows: NDArray[np.int64]) -> "Ranges":
        """Return what any of the ranges holds: shape (n, 2), in any order; empty ones hold nothing."""
        rows = rows[rows[:, 0] < rows[:, 1]]
        if len(rows) < 2:
            return cls(rows.reshape(-1))
        rows = rows[rows[:, 0].argsort(kind="stable")]
        reach = np.maximum.accumulate(rows[:, 1])
        apart = rows[1:, 0] > reach[:-1]
        return cls(between(rows[:, 0], reach, apart).reshape(-1))

    @classmethod
    def touching_units(cls, starts: NDArray[np.int64], stops: NDArray[np.int64], bits: int) -> "Ranges":
        """Return the units of 2**bits that ranges touch, which must be sorted and apart, and not empty.

        However long a range is, it costs the same: a disk of 64 TiB of zeros is one.

            ranges   |-----|      |--||-------|
            units  |    |xxxx|xxxx|    |xxxx|xxxx|xxxx|    |
            result      [0        2)   [3              6)
        """
        first, last = starts >> bits, (stops - 1 >> bits) + 1
        return cls(between(first, last, first[1:] > last[:-1]).reshape(-1))

    @property
    def rows(self) -> NDArray[np.int64]:
        """One row for each range: int64, shape (n, 2)."""
        rows: NDArray[np.int64] = self.edges.reshape(-1, 2)
        return rows

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each starts."""
        return self.edges[0::2]

    @property
    def stops(self) -> NDArray[np.int64]:
        """Where each stops."""
        return self.edges[1::2]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.edges.nbytes

    def __len__(self) -> int:
        return len(self.edges) // 2

    def contains(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each value whether it lies in a range: bool."""
        inside: NDArray[np.bool_] = self.edges.searchsorted(values, "right") % 2 == 1
        return inside

    def is_apart_from(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each of other ranges, none of them empty, whether it lies wholly outside: bool."""
        before = self.edges.searchsorted(starts, "right")
        apart: NDArray[np.bool_] = (before % 2 == 0) & (before == self.edges.searchsorted(stops, "left"))
        return apart

    def first_within(self, start: int, stop: int) -> int | None:
        """Return the lowest value of [start, stop), not empty, that lies in a range, None if none does."""
        at = int(self.edges.searchsorted(start, "right"))
        if at % 2:
            return start
        return int(self.edges[at]) if at < len(self.edges) and self.edges[at] < stop else None

    def first_outside(self, value: int) -> int:
        """Return the lowest number from `value` on that lies in no range."""
        at = int(self.edges.searchsorted(value, "right"))
        return int(self.edges[at]) if at % 2 else value

    def clip(self, low: int, high: int) -> "Ranges":
        """Return what lies in [low, high), which may lie beyond all that 64 bits hold: an image claims any place."""
        low, high = min(low, _MOST), min(high, _MOST)
        rows = self.rows[self.stops.searchsorted(low, "right") : self.starts.searchsorted(high, "left")]
        return Ranges(np.clip(rows, low, high).reshape(-1))

    def minus(self, other: "Ranges") -> "Ranges":
        """Return what lies in these and not in the others."""
        edges = other.edges
        if not len(edges) or not len(self):
            return self
        gaps = np.concatenate([[min(self.edges[0], edges[0])], edges, [max(self.edges[-1], edges[-1])]])
        rows = gaps.reshape(-1, 2)
        return self.intersection(Ranges.of(rows[rows[:, 0] < rows[:, 1]]))

    def intersection(self, other: "Ranges") -> "Ranges":
        """Return what lies in both."""
        first = other.stops.searchsorted(self.starts, "right")
        count = other.starts.searchsorted(self.stops, "left") - first
        mine = np.arange(len(self)).repeat(count)
        theirs = np.arange(len(mine)) + (first - (count.cumsum() - count)).repeat(count)
        starts = np.maximum(self.starts[mine], other.starts[theirs])
        return Ranges(columns(starts, np.minimum(self.stops[mine], other.stops[theirs])).reshape(-1))

    def coarser(self, bits: int) -> "Ranges":
        """Return the units of 2**bits that they touch; see touching_units."""
        return Ranges.touching_units(self.starts, self.stops, bits)

    def finer(self, bits: int) -> "Ranges":
        """Return the same ranges, counted in units 2**bits times as small."""
        return Ranges(self.edges << bits)
