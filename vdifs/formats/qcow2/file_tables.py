"""Where the tables of a qcow2 file lie, those of its snapshots included: places that nothing else may lie on.

Half-open host ranges, in bytes. Entries that lead nowhere are left out: the reader of that table tells of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.qcow2.entries import l1_reserved_bits, l2_offsets
from vdifs.formats.qcow2.geometry import L1_MAX_BYTES
from vdifs.formats.qcow2.header import Header
from vdifs.formats.qcow2.layer import Qcow2Layer
from vdifs.formats.qcow2.refcounts import block_offsets
from vdifs.formats.qcow2.snapshot_places import snapshot_places
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import round_up

__all__ = ["FileTables", "reserved_l1_entries"]

_SNAPSHOT_ENTRY = 40
_AT_ONCE = 1 << 20
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FileTables:
    """What every state of a file, the active one or a snapshot, must share the file with.

    refcount_table: its bytes. lost_blocks: how many of its entries lead to no cluster of the file. overlap: the lowest
    host offset that two tables share. places: where tables are, in whole clusters.
    """

    refcount_table: bytes
    lost_blocks: int
    overlap: int | None
    places: Ranges

    @classmethod
    def of(cls, file: HostFile, header: Header) -> "FileTables":
        """Read the tables of all states, but for their L2 tables. Raises FormatError, StorageError."""
        size = header.cluster_size
        states = _l1_ranges(file, header)
        refcounts = _range(header.refcount_table_offset, header.refcount_table_clusters * size)
        refcount_table = _read(file, refcounts)
        offsets = block_offsets(refcount_table)
        lost = (offsets % np.uint64(size) != 0) | (offsets >= np.uint64(file.size))
        blocks = _starting_at(offsets[~lost & (offsets != 0)].astype(np.int64), size)
        lost[0] |= offsets[0] == 0  # the header's own cluster is always counted
        snapshots = _range(header.snapshots_offset, header.nb_snapshots * _SNAPSHOT_ENTRY)  # or more: names, states
        within = [place for place in (refcounts, snapshots, *states) if place[0] < min(place[1], file.size)]
        fixed = np.array([(0, size), *((start, round_up(end, size)) for start, end in within)], np.int64)
        l2 = _starting_at(_l2_offsets(file, states, size), size)
        ranges = np.concatenate([fixed, blocks, l2])
        ranges = ranges[ranges[:, 0].argsort(kind="stable")]
        return cls(refcount_table, int(np.count_nonzero(lost)), _first_overlap(ranges), Ranges.union(ranges))

    def beneath(self, ranges: NDArray[np.int64]) -> int | None:
        """Return the first host offset of the first of `ranges`, int64, shape (n, 2), that lies on a table."""
        hit = ~self.places.is_apart_from(ranges[:, 0], ranges[:, 1])
        return self.places.first_within(*ranges[int(hit.argmax())].tolist()) if hit.any() else None


def _first_overlap(ranges: NDArray[np.int64]) -> int | None:
    """Return the lowest offset within two of `ranges`, which are sorted."""
    reach = np.maximum.accumulate(ranges[:-1, 1])
    twice = ranges[1:, 0][ranges[1:, 0] < reach]
    return int(twice[0]) if len(twice) else None


def reserved_l1_entries(file: HostFile, layer: Qcow2Layer) -> int:
    """Return how many entries of the L1 table of `layer`, as far as its disk needs them, have reserved bits set."""
    start, count = layer.state.offset, min(layer.state.entries, layer.geometry.l1_size)
    parts = _data_within(file, data_of(file), start, start + count * 8)
    return sum(int(np.count_nonzero(l1_reserved_bits(part))) for part in parts)


def _l1_ranges(file: HostFile, header: Header) -> list[Range]:
    """Return where the L1 tables of all states of the file lie, the active one first."""
    snapshots: list[tuple[int, int, int]] = snapshot_places(file, header).places.tolist()
    return [
        _range(header.l1_table_offset, header.l1_size * 8),
        *(_range(at, min(count * 8, L1_MAX_BYTES) if at < file.size else 0) for at, count, _ in snapshots),
    ]


def _l2_offsets(file: HostFile, l1_tables: list[Range], cluster_size: int) -> NDArray[np.int64]:
    """Return the host offsets of the L2 tables, each once: states share them.

    What several L1 tables claim is read once, and holes not at all: thousands of snapshots may claim the same 32 MiB.
    """
    found = [np.empty(0, np.int64)]
    claimed = Ranges.union(np.array([place for place in l1_tables if place[0] % 8 == 0], np.int64).reshape(-1, 2))
    data = data_of(file)
    for start, end in claimed.rows.tolist():
        for part in _data_within(file, data, start, end):
            offsets = l2_offsets(part)
            found.append(offsets[(offsets != 0) & (offsets < file.size) & (offsets % cluster_size == 0)])
    return np.unique(np.concatenate(found))


def _data_within(file: HostFile, data: Ranges, start: int, end: int) -> Iterator[bytes]:
    """Yield the words of [start, end) that are no holes. data: where the file has some."""
    for low, last in data.clip(start, end).rows.tolist():
        first = max(start, low - low % 8)
        for at in range(first, last, _AT_ONCE):
            yield _read(file, (at, min(at + _AT_ONCE, round_up(last, 8))))


def _read(file: HostFile, place: Range) -> bytes:
    length = place[1] - place[0]
    return file.read_at(place[0], length) if place[0] < file.size else bytes(length)


def _range(offset: int, length: int) -> Range:
    return (offset, offset + length) if length else (0, 0)


def _starting_at(offsets: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return np.stack([offsets, offsets + length], 1)
