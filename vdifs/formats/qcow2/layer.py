"""One qcow2 file of a chain: its L1 table in memory, its L2 tables read when asked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.extents import NO_FILE, Extents, Kind, MapKind
from vdifs.formats.layer import identity_of, without_holes
from vdifs.formats.load import Load
from vdifs.formats.qcow2.compressed import CompressedClusters
from vdifs.formats.qcow2.entries import Runs, decode_extended_l2, decode_l1, decode_l2
from vdifs.formats.qcow2.geometry import L1_MAX_BYTES, Geometry
from vdifs.formats.qcow2.header import CompressionType, Header
from vdifs.formats.shared_tables import Tables, shared_tables
from vdifs.formats.table_parts import TableParts, TableShape, fill_gaps
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import SECTOR, round_down

__all__ = ["L1Place", "Qcow2Layer"]

_L1_STEP = 1 << 20
_ENTRIES_AT_ONCE = 1 << 17
"""So many L2 entries are decoded together: 1 MiB, and some more for what is made of them."""


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

    has_backing = True

    def __init__(self, file: HostFile, data: HostFile, header: Header, place: L1Place) -> None:
        """Load the L1 table at `place`; data: the file that holds the guest data, `file` or another.

        Raises FormatError where it breaks a rule, StorageError where it cannot be read.
        """
        self.file = file
        self.data = data
        self._header = header
        self.state = place
        self.compressed = CompressedClusters(header.cluster_bits, CompressionType(header.compression_type))
        self.virtual_size = round_down(place.virtual_size, SECTOR)
        self.geometry = Geometry(header.cluster_bits, self.virtual_size, header.extended_l2)
        self._in_data = data_of(data)
        in_file = self._in_data if data is file else data_of(file)
        self.identity = identity_of([file, data], [in_file, self._in_data], place)
        self._table = shared_tables(self.identity, lambda: self._load_table(in_file))
        self._parts, self.load = self._table.parts, self._table.load
        self.nbytes = self._table.nbytes + self._in_data.nbytes

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer. Reads the L2 tables of the range."""
        return self._extents(start, end, detailed=False)

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._extents(start, end, detailed=True)

    def _extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        batches = self.batches(start, end)
        return fill_gaps((self._decoded(batch, self.entries(batch), detailed) for batch in batches), start, end)

    def populated(self) -> NDArray[np.int64]:
        """Return the ranges that have L2 entries in the file, neighbours joined; see Layer."""
        ranges: NDArray[np.int64] = self._parts.guest_ranges() << self.geometry.cluster_bits
        np.minimum(ranges, self.virtual_size, out=ranges)
        return ranges

    def is_state_of_same_file(self, other: "Qcow2Layer") -> bool:
        """Tell whether both are states of one file, whose tables and data lie in the same files."""
        mine, theirs = ((each.file.fingerprint, each.data.fingerprint) for each in (self, other))
        return mine == theirs

    def tables_unlike(self, other: "Qcow2Layer") -> NDArray[np.int64]:
        """Return the ranges that the parts of tables map which only one of two states of a file has: int64, (n, 2)."""
        own, others = self._parts, other._parts
        rows = np.concatenate([own.rows(), others.rows()])
        rows = rows[np.lexsort(rows.T)]
        twice = np.zeros(len(rows), np.bool_)
        twice[1:] = (rows[1:] == rows[:-1]).all(1)
        twice[:-1] |= twice[1:]
        return rows[~twice, :2] << self.geometry.cluster_bits

    def _load_table(self, written: Ranges) -> Tables:
        g = self.geometry
        used = self._load_l1(self.state.offset, min(self.state.entries, g.l1_size), written)
        parts = TableParts.written(*used, TableShape(g.l2_entries, g.l2_entry_size, g.clusters), written)
        return Tables(parts, Load(np.minimum(parts.guest_ranges() << g.cluster_bits, self.virtual_size), g.grain))

    def _load_l1(self, offset: int, count: int, written: Ranges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices and host offsets of the L1 entries in use, of the first `count`; the rest is VM state."""
        length = count * 8
        if max(length, self.geometry.l1_size * 8) > L1_MAX_BYTES:
            raise FormatError(f"the L1 table would be longer than {L1_MAX_BYTES} bytes", where=self.file.name)
        if offset % self.geometry.cluster_size:
            what = f"the L1 table is at {offset:#x}, no multiple of the cluster size"
            raise FormatError(what, where=self.file.name)
        indices, offsets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        left = self.geometry.clusters_for(self.file.size)
        # A table that is only claimed is not even read, and thousands of snapshots may claim one.
        step = length if self._is_hole(offset, length, written) else _L1_STEP
        for at in range(0, length, step or 1):
            size = min(step, length - at)
            if self._is_hole(offset + at, size, written):
                continue
            give_way(heavy=length > _L1_STEP)
            part = self._decode_l1(offset + at, size)
            used = np.flatnonzero(part)
            self._check_tables_within_file(part[used])
            left -= len(used)
            if left < 0:
                raise self._shared(int(part[used[-1]]))
            used = used[~written.is_apart_from(part[used], part[used] + self.geometry.cluster_size)]
            indices.append(used + at // 8)
            offsets.append(part[used])
        index, offset_of = np.concatenate(indices), np.concatenate(offsets)
        self._check_shared(offset_of)
        return index, offset_of

    def _is_hole(self, offset: int, length: int, written: Ranges) -> bool:
        return offset + length <= self.file.size and written.first_within(offset, offset + length) is None

    def _check_tables_within_file(self, offsets: NDArray[np.int64]) -> None:
        beyond = offsets >= self.file.size
        if beyond.any():
            raise FormatError(
                f"the L2 table at {int(offsets[beyond][0]):#x} lies beyond the end of the file at {self.file.size:#x}",
                where=self.file.name,
                remedy=CUT_SHORT,
            )

    def _decode_l1(self, offset: int, size: int) -> NDArray[np.int64]:
        table = self.file.read_table("L1 table", offset, size, self.geometry.cluster_size)
        try:
            return decode_l1(table, self.geometry.cluster_size)
        except FormatError as error:
            raise error.at(self.file.name, f"in the L1 table at {offset:#x}") from error

    def _check_shared(self, offsets: NDArray[np.int64]) -> None:
        """Refuse two entries with one L2 table: with them a small file claims exabytes of work."""
        ordered = np.sort(offsets)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise self._shared(int(twice[0]))

    def _shared(self, offset: int) -> FormatError:
        return FormatError(
            f"two L1 entries share the L2 table at {offset:#x}",
            where=self.file.name,
            remedy="repair the image with 'qemu-img check -r all'",
        )

    def batches(self, start: int, end: int) -> Iterator[TableParts]:
        """Yield the parts of L2 tables that map [start, end), a bounded number of entries at a time."""
        g = self.geometry
        parts = self._parts.within(start >> g.cluster_bits, g.clusters_for(end), g.l2_entry_size)
        yield from parts.batches(_ENTRIES_AT_ONCE // g.units_per_cluster)

    def entries(self, batch: TableParts) -> NDArray[np.uint64]:
        """Return the native L2 entries of `batch`, all in a row: one word for each, with extended L2 two."""
        size = self.geometry.l2_entry_size
        found = [
            self.file.read_table("L2 table", offset, count * size, self.geometry.cluster_size)
            for offset, count in batch.places(size, self.file.size)
        ]
        return np.frombuffer(b"".join(found), ">u8").astype(np.uint64)

    def check(self, batch: TableParts, entries: NDArray[np.uint64]) -> None:
        """Raise FormatError where `extents` would, for any of the `entries` of `batch`."""
        self._decoded(batch, entries, detailed=False)

    def _decoded(self, batch: TableParts, entries: NDArray[np.uint64], detailed: bool) -> Extents:
        """Return the runs from the first cluster of `batch` to its last; between its parts is nothing."""
        g = self.geometry
        try:
            runs = self._decode_l2(entries, detailed)
        except FormatError as error:
            pieces = list(batch.neighbours())
            for piece in pieces if len(pieces) > 1 else ():  # tell which of them it is
                self._decoded(piece, self.entries(piece), detailed)
            start = int(batch.first[0]) << g.cluster_bits
            raise error.at(self.file.name, f"at guest offset {start:#x}") from error
        file = np.where(runs.kind == Kind.UNALLOCATED, np.int16(NO_FILE), np.int16(0))
        count = batch.clusters << g.cluster_bits
        extents = batch.spread(Extents(runs.first * g.grain, runs.kind, file, runs.host, count), g.cluster_bits)
        if not extents.has(Kind.DATA):
            return extents
        if self.data is not self.file:
            self._check_in_place(extents)
        self._check_within_file(extents)
        return without_holes(extents, self._in_data, MapKind.DATA_HOLE if detailed else Kind.ZERO)

    def _decode_l2(self, table: NDArray[np.uint64], detailed: bool) -> Runs:
        g, external = self.geometry, self.data is not self.file
        if g.extended_l2:
            runs = decode_extended_l2(table, g, data_file=external, detailed=detailed)
        else:
            runs = decode_l2(table, g, self._header.version, data_file=external, detailed=detailed)
        if external and (runs.kind == Kind.COMPRESSED).any():
            raise FormatError("a compressed cluster, which an image with an external data file cannot have")
        return runs

    def _check_in_place(self, extents: Extents) -> None:
        """Refuse data in an external data file that do not lie at their guest offset, as QEMU does."""
        moved = (extents.kind == Kind.DATA) & (extents.host != extents.start)
        if moved.any():
            index = int(moved.argmax())
            raise FormatError(
                f"the data of guest offset {int(extents.start[index]):#x} lie at {int(extents.host[index]):#x} of the "
                "external data file, expected the same offset",
                where=self.file.name,
            )

    def _check_within_file(self, extents: Extents) -> None:
        """Refuse data that start beyond the end of the file, where QEMU shows zeros; a last cluster may end early."""
        size = self.geometry.clusters_for(self.data.size) * self.geometry.cluster_size
        beyond = (extents.kind == Kind.DATA) & (extents.host + extents.length > size)
        if beyond.any():
            index = int(beyond.argmax())
            inside = max(0, size - int(extents.host[index]))
            raise FormatError(
                f"the data of guest offset {int(extents.start[index]) + inside:#x} lie at "
                f"{int(extents.host[index]) + inside:#x}, beyond the end of the file at {self.data.size:#x}",
                where=self.data.name,
                remedy=CUT_SHORT,
            )
