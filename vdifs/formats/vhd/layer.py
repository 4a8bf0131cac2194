"""One dynamic or differencing VHD of a chain: its block allocation table, and the sector bitmaps that matter.

docs/formats.md, VHD: a sector whose bit is clear, and a block that is not in the file, is ZERO, in a differencing
image UNALLOCATED.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import NO_FILE, Extents, Kind, MapKind
from vdifs.formats.layer import identity_of, without_holes
from vdifs.formats.load import Load
from vdifs.formats.vhd.bitmaps import bitmap_runs
from vdifs.formats.vhd.blocks import Blocks, FilePlaces, Used
from vdifs.formats.vhd.header import Header
from vdifs.formats.vhd.whole_blocks import whole_blocks
from vdifs.pace import give_way
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import SECTOR, ceil_div

__all__ = ["VhdLayer", "VhdState"]

_SECTORS_AT_ONCE = 1 << 18
"""So many bits of bitmaps are looked at together, and at least one bitmap."""
_BITMAPS_BETWEEN_PAUSES = 256
_ENTRIES_AT_ONCE = 1 << 15
"""So many entries of the table are read together."""


class VhdState(NamedTuple):
    """The one state of a file: of the size that is shown, or of that which a differencing image sees."""

    virtual_size: int


class VhdLayer:
    """A dynamic VHD, or a differencing one without its parent."""

    compressed = None

    def __init__(self, file: HostFile, header: Header, places: FilePlaces, size: int, *, has_backing: bool) -> None:
        """Look at the block allocation table, as far as a disk of `size` bytes needs it, and at all sector bitmaps.

        Raises FormatError where it breaks a rule, StorageError where it cannot be read.
        """
        self.file = file
        self.header = header
        self.has_backing = has_backing
        self.virtual_size = size
        self.state = VhdState(size)
        self._data = data_of(file)
        self.identity = identity_of([file], [self._data], self.state)
        self.blocks = Blocks(file, header, size, places, self._data)
        self._whole = whole_blocks(self.identity, file, self.blocks, header.bitmap_length)
        self.load = self._load()
        tables = self.blocks.populated.nbytes + self._whole.nbytes
        self.nbytes = tables + self.load.nbytes + self._data.nbytes

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer. Reads the table, and the bitmaps of blocks not whole."""
        return self._extents(start, end, detailed=False)

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._extents(start, end, detailed=True)

    def populated(self) -> NDArray[np.int64]:
        """Return where blocks are in the file, neighbours joined; see Layer."""
        return np.minimum(self.blocks.populated.rows * self.header.block_size, self.virtual_size)

    def _load(self) -> Load:
        """Return the load: a block that is whole is one unit, of the others each sector is."""
        size, others = self.header.block_size, self._whole.others
        whole = self.blocks.populated.minus(others).rows
        rows = np.concatenate([whole, others.rows])
        grain = np.full(len(rows), SECTOR, np.float64)
        grain[: len(whole)] = size
        order = rows[:, 0].argsort()
        return Load(np.minimum(rows[order] * size, self.virtual_size), grain[order])

    def _extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        parts: list[Extents] = []
        at = start
        for used in self._used(start, end):
            give_way()
            found = self._of_blocks(used, detailed)
            within = max(start, int(found.start[0])), min(end, found.end)
            if at < within[0]:
                parts.append(self._nothing(at, within[0]))
            hole_kind = MapKind.DATA_HOLE if detailed else Kind.ZERO
            parts.append(without_holes(found.between(*within), self._data, hole_kind))
            at = within[1]
        if at < end:
            parts.append(self._nothing(at, end))
        return Extents.joined(parts).merged()

    def _used(self, start: int, end: int) -> Iterator[Used]:
        """Yield the blocks that are in the file and touch [start, end), some at a time."""
        size = self.header.block_size
        step = max(1, _SECTORS_AT_ONCE * SECTOR // size)
        for low, high in self.blocks.populated.clip(start // size, ceil_div(end, size)).rows.tolist():
            for first in range(low, high, _ENTRIES_AT_ONCE):
                number, place = self.blocks.within(first, min(first + _ENTRIES_AT_ONCE, high))
                count = len(number) if self._whole.are_whole(number).all() else step
                for at in range(0, len(number), count or 1):
                    yield Used(number[at : at + count], place[at : at + count])

    def _nothing(self, start: int, end: int) -> Extents:
        if self.has_backing:
            return Extents.uniform(start, end, Kind.UNALLOCATED)
        return Extents.uniform(start, end, Kind.ZERO, 0)

    def _of_blocks(self, used: Used, detailed: bool) -> Extents:
        """Return the runs from the first of some blocks in the file to the last; between them is nothing."""
        header = self.header
        size = header.block_size
        index, place = used
        row, within, present = self._runs(used)
        start, host = index[row] * size + within, place[row] + header.bitmap_space + within
        nothing = Kind.UNALLOCATED if self.has_backing else Kind.ZERO
        clear: Kind | MapKind = nothing
        if detailed:
            clear = MapKind.UNALLOCATED_ALLOC if self.has_backing else MapKind.ZERO_ALLOC
        kind = np.where(present, np.uint8(Kind.DATA), np.uint8(clear))
        if not detailed:
            host[~present] = 0
        gap = np.flatnonzero(index[1:] != index[:-1] + 1)
        if len(gap):
            start = np.concatenate([start, (index[gap] + 1) * size])
            order = start.argsort(kind="stable")
            start = start[order]
            kind = np.append(kind, np.full(len(gap), nothing, np.uint8))[order]
            host = np.append(host, np.zeros(len(gap), np.int64))[order]
        file = np.where(kind == Kind.UNALLOCATED, np.int16(NO_FILE), np.int16(0))
        return Extents(start, kind, file, host, (int(index[-1]) + 1) * size).merged()

    def _runs(self, used: Used) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return of each run of sectors in which of `used` it is, where in this, in bytes, and whether it is there."""
        whole = self._whole.are_whole(used.number)
        row = np.flatnonzero(whole)
        within, present = np.zeros(len(row), np.int64), np.ones(len(row), np.bool_)
        if whole.all():
            return row, within, present
        others = np.flatnonzero(~whole)
        at, is_set = bitmap_runs(self._bitmaps(used.place[others]))
        at *= SECTOR
        row = np.concatenate([row, others[at // self.header.block_size]])
        order = row.argsort(kind="stable")  # those of a block are in order
        within = np.concatenate([within, at % self.header.block_size])[order]
        return row[order], within, np.concatenate([present, is_set])[order]

    def _bitmaps(self, place: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the sector bitmaps at these host offsets: uint8, one row for each."""
        found: list[bytes] = []
        for at in range(0, len(place), _BITMAPS_BETWEEN_PAUSES):
            give_way()
            found += self.file.read_each(place[at : at + _BITMAPS_BETWEEN_PAUSES].tolist(), self.header.bitmap_length)
        return np.frombuffer(b"".join(found), np.uint8).reshape(len(place), self.header.bitmap_length)
