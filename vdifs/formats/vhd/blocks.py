"""The blocks of a VHD that its block allocation table places in the file: docs/formats.md, VHD, and "Bounds".

file    |copy|header|  BAT  |bm|==data==|  |bm|==data==|bm|==data==|footer|
sector                       ^ entry        ^            ^
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.formats.vhd.footer import FOOTER_LENGTH, RESTORE
from vdifs.formats.vhd.header import HEADER_LENGTH, Header
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR, ceil_div

__all__ = ["Blocks", "FilePlaces"]

_ABSENT = 0xFFFFFFFF
_AT_ONCE = 1 << 20
"""Bytes of the table."""
_ENTRIES_AT_ONCE = _AT_ONCE // 4
_PERHAPS_SPLIT = "the file may be one of several that a disk was split into (.vhd, .v01, ...)"


@dataclass(frozen=True, slots=True)
class FilePlaces:
    """What else lies in the file, in bytes. header: where the header is. end: where blocks must end at the latest."""

    header: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The blocks that are in the file, but those of which no sector is: parallel arrays in guest order.

    index: int32, of the block on the disk. sector: uint32, of its bitmap in the file.
    """

    index: NDArray[np.int32]
    sector: NDArray[np.uint32]

    @classmethod
    def load(cls, file: HostFile, header: Header, size: int, places: FilePlaces, written: Ranges) -> "Blocks":
        """Read the entries that a disk of `size` bytes needs; written: where the file has data.

        Raises FormatError for blocks that overlap anything, or end behind `places.end`.
        """
        space = header.bitmap_space + header.block_size
        index, sector = _used(file, header, ceil_div(size, header.block_size), places.end // space)
        if len(sector) and int(sector.max()) * SECTOR + space > places.end:
            at = int((sector > (places.end - space) // SECTOR).argmax())
            place = int(sector[at]) * SECTOR
            raise FormatError(
                f"block {int(index[at])} at {place:#x} would end at {place + space:#x}, where all end"
                f" at {places.end:#x}; {_PERHAPS_SPLIT}",
                where=file.name,
                remedy=CUT_SHORT,
            )
        _check_apart(file, header, index, sector, places)
        kept = np.empty(len(sector), bool)
        for at in range(0, len(sector), _ENTRIES_AT_ONCE):
            give_way(heavy=len(sector) > _ENTRIES_AT_ONCE)
            start = sector[at : at + _ENTRIES_AT_ONCE].astype(np.int64) * SECTOR
            kept[at : at + len(start)] = ~written.is_apart_from(start, start + header.bitmap_length)
        return cls(index, sector) if kept.all() else cls(index[kept], sector[kept])  # a bitmap in a hole says: not here

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.index.nbytes + self.sector.nbytes

    def guest_ranges(self, block_size: int, size: int) -> NDArray[np.int64]:
        """Return which parts of a disk of `size` bytes they map, neighbours joined: int64, shape (n, 2)."""
        if not len(self.index):
            return np.empty((0, 2), np.int64)
        breaks = np.diff(self.index) != 1
        first = self.index[np.append(True, breaks)].astype(np.int64) * block_size
        last = (self.index[np.append(breaks, True)].astype(np.int64) + 1) * block_size
        return np.stack([first, np.minimum(last, size)], 1)


def _used(file: HostFile, header: Header, count: int, most: int) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
    """Return index and sector of the entries in use, of the first `count`. Refuses more than `most` as it reads."""
    indices, sectors = [np.empty(0, np.int32)], [np.empty(0, np.uint32)]
    length = count * 4
    for at in range(0, length, _AT_ONCE):
        give_way(heavy=length > _AT_ONCE)
        part = np.frombuffer(file.read_at(header.bat_offset + at, min(_AT_ONCE, length - at)), ">u4")
        used = np.flatnonzero(part != _ABSENT)
        most -= len(used)
        if most < 0:
            what = "its block allocation table has more entries in use than blocks fit into the file"
            raise FormatError(f"{what}; {_PERHAPS_SPLIT}", where=file.name, remedy=CUT_SHORT)
        indices.append((used + at // 4).astype(np.int32))
        sectors.append(part[used].astype(np.uint32))
    return np.concatenate(indices), np.concatenate(sectors)


def _check_apart(
    file: HostFile, header: Header, index: NDArray[np.int32], sector: NDArray[np.uint32], places: FilePlaces
) -> None:
    """Refuse blocks that overlap one another, the copy of the footer, the header or the table."""
    space = header.bitmap_space + header.block_size
    ordered = np.sort(sector)
    for at in range(0, len(ordered), _ENTRIES_AT_ONCE):
        give_way(heavy=len(sector) > _ENTRIES_AT_ONCE)
        part = ordered[at : at + _ENTRIES_AT_ONCE + 1]
        close = np.flatnonzero(np.diff(part) < space // SECTOR)
        if len(close):
            pair = part[close[0] : close[0] + 2]
            first, second = np.flatnonzero((sector >= pair[0]) & (sector <= pair[1]))[:2].tolist()
            what = f"its blocks {index[first]} and {index[second]} overlap at {int(pair[1]) * SECTOR:#x}"
            raise FormatError(what, where=file.name, remedy=RESTORE)
    for name, place, length in (
        ("the copy of its footer", 0, FOOTER_LENGTH),
        ("its header", places.header, HEADER_LENGTH),
        ("its block allocation table", header.bat_offset, header.bat_length),
    ):
        behind = min(ceil_div(place + length, SECTOR), _ABSENT)
        last = int(ordered.searchsorted(np.uint32(behind), "left")) - 1
        if last >= 0 and int(ordered[last]) * SECTOR + space > place:
            block = int(index[(sector == ordered[last]).argmax()])
            what = f"its block {block} at {int(ordered[last]) * SECTOR:#x} overlaps {name}"
            raise FormatError(what, where=file.name, remedy=RESTORE)
