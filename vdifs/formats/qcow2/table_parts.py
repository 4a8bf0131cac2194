"""Parts of the L2 tables of one file, wherever they lie: read and decoded together, and spread over the disk again.

A disk may have hundreds of thousands of tables far apart, of a few entries each; one by one they would take minutes.

    disk       |....[part 0]......[part 1][part 2].............[part 3].|      `first` and `last`, in guest clusters
    entries    |[part 0][part 1][part 2][part 3]|
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import between, led_by, then
from vdifs.extents import NO_FILE, Extents, Kind

__all__ = ["TableParts"]


@dataclass(frozen=True, slots=True, eq=False)
class TableParts:
    """Parallel int64 arrays, in guest order, apart.

    first, last: the guest clusters [first, last) that a part maps. host: the host offset of its first entry.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    host: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 3 * self.host.nbytes

    @property
    def clusters(self) -> int:
        """How many clusters they map together."""
        return int((self.last - self.first).sum())

    def guest_ranges(self) -> NDArray[np.int64]:
        """Return which clusters they map, neighbours joined: int64, shape (n, 2)."""
        return between(self.first, self.last, self.first[1:] != self.last[:-1])

    def within(self, first: int, last: int, entry_size: int) -> "TableParts":
        """Return what they have of the clusters [first, last)."""
        low, high = int(self.last.searchsorted(first, "right")), int(self.first.searchsorted(last, "left"))
        starts, stops, host = self.first[low:high], self.last[low:high], self.host[low:high]
        if len(starts) and (starts[0] < first or stops[-1] > last):
            clipped = np.maximum(starts, first)
            host = host + (clipped - starts) * entry_size
            starts, stops = clipped, np.minimum(stops, last)
        return TableParts(starts, stops, host)

    def batches(self, clusters: int) -> Iterator["TableParts"]:
        """Yield them in batches of about so many clusters, at least one part each."""
        before = np.cumsum(self.last - self.first)
        at = 0
        while at < len(before):
            done = int(before[at - 1]) if at else 0
            stop = max(at + 1, int(before.searchsorted(done + clusters, "right")))
            yield self._slice(at, stop)
            at = stop

    def neighbours(self) -> Iterator["TableParts"]:
        """Yield those that map neighbouring clusters together, the others apart."""
        breaks = np.flatnonzero(self.first[1:] != self.last[:-1]) + 1
        edges = [0, *breaks.tolist(), len(self.first)]
        for at, stop in pairwise(edges):
            yield self._slice(at, stop)

    def places(self, entry_size: int, file_size: int) -> Iterator[tuple[int, int]]:
        """Yield the host offset and the number of entries of each, neighbours in the file joined."""
        if len(self.host) == 1:
            yield int(self.host[0]), int(self.last[0] - self.first[0])
            return
        length = (self.last - self.first) * entry_size
        end = self.host + length
        joined = (self.host[1:] == end[:-1]) & (end[1:] <= file_size)
        first = np.flatnonzero(led_by(True, ~joined))
        last = then(first[1:], len(self.host)) - 1
        yield from zip(self.host[first].tolist(), ((end[last] - self.host[first]) // entry_size).tolist(), strict=True)

    def spread(self, extents: Extents, cluster_bits: int) -> Extents:
        """Return `extents`, of all parts in a row from 0 on, where they belong on the disk; between them is nothing."""
        first, last = self.first << cluster_bits, self.last << cluster_bits
        gaps = np.flatnonzero(first[1:] != last[:-1])
        end = int(last[-1])
        if not len(gaps):
            return Extents(extents.start + first[0], extents.kind, extents.file, extents.host, end)
        cuts = np.cumsum(last - first)[gaps]
        extents = extents.cut(cuts)
        moved = led_by(int(first[0]), first[gaps + 1] - cuts)
        start = extents.start + moved[cuts.searchsorted(extents.start, "right")]
        start = np.concatenate([start, last[gaps]])
        order = start.argsort(kind="stable")
        kind = np.append(extents.kind, np.full(len(gaps), Kind.UNALLOCATED, np.uint8))[order]
        file = np.append(extents.file, np.full(len(gaps), NO_FILE, np.int16))[order]
        host = np.append(extents.host, np.zeros(len(gaps), np.int64))[order]
        return Extents(start[order], kind, file, host, end).merged()

    def _slice(self, at: int, stop: int) -> "TableParts":
        return TableParts(self.first[at:stop], self.last[at:stop], self.host[at:stop])
