"""Parts of the lower tables of one file, wherever they lie: read and decoded together, and spread over the disk again.

A disk may have hundreds of thousands of tables far apart, of a few entries each; one by one they would take minutes.

    disk       |....[part 0]......[part 1][part 2].............[part 3].|      `first` and `last`, in guest clusters
    entries    |[part 0][part 1][part 2][part 3]|

Clusters are what an entry stands for: those of a qcow2, with L2 tables, or the grains of a VMDK, with grain tables.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.arrays import between, columns, led_by, then
from vdifs.extents import NO_FILE, Extents, Kind
from vdifs.ranges import Ranges

__all__ = ["TableParts", "TableShape", "fill_gaps"]


class TableShape(NamedTuple):
    """How many entries a table has, of how many bytes each, and how many clusters all tables map together."""

    entries: int
    entry_size: int
    clusters: int


@dataclass(frozen=True, slots=True, eq=False)
class TableParts:
    """Parallel int64 arrays, in guest order, apart.

    first, last: the guest clusters [first, last) that a part maps. host: the host offset of its first entry.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    host: NDArray[np.int64]

    @classmethod
    def written(
        cls, index: NDArray[np.int64], offsets: NDArray[np.int64], shape: TableShape, written: Ranges
    ) -> "TableParts":
        """Return the parts of the tables `index`, which lie at `offsets`, that do not lie in holes of the file.

        written: where the file has data; no table lies wholly outside. A table of 2 MiB may have all but some KiB in a
        hole.
        """
        entries, size, clusters = shape
        edges, length = written.edges, entries * size
        low = edges.searchsorted(offsets, "right")
        count = edges.searchsorted(offsets + length, "left") - low
        if not count.any():
            return cls(index * entries, np.minimum((index + 1) * entries, clusters), offsets)
        table = np.arange(len(index)).repeat(count + 1)
        nth = np.arange(len(table)) - (np.cumsum(count + 1) - count - 1).repeat(count + 1)
        start, stop = np.zeros(len(table), np.int64), np.full(len(table), length)
        inner = nth > 0
        start[inner] = edges[(low[table] + nth - 1)[inner]] - offsets[table[inner]]
        inner = nth < count[table]
        stop[inner] = edges[(low[table] + nth)[inner]] - offsets[table[inner]]
        data = (low[table] + nth) % 2 == 1
        first, last, table = start[data] // size, -(-stop[data] // size), table[data]
        again = led_by(False, table[1:] == table[:-1])  # an entry that two runs of data share belongs to the first
        first[again] = np.maximum(first[again], last[np.flatnonzero(again) - 1])
        last = np.minimum(last, clusters - index[table] * entries)
        some = first < last
        first, last, table = first[some], last[some], table[some]
        return cls(index[table] * entries + first, index[table] * entries + last, offsets[table] + first * size)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 3 * self.host.nbytes

    @property
    def clusters(self) -> int:
        """How many clusters they map together."""
        return int((self.last - self.first).sum())

    def rows(self) -> NDArray[np.int64]:
        """Return first, last and host of each: int64, shape (n, 3)."""
        return columns(self.first, self.last, self.host)

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


def fill_gaps(decoded: Iterable[Extents], start: int, end: int) -> Extents:
    """Return the runs of [start, end), bytes of the disk: what was `decoded`, and between that UNALLOCATED.

    decoded: runs of parts of the disk, in guest order and apart; each has a byte of [start, end) at least.
    """
    runs: list[Extents] = []
    at = start
    for part in decoded:
        low, high = max(start, int(part.start[0])), min(end, part.end)
        if at < low:
            runs.append(Extents.uniform(at, low, Kind.UNALLOCATED))
        runs.append(part.between(low, high))
        at = high
    if at < end:
        runs.append(Extents.uniform(at, end, Kind.UNALLOCATED))
    return Extents.joined(runs)
