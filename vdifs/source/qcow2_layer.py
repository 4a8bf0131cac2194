"""One qcow2 file of a chain: its L1 table in memory, its L2 tables read when asked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError
from vdifs.extents import NO_LAYER, Extents, Kind
from vdifs.qcow2.entries import Runs, decode_extended_l2, decode_l1, decode_l2
from vdifs.qcow2.geometry import L1_MAX_BYTES, SECTOR, Geometry, round_down
from vdifs.qcow2.header import Header
from vdifs.source.hostfile import HostFile
from vdifs.source.l1_tables import L1Table, shared_table
from vdifs.source.layer import UNLIMITED, identity_of, without_holes
from vdifs.source.pace import give_way

__all__ = ["L1Place", "Qcow2Layer"]

_L1_STEP = 1 << 20
_ENTRIES_AT_ONCE = 1 << 17
"""So many L2 entries are decoded together: 1 MiB, and some more for what is made of them."""
_SPARSE_ENTRIES = 1 << 18
"""A layer with no more entries than that may be asked for any range."""


@dataclass(frozen=True, slots=True)
class L1Place:
    """Where an L1 table is, how many entries it has, and the bytes of disk that it maps."""

    offset: int
    entries: int
    virtual_size: int


class Qcow2Layer:
    """A qcow2 image without its backing file; what it does not hold is UNALLOCATED.

    Of the L1 table only the entries in use are kept, so memory follows what is on disk, not what the header claims.
    """

    def __init__(self, file: HostFile, data: HostFile, header: Header, place: L1Place) -> None:
        """Load the L1 table at `place`; data: the file that holds the guest data, `file` or another.

        Raises FormatError where it breaks a rule, StorageError where it cannot be read.
        """
        self._file = file
        self._data = data
        self._header = header
        self.place = place
        self.virtual_size = round_down(place.virtual_size, SECTOR)
        self.geometry = Geometry(header.cluster_bits, self.virtual_size, header.extended_l2)
        self._edges = self._data.data_edges()
        edges = self._edges if data is file else file.data_edges()
        self.identity = identity_of([file, data], [edges, self._edges], place)
        count = min(place.entries, self.geometry.l1_size)
        self._table = shared_table(self.identity, lambda: L1Table(*self._load_l1(place.offset, count, edges)))
        self._l1_index, self.l2_offsets = self._table.indices, self._table.offsets
        self.nbytes = self._table.nbytes + self._edges.nbytes
        self.grain = self.geometry.grain
        self.most_runs = len(self._l1_index) * self.geometry.units_per_l2
        self.max_range = self.grain * _ENTRIES_AT_ONCE if self.most_runs > _SPARSE_ENTRIES else UNLIMITED

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer. Reads the L2 tables of the range."""
        return self._extents(start, end, detailed=False)

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._extents(start, end, detailed=True)

    def _extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        parts: list[Extents] = []
        at = start
        for low, high in self.groups(start, end):
            if at < low:
                parts.append(Extents.uniform(at, low, Kind.UNALLOCATED))
            parts.append(self._decoded(low, high, detailed))
            at = high
        if at < end:
            parts.append(Extents.uniform(at, end, Kind.UNALLOCATED))
        return Extents.joined(parts)

    def populated(self) -> NDArray[np.int64]:
        """Return the ranges that have an L2 table, neighbours joined; see Layer."""
        if not len(self._l1_index):
            return np.empty((0, 2), np.int64)
        breaks = np.flatnonzero(np.diff(self._l1_index) > 1)
        first = self._l1_index[np.append(0, breaks + 1)]
        last = self._l1_index[np.append(breaks, len(self._l1_index) - 1)] + 1
        coverage = self.geometry.l2_coverage
        ranges: NDArray[np.int64] = np.minimum(np.stack([first, last], 1) * coverage, self.virtual_size)
        return ranges

    def _load_l1(
        self, offset: int, count: int, edges: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices and host offsets of the L1 entries in use, of the first `count`; the rest is VM state."""
        length = count * 8
        if max(length, self.geometry.l1_size * 8) > L1_MAX_BYTES:
            raise FormatError(f"{self._file.name}: the L1 table would be longer than {L1_MAX_BYTES} bytes")
        if offset % self.geometry.cluster_size:
            raise FormatError(f"{self._file.name}: the L1 table is at {offset:#x}, no multiple of the cluster size")
        indices, offsets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        left = self.geometry.clusters_for(self._file.size)
        # A table that is only claimed is not even read, and thousands of snapshots may claim one.
        step = length if self._is_hole(offset, length, edges) else _L1_STEP
        for at in range(0, length, step or 1):
            size = min(step, length - at)
            if self._is_hole(offset + at, size, edges):
                continue
            give_way(heavy=length > _L1_STEP)
            part = self._decode_l1(offset + at, size)
            used = np.flatnonzero(part)
            self._check_tables_within_file(part[used])
            left -= len(used)
            if left < 0:
                raise self._shared(int(part[used[-1]]))
            used = used[~_in_holes(part[used], self.geometry.cluster_size, edges)]
            indices.append(used + at // 8)
            offsets.append(part[used])
        index, offset_of = np.concatenate(indices), np.concatenate(offsets)
        self._check_shared(offset_of)
        return index, offset_of

    def _is_hole(self, offset: int, length: int, edges: NDArray[np.int64]) -> bool:
        inside = offset + length <= self._file.size
        return inside and bool(_in_holes(np.array([offset]), length, edges).all())

    def _check_tables_within_file(self, offsets: NDArray[np.int64]) -> None:
        beyond = offsets >= self._file.size
        if beyond.any():
            raise FormatError(
                f"{self._file.name}: the L2 table at {int(offsets[beyond][0]):#x} lies beyond the end of the file at "
                f"{self._file.size:#x}: the file was cut short; restore it from a copy"
            )

    def _decode_l1(self, offset: int, size: int) -> NDArray[np.int64]:
        table = self._file.read_table("L1 table", offset, size, self.geometry.cluster_size)
        try:
            return decode_l1(table, self.geometry.cluster_size)
        except FormatError as error:
            raise FormatError(f"{self._file.name}: in the L1 table at {offset:#x}: {error.finding}") from error

    def _check_shared(self, offsets: NDArray[np.int64]) -> None:
        """Refuse two entries with one L2 table: with them a small file claims exabytes of work."""
        ordered = np.sort(offsets)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise self._shared(int(twice[0]))

    def _shared(self, offset: int) -> FormatError:
        return FormatError(
            f"{self._file.name}: two L1 entries share the L2 table at {offset:#x}: "
            "repair the image with 'qemu-img check -r all'"
        )

    def entries(self, start: int, end: int) -> NDArray[np.uint64]:
        """Return the native L2 entries of [start, end), one of `groups`: one word for each, with extended L2 two."""
        return self._read_entries(start >> self.geometry.cluster_bits, self.geometry.clusters_for(end))

    def groups(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) that neighbouring L2 tables map, each of a bounded number of entries."""
        g = self.geometry
        low, high = self._l1_index.searchsorted((start // g.l2_coverage, -(-end // g.l2_coverage)))
        indices = self._l1_index[low:high]
        if not len(indices):
            return
        at_once = max(1, _ENTRIES_AT_ONCE // g.units_per_l2)
        breaks = np.flatnonzero(np.diff(indices) > 1) + 1
        for group in np.split(indices, breaks):
            for at in range(0, len(group), at_once):
                part = group[at : at + at_once]
                first, last = int(part[0]) * g.l2_coverage, (int(part[-1]) + 1) * g.l2_coverage
                yield max(start, first), min(end, last)

    def _decoded(self, start: int, end: int, detailed: bool) -> Extents:
        """Return the runs of [start, end), which neighbouring L2 tables map."""
        g = self.geometry
        first, last = start >> g.cluster_bits, g.clusters_for(end)
        table = self.entries(start, end)
        try:
            runs = self._decode_l2(table, detailed)
        except FormatError as error:
            raise FormatError(f"{self._file.name}: at guest offset {start:#x}: {error.finding}") from error
        layer = np.where(runs.kind == Kind.UNALLOCATED, np.int16(NO_LAYER), np.int16(0))
        starts = (first << g.cluster_bits) + runs.first * g.grain
        extents = Extents(starts, runs.kind, layer, runs.host, last << g.cluster_bits).between(start, end)
        if not extents.has(Kind.DATA):
            return extents
        if self._data is not self._file:
            self._check_in_place(extents)
        self._check_within_file(extents)
        return without_holes(extents, self._edges, Kind.DATA_HOLE if detailed else Kind.ZERO)

    def _decode_l2(self, table: NDArray[np.uint64], detailed: bool) -> Runs:
        g, external = self.geometry, self._data is not self._file
        if g.extended_l2:
            runs = decode_extended_l2(table, g, data_file=external, detailed=detailed)
        else:
            runs = decode_l2(table, g, self._header.version, data_file=external, detailed=detailed)
        if external and (runs.kind == Kind.COMPRESSED).any():
            raise FormatError("a compressed cluster, which an image with an external data file cannot have")
        return runs

    def _read_entries(self, first: int, last: int) -> NDArray[np.uint64]:
        """Return the native entries of clusters [first, last), all of which have an L2 table."""
        g = self.geometry
        parts: list[bytes] = []
        low = int(self._l1_index.searchsorted(first // g.l2_entries))
        high = int(self._l1_index.searchsorted(-(-last // g.l2_entries)))
        for l1_index, offset in zip(self._l1_index[low:high].tolist(), self.l2_offsets[low:high].tolist(), strict=True):
            start = max(first - l1_index * g.l2_entries, 0)
            stop = min(last - l1_index * g.l2_entries, g.l2_entries)
            skip, size = start * g.l2_entry_size, (stop - start) * g.l2_entry_size
            parts.append(self._file.read_table("L2 table", offset + skip, size, g.cluster_size))
        return np.frombuffer(b"".join(parts), ">u8").astype(np.uint64)

    def _check_in_place(self, extents: Extents) -> None:
        """Refuse data in an external data file that do not lie at their guest offset, as QEMU does."""
        moved = (extents.kind == Kind.DATA) & (extents.host != extents.start)
        if moved.any():
            index = int(moved.argmax())
            raise FormatError(
                f"{self._file.name}: the data of guest offset {int(extents.start[index]):#x} lie at "
                f"{int(extents.host[index]):#x} of the external data file, expected the same offset"
            )

    def _check_within_file(self, extents: Extents) -> None:
        """Refuse data that start beyond the end of the file, where QEMU shows zeros; a last cluster may end early."""
        size = self.geometry.clusters_for(self._data.size) * self.geometry.cluster_size
        beyond = (extents.kind == Kind.DATA) & (extents.host + extents.length > size)
        if beyond.any():
            index = int(beyond.argmax())
            inside = max(0, size - int(extents.host[index]))
            raise FormatError(
                f"{self._data.name}: the data of guest offset {int(extents.start[index]) + inside:#x} lie at "
                f"{int(extents.host[index]) + inside:#x}, beyond the end of the file at {self._data.size:#x}: "
                "the file was cut short; restore it from a copy"
            )


def _in_holes(offsets: NDArray[np.int64], length: int, edges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the tables of `length` bytes lie wholly in a hole of the file, and so hold nothing: bool."""
    before = edges.searchsorted(offsets, "right")
    found: NDArray[np.bool_] = (before % 2 == 0) & (before == edges.searchsorted(offsets + length, "left"))
    return found
