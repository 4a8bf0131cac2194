"""Which host cluster of a qcow2 gets what, as it comes, and the refcounts that follow.

Packed clusters lie one right behind the other, across the borders of host clusters; whole ones take the next host
cluster meanwhile (QEMU's qcow2_alloc_bytes):

    comes        p1   p2  WHOLE  p3   p4
    file        |p1p1p2p2p3|WHOLE.....|p4p4......|      p4 does not fit behind p3, and the next cluster is no neighbour
    refcount          3          1          1           one for each packed cluster that touches it

A refcount block goes into the file as soon as all that it counts has its place, so that no more than one of them is
kept in memory, and the refcount table:

    |header, data ...             |block 0, data ...            |block 1, ... L1 table, refcount table, block 2|
     `------ block 0 counts -----' `------ block 1 counts -----' `------------ block 2 counts ---------------'

Pure: no byte of a file is read or written here.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vdifs.errors import UsageError
from vdifs.formats.qcow2.geometry import REFCOUNT_TABLE_MAX_BYTES
from vdifs.formats.qcow2.refcounts import REFCOUNT_BITS
from vdifs.units import ceil_div

__all__ = ["HostClusters", "LastTables", "Write"]

_MOST_REFERENCES = (1 << REFCOUNT_BITS) - 1
_ENTRY = 8
_FARTHEST = 1 << 70
"""The offset of a packed cluster has 70 bits less those of the cluster size: 512 TiB with clusters of 2 MiB."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that belong at an offset of the file."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LastTables:
    """Where the tables at the end of the file lie: offsets in bytes, and where the file ends."""

    l1_table: int
    refcount_table: int
    refcount_table_clusters: int
    size: int


class HostClusters:
    """The host clusters of one file in the making, of which the first is the header's. Each is given away once."""

    def __init__(self, cluster_size: int) -> None:
        self._size = cluster_size
        self._per_block = cluster_size * 8 // REFCOUNT_BITS
        self._next = 0
        self._packed_end = 0
        """Where the last packed cluster ends; a multiple of the cluster size if the next one may not follow there."""
        self._counts = self._nothing_counted()
        """The refcounts of the last block."""
        self._counts_before: array[int] | None = None
        """Those of the block before it, until that is complete."""
        self._blocks = array("Q")
        """The offsets of the complete blocks, which are the entries of the refcount table."""
        self._to_write: list[Write] = []
        self.whole()

    def whole(self) -> int:
        """Return the offset of a host cluster that has one use. Raises UsageError where the file gets too long."""
        index = self._take()
        self._count(index)
        self._complete_block()
        return index * self._size

    def packed(self, length: int) -> int:
        """Return the offset for a packed cluster of `length` bytes, 1 to the size of a cluster.

        It touches two host clusters at most. Raises UsageError where the file gets too long.
        """
        at = self._packed_end
        room = -at % self._size
        if room and self._counts[at // self._size % self._per_block] == _MOST_REFERENCES:
            room = 0
        if room < length:
            new = self._take() * self._size
            if not room or at + room != new:
                at = new
        if at + length > _FARTHEST // self._size:
            what = f"a packed cluster at {at:#x} is farther than an L2 entry tells"
            raise UsageError(what, remedy="ask for smaller clusters with --cluster-size")
        for index in range(at // self._size, (at + length - 1) // self._size + 1):
            self._count(index)
        self._packed_end = at + length
        self._complete_block()
        return at

    def complete_blocks(self) -> list[Write]:
        """Return the refcount blocks that became complete since this was asked last."""
        blocks, self._to_write = self._to_write, []
        return blocks

    def finish(self, l1_clusters: int) -> tuple[LastTables, Iterator[Write]]:
        """Return where the last tables lie, and the writes of all of them but the L1 table, of so many clusters.

        They count themselves: their size is a fixed point. No cluster can be had any more.
        """
        l1_table, done = self._next, len(self._blocks)
        refcount_table = l1_table + l1_clusters
        total = refcount_table
        while True:
            blocks = ceil_div(total, self._per_block)
            table_clusters = ceil_div(blocks * _ENTRY, self._size)
            needed = refcount_table + table_clusters + blocks - done
            if needed == total:
                break
            total = needed
        self._check_blocks(blocks)
        offsets = l1_table * self._size, refcount_table * self._size
        tables = LastTables(*offsets, table_clusters, total * self._size)
        return tables, self._last_writes(tables, blocks)

    def _last_writes(self, tables: LastTables, blocks: int) -> Iterator[Write]:
        """Yield the remaining blocks, whose clusters beyond those given away are used once, and the refcount table."""
        total = tables.size // self._size
        at = tables.size - (blocks - len(self._blocks)) * self._size
        for block in range(len(self._blocks), blocks):
            first = block * self._per_block
            for index in range(max(self._next, first), min(total, first + self._per_block)):
                self._counts[index - first] = 1
            self._blocks.append(at)
            yield Write(at, _packed_block(self._counts))
            self._counts = self._nothing_counted()
            at += self._size
        entries = np.frombuffer(self._blocks, np.uint64).astype(">u8").tobytes()
        yield Write(tables.refcount_table, entries.ljust(tables.refcount_table_clusters * self._size, b"\0"))

    def _take(self) -> int:
        """Return the index of the next host cluster, which nothing uses yet."""
        index = self._next
        if index and index % self._per_block == 0:
            assert self._counts_before is None, "a block is complete when the next but one begins"
            self._counts_before, self._counts = self._counts, self._nothing_counted()
        self._next += 1
        return index

    def _complete_block(self) -> None:
        """Give the block before the last its place, once nothing that it counts can get another use."""
        if self._counts_before is None:
            return
        self._check_blocks(len(self._blocks) + 2)
        if self._packed_end < self._first * self._size:
            self._packed_end = 0
        complete, self._counts_before = self._counts_before, None
        index = self._take()
        self._count(index)
        self._blocks.append(index * self._size)
        self._to_write.append(Write(index * self._size, _packed_block(complete)))

    def _check_blocks(self, count: int) -> None:
        if count * _ENTRY > REFCOUNT_TABLE_MAX_BYTES:
            what = f"clusters of {self._size} bytes are too small for so much data"
            raise UsageError(what, remedy="ask for larger ones with --cluster-size")

    @property
    def _first(self) -> int:
        """The first cluster that the last block counts."""
        return (self._next - 1) // self._per_block * self._per_block

    def _count(self, index: int) -> None:
        counts = self._counts if self._counts_before is None or index >= self._first else self._counts_before
        counts[index % self._per_block] += 1

    def _nothing_counted(self) -> "array[int]":
        return array("H", bytes(self._size))


def _packed_block(counts: "array[int]") -> bytes:
    return np.frombuffer(counts, np.uint16).astype(">u2").tobytes()
