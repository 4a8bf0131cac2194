"""One VDI of a chain: its block map read when asked, and where it says anything kept.

docs/formats.md, VDI: a free block is ZERO, in a differencing image UNALLOCATED; a zero block is ZERO in both.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import NO_FILE, Extents, Kind, MapKind
from vdifs.formats.layer import identity_of, without_holes
from vdifs.formats.load import Load
from vdifs.formats.vdi.block_map import FREE, ZERO, BlockMap
from vdifs.formats.vdi.header import Header
from vdifs.pace import give_way
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import SECTOR, ceil_div

__all__ = ["VdiLayer", "VdiState"]

_BLOCKS_AT_ONCE = 1 << 16


class VdiState(NamedTuple):
    """The one state of a file."""

    virtual_size: int


class VdiLayer:
    """A dynamic or static VDI, or a differencing one without its parent."""

    compressed = None

    def __init__(self, file: HostFile, header: Header) -> None:
        """Look at the whole block map. Raises FormatError where it breaks a rule, StorageError."""
        self.file = file
        self.header = header
        self.has_backing = header.is_differencing
        self.virtual_size = header.virtual_size
        self.state = VdiState(self.virtual_size)
        self.block_map = BlockMap(file, header)
        self._data = data_of(file)
        self.identity = identity_of([file], [self._data], self.state)
        self.load = Load(self.populated(), header.block_size)
        self.nbytes = self.block_map.populated.nbytes + self.load.nbytes + self._data.nbytes

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer. Reads the entries of the range."""
        return self._extents(start, end, Kind.ZERO)

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._extents(start, end, MapKind.DATA_HOLE)

    def populated(self) -> NDArray[np.int64]:
        """Return where the block map says anything, some neighbours of that taken with it; see Layer."""
        return np.minimum(self.block_map.populated.rows * self.header.block_size, self.virtual_size)

    def _extents(self, start: int, end: int, hole_kind: Kind | MapKind) -> Extents:
        size = self.header.block_size
        parts: list[Extents] = []
        first, last = start // size, ceil_div(end, size)
        for low in range(first, last, _BLOCKS_AT_ONCE):
            high = min(low + _BLOCKS_AT_ONCE, last)
            within = max(start, low * size), min(end, high * size)
            if self.load.is_empty(*within):
                parts.append(self._nothing(*within))
            else:
                parts.append(self._of_blocks(low, high, hole_kind).between(*within))
            give_way()
        return Extents.joined(parts)

    def _nothing(self, start: int, end: int) -> Extents:
        if self.has_backing:
            return Extents.uniform(start, end, Kind.UNALLOCATED)
        return Extents.uniform(start, end, Kind.ZERO, 0)

    def _of_blocks(self, first: int, last: int, hole_kind: Kind | MapKind) -> Extents:
        entries = self.block_map.entries(first, last)
        is_data = entries < ZERO
        free = Kind.UNALLOCATED if self.has_backing else Kind.ZERO
        kind = np.where(is_data, np.uint8(Kind.DATA), np.where(entries == FREE, np.uint8(free), np.uint8(Kind.ZERO)))
        host = np.where(is_data, self.block_map.places(np.where(is_data, entries, np.uint32(0))), 0)
        file = np.where(kind == Kind.UNALLOCATED, np.int16(NO_FILE), np.int16(0))
        size = self.header.block_size
        found = Extents(np.arange(first, last, dtype=np.int64) * size, kind, file, host, last * size)
        if _is_sector_aligned(self.header):
            return without_holes(found.merged(), self._data, hole_kind)
        return self._without_whole_holes(found, hole_kind).merged()

    def _without_whole_holes(self, blocks: Extents, hole_kind: Kind | MapKind) -> Extents:
        """Return `blocks`, those that lie whole in holes as `hole_kind`.

        Where blocks do not begin at sectors of the file, its holes do not end where sectors of the disk do.
        """
        hole = (blocks.kind == Kind.DATA) & self._data.is_apart_from(blocks.host, blocks.host + blocks.length)
        kind = np.where(hole, np.uint8(hole_kind), blocks.kind)
        host = np.where(hole & (hole_kind == Kind.ZERO), 0, blocks.host)
        return Extents(blocks.start, kind, blocks.file, host, blocks.end)


def _is_sector_aligned(header: Header) -> bool:
    return header.first_block % SECTOR == 0 and header.block_space % SECTOR == 0
