"""One dynamic or differencing VHD of a chain: its block allocation table and its sector bitmaps, read when asked.

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
        """Look at the block allocation table, as far as a disk of `size` bytes needs it.

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
        self.load = Load(self.populated(), SECTOR)
        self.nbytes = self.blocks.populated.nbytes + self.load.nbytes + self._data.nbytes

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer. Reads the sector bitmaps of the range."""
        return self._extents(start, end, detailed=False)

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._extents(start, end, detailed=True)

    def populated(self) -> NDArray[np.int64]:
        """Return where blocks are in the file, neighbours joined; see Layer."""
        return np.minimum(self.blocks.populated.rows * self.header.block_size, self.virtual_size)

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
                index, place = self.blocks.within(first, min(first + _ENTRIES_AT_ONCE, high))
                for at in range(0, len(index), step):
                    yield Used(index[at : at + step], place[at : at + step])

    def _nothing(self, start: int, end: int) -> Extents:
        if self.has_backing:
            return Extents.uniform(start, end, Kind.UNALLOCATED)
        return Extents.uniform(start, end, Kind.ZERO, 0)

    def _of_blocks(self, used: Used, detailed: bool) -> Extents:
        """Return the runs from the first of some blocks in the file to the last; between them is nothing."""
        header = self.header
        size = header.block_size
        index, place = used
        at, present = bitmap_runs(self._bitmaps(place))
        at *= SECTOR
        row, within = at // size, at % size
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

    def _bitmaps(self, place: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the sector bitmaps at these host offsets: uint8, one row for each."""
        length = self.header.bitmap_length
        found = bytearray()
        for count, offset in enumerate(place.tolist(), 1):
            found += self.file.read_at(offset, length)
            if not count % _BITMAPS_BETWEEN_PAUSES:
                give_way()
        return np.frombuffer(found, np.uint8).reshape(len(place), length)
