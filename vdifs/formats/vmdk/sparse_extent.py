"""A sparse extent: the directory of its file in memory as far as tables are there, the tables read when asked."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.extents import NO_FILE, Extents, Kind, MapKind
from vdifs.formats.layer import identity_of, without_holes
from vdifs.formats.load import Load
from vdifs.formats.shared_tables import Tables, shared_tables
from vdifs.formats.table_parts import TableParts, TableShape, fill_gaps
from vdifs.formats.vmdk.grain_tables import GrainTables, directory_entries
from vdifs.formats.vmdk.stream import MARKER_SIZE
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import SECTOR, ceil_div

__all__ = ["SparseExtent"]

_STEP = 1 << 20
_ENTRIES_AT_ONCE = 1 << 17
"""So many entries are decoded together: 1 MiB, and some more for what is made of them."""


class SparseExtent:
    """A file with grain tables; what it does not hold is UNALLOCATED. See Part.

    Of the directory only the entries in use are kept, of tables only those that do not lie in holes of the file, so
    memory follows what is on disk, not what the header claims.
    """

    def __init__(self, file: HostFile, tables: GrainTables) -> None:
        """Load the directory. Raises FormatError where it breaks a rule, StorageError where it cannot be read."""
        self.file = file
        self.tables = tables
        self.size = tables.capacity * SECTOR
        self.grain = tables.grain
        self._bits = tables.grain.bit_length() - 1
        self._entry = np.dtype(tables.entry)
        self._shape = TableShape(tables.table_entries, self._entry.itemsize, ceil_div(self.size, tables.grain))
        self._in_data = data_of(file)
        loaded = shared_tables(identity_of([file], [self._in_data], tables), lambda: self._load(self._in_data))
        self._loaded = loaded  # which is kept for others as long as it is held
        self._parts = loaded.parts
        self.nbytes = loaded.nbytes + self._in_data.nbytes

    @property
    def table_size(self) -> int:
        """Bytes in a table."""
        return self._shape.entries * self._shape.entry_size

    def populated(self, *, has_backing: bool) -> NDArray[np.int64]:  # noqa: ARG002 - as of any part
        """See Part."""
        ranges: NDArray[np.int64] = self._parts.guest_ranges() << self._bits
        np.minimum(ranges, self.size, out=ranges)
        return ranges

    def extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        """See Part. Reads the tables of the range."""
        batches = self.batches(start, end)
        return fill_gaps((self._decoded(batch, self.entries(batch), detailed) for batch in batches), start, end)

    def batches(self, start: int, end: int) -> Iterator[TableParts]:
        """Yield the parts of tables that map [start, end), a bounded number of entries at a time."""
        first, last = start >> self._bits, ceil_div(end, self.grain)
        yield from self._parts.within(first, last, self._shape.entry_size).batches(_ENTRIES_AT_ONCE)

    def entries(self, batch: TableParts) -> NDArray[np.uint64]:
        """Return the entries of `batch`, all in a row."""
        size = self._shape.entry_size
        found = [self.file.read_at(at, count * size) for at, count in batch.places(size, self.file.size)]
        return np.frombuffer(b"".join(found), self._entry).astype(np.uint64)

    def check(self, batch: TableParts, entries: NDArray[np.uint64]) -> None:
        """Raise FormatError where `extents` would, for any of the `entries` of `batch`."""
        self._decoded(batch, entries, detailed=False)

    def table_places(self) -> NDArray[np.int64]:
        """Return where tables lie, as far as not in holes: int64, shape (n, 2), in guest order."""
        host, count = self._parts.host, self._parts.last - self._parts.first
        return np.stack([host, host + count * self._shape.entry_size], 1)

    def packed_grain(self, offset: int) -> int:
        """Return where the packed grain that holds guest `offset` of this extent lies: its marker."""
        batch = next(self.batches(offset, offset + 1))
        return int(self.tables.decode(self.entries(batch)).host[0])

    def _load(self, written: Ranges) -> Tables:
        index, offsets = self._load_directory(written)
        parts = TableParts.written(index, offsets, self._shape, written)
        return Tables(parts, Load(np.minimum(parts.guest_ranges() << self._bits, self.size), self.grain))

    def _load_directory(self, written: Ranges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices and the offsets of the tables in use."""
        start, length = self.tables.directory, directory_entries(self.tables) * self._shape.entry_size
        if start < SECTOR or start + length > self.file.size:
            raise FormatError(
                f"the grain directory at {start:#x}, of {length} bytes, does not lie between its header and the end "
                f"of the file at {self.file.size:#x}",
                where=self.file.name,
                remedy=CUT_SHORT,
            )
        indices, offsets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for at in range(0, length, _STEP):
            count = min(_STEP, length - at)
            if written.first_within(start + at, start + at + count) is None:
                continue
            give_way(heavy=length > _STEP)
            found = self._directory_part(start + at, count)
            used = np.flatnonzero(found)
            self._check_tables_within_file(found[used])
            used = used[~written.is_apart_from(found[used], found[used] + self.table_size)]
            indices.append(used + at // self._shape.entry_size)
            offsets.append(found[used])
        index, offset_of = np.concatenate(indices), np.concatenate(offsets)
        self._check_shared(offset_of)
        return index, offset_of

    def _directory_part(self, offset: int, length: int) -> NDArray[np.int64]:
        entries = np.frombuffer(self.file.read_at(offset, length), self._entry).astype(np.uint64)
        try:
            return self.tables.table_offsets(entries)
        except FormatError as error:
            raise error.at(self.file.name, f"in the grain directory from {offset:#x} on") from error

    def _check_tables_within_file(self, offsets: NDArray[np.int64]) -> None:
        beyond = offsets > self.file.size - self.table_size
        if beyond.any():
            raise FormatError(
                f"the grain table at {int(offsets[beyond][0]):#x} lies beyond the end of the file at "
                f"{self.file.size:#x}",
                where=self.file.name,
                remedy=CUT_SHORT,
            )

    def _check_shared(self, offsets: NDArray[np.int64]) -> None:
        ordered = np.sort(offsets)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            what = f"two entries of the grain directory share the table at {int(twice[0]):#x}"
            raise FormatError(what, where=self.file.name)

    def _decoded(self, batch: TableParts, entries: NDArray[np.uint64], detailed: bool) -> Extents:
        """Return the runs from the first grain of `batch` to its last; between its parts is nothing."""
        try:
            kind, host = self.tables.decode(entries)
        except FormatError as error:
            pieces = list(batch.neighbours())
            for piece in pieces if len(pieces) > 1 else ():  # tell which of them it is
                self._decoded(piece, self.entries(piece), detailed)
            start = int(batch.first[0]) << self._bits
            raise error.at(self.file.name, f"at offset {start:#x} of its disk") from error
        first = np.arange(len(entries), dtype=np.int64) << self._bits
        data = kind == Kind.DATA
        if self.tables.packed:
            self._check_markers_within_file(host[data])
            kind[data], host = Kind.COMPRESSED, np.where(data, first, 0)
        file = np.where(kind == Kind.UNALLOCATED, np.int16(NO_FILE), np.int16(0))
        runs = Extents(first, kind, file, host, len(entries) << self._bits).merged()
        extents = batch.spread(runs, self._bits)
        if self.tables.packed:  # a token is where its unit begins
            extents.host[:] = np.where(extents.kind == Kind.COMPRESSED, extents.start, 0)
        if extents.end > self.size:
            extents = extents.between(int(extents.start[0]), self.size)
        if not extents.has(Kind.DATA):
            return extents
        self._check_within_file(extents)
        return without_holes(extents, self._in_data, MapKind.DATA_HOLE if detailed else Kind.ZERO)

    def _check_markers_within_file(self, offsets: NDArray[np.int64]) -> None:
        beyond = offsets[offsets > self.file.size - MARKER_SIZE]
        if len(beyond):
            what = f"a packed grain lies at {int(beyond[0]):#x}, beyond the end of the file at {self.file.size:#x}"
            raise FormatError(what, where=self.file.name, remedy=CUT_SHORT)

    def _check_within_file(self, extents: Extents) -> None:
        """Refuse grains that end beyond the end of the file, where QEMU shows zeros."""
        size = self.file.size
        beyond = (extents.kind == Kind.DATA) & (extents.host + extents.length > size)
        if beyond.any():
            index = int(beyond.argmax())
            inside = max(0, size - int(extents.host[index]))
            raise FormatError(
                f"the data of offset {int(extents.start[index]) + inside:#x} of its disk lie at "
                f"{int(extents.host[index]) + inside:#x}, beyond the end of the file at {size:#x}",
                where=self.file.name,
                remedy=CUT_SHORT,
            )
