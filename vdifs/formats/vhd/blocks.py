"""The blocks of a VHD that its block allocation table places in the file: docs/formats.md, VHD, and "Bounds".

file    |copy|header|  BAT  |bm|==data==|  |bm|==data==|bm|==data==|footer|
sector                       ^ entry        ^            ^

All of the table is looked at once, when the image is opened; what is kept follows how scattered the blocks are on the
disk, within bounds. Then entries are read when they are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.formats.vhd.footer import FOOTER_LENGTH, RESTORE
from vdifs.formats.vhd.header import HEADER_LENGTH, Header
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.units import SECTOR, ceil_div

__all__ = ["Blocks", "FilePlaces", "Used", "edges_of"]

_ABSENT = 0xFFFFFFFF
_ENTRY = 4
_AT_ONCE = 1 << 16
"""So many entries are looked at together: 256 KiB, and 5 MiB for what is made of them."""
_SORTED_AT_ONCE = 1 << 22
"""So many blocks are compared with one another together: 16 MiB. Where there are more, the table is read again."""
_BUCKET_BITS = 20
"""Sectors of the file, as a power of two, in a bucket: no more blocks fit into one than `_SORTED_AT_ONCE`."""
_MOST_UNITS_BITS = 18
"""Where the disk has more blocks than this power of two, some neighbours are taken together in `populated`."""
_PERHAPS_SPLIT = "the file may be one of several that a disk was split into (.vhd, .v01, ...)"


@dataclass(frozen=True, slots=True)
class FilePlaces:
    """What else lies in the file, in bytes. header: where the header is. end: where blocks must end at the latest."""

    header: int
    end: int


class Used(NamedTuple):
    """Blocks that are in the file: parallel arrays, int64, in guest order.

    number: of the block on the disk. place: of its bitmap in the file, in bytes.
    """

    number: NDArray[np.int64]
    place: NDArray[np.int64]


class Blocks:
    """The entries that the disk needs."""

    def __init__(self, file: HostFile, header: Header, size: int, places: FilePlaces, written: Ranges) -> None:
        """Look at all entries that a disk of `size` bytes needs. written: where the file has data.

        Raises FormatError for blocks that overlap anything, or end behind `places.end`, StorageError.
        """
        self._file = file
        self._header = header
        self.count = ceil_div(size, header.block_size)
        """Blocks of the disk."""
        self.unit_bits = max(0, (self.count - 1).bit_length() - _MOST_UNITS_BITS)
        """Of so many blocks, as a power of two, the ranges in `populated` are."""
        self._places = places
        self._written = written
        self._space = header.bitmap_space + header.block_size
        self.populated = self._look()
        """The ranges of blocks outside of which none is in the file."""

    def within(self, first: int, last: int) -> Used:
        """Return those of the blocks [first, last) of the disk of which any sector is in the file.

        Raises FormatError for a block that ends behind all that may, StorageError.
        """
        found = self._read(first, last)
        self._check_ends(found)
        start = found.place
        kept = ~self._written.is_apart_from(start, start + self._header.bitmap_length)
        return found if kept.all() else Used(found.number[kept], start[kept])  # a bitmap in a hole says: not here

    def parts(self) -> Iterator[Used]:
        """Yield all blocks that are in the file, some at a time. Raises the same."""
        for low, high in self.populated.rows.tolist():
            for first in range(low, high, _AT_ONCE):
                yield self.within(first, min(first + _AT_ONCE, high))

    def _read(self, first: int, last: int) -> Used:
        """Return the entries in use of the blocks [first, last). Raises StorageError."""
        offset = self._header.bat_offset + first * _ENTRY
        entries = np.frombuffer(self._file.read_at(offset, (last - first) * _ENTRY), ">u4")
        used = np.flatnonzero(entries != _ABSENT)
        return Used(used + first, entries[used].astype(np.int64) * SECTOR)

    def _check_ends(self, found: Used) -> None:
        beyond = found.place > self._places.end - self._space
        if beyond.any():
            at = int(beyond.argmax())
            place = int(found.place[at])
            what = f"block {int(found.number[at])} at {place:#x} would end at {place + self._space:#x}, where all end"
            raise FormatError(
                f"{what} at {self._places.end:#x}; {_PERHAPS_SPLIT}", where=self._file.name, remedy=CUT_SHORT
            )

    def _all(self) -> Iterator[Used]:
        for first in range(0, self.count, _AT_ONCE):
            give_way(heavy=self.count > _AT_ONCE)
            yield self._read(first, min(first + _AT_ONCE, self.count))

    def _look(self) -> Ranges:
        """Return `populated`. Refuses more blocks than fit into the file as it reads, and those that overlap."""
        bits = self.unit_bits
        most, fill = self._places.end // self._space, 0
        sectors = np.empty(min(self.count, most, _SORTED_AT_ONCE), np.uint32)
        buckets = np.zeros((min(self._places.end // SECTOR, _ABSENT) >> _BUCKET_BITS) + 1, np.int64)
        units = [np.empty(0, np.int64)]
        for found in self._all():
            fill += len(found.number)
            if fill > most:
                what = "its block allocation table has more entries in use than blocks fit into the file"
                raise FormatError(f"{what}; {_PERHAPS_SPLIT}", where=self._file.name, remedy=CUT_SHORT)
            self._check_ends(found)
            self._check_off_tables(found)
            own = (found.place // SECTOR).astype(np.uint32)
            if fill <= len(sectors):
                sectors[fill - len(own) : fill] = own
            buckets += np.bincount(own >> _BUCKET_BITS, minlength=len(buckets))
            kept = ~self._written.is_apart_from(found.place, found.place + self._header.bitmap_length)
            units.append(edges_of(found.number[kept] >> bits))
        if fill <= len(sectors):
            self._check_apart(sectors[:fill], None)
        else:
            self._check_all_apart(buckets, sectors)
        return Ranges.union(np.concatenate(units).reshape(-1, 2)).finer(bits).clip(0, self.count)

    def _check_all_apart(self, buckets: NDArray[np.int64], memory: NDArray[np.uint32]) -> None:
        """Refuse blocks that overlap, where not all of them fit into `memory`: those of some buckets at a time.

        A bucket of so many that they do not fit has some that overlap, whichever of them are looked at.
        """
        before, low = None, 0
        while low < len(buckets):
            fits = int(buckets[low:].cumsum().searchsorted(len(memory), "right"))
            high, fill = low + max(1, fits), 0
            for found in self._all():
                own = (found.place // SECTOR).astype(np.uint32)
                own = own[(own >> _BUCKET_BITS >= low) & (own >> _BUCKET_BITS < high)][: len(memory) - fill]
                memory[fill : fill + len(own)] = own
                fill += len(own)
            before = self._check_apart(memory[:fill], before)
            low = high

    def _check_apart(self, sectors: NDArray[np.uint32], before: int | None) -> int | None:
        """Refuse blocks that overlap one another, or the block that begins at `before`; return where the last begins.

        Sorts `sectors`, of their bitmaps.
        """
        sectors.sort()
        for at in range(0, len(sectors), _AT_ONCE):
            give_way(heavy=len(sectors) > _AT_ONCE)
            part = sectors[at : at + _AT_ONCE + 1].astype(np.int64)
            if before is not None and not at:
                part = np.append(before, part)
            close = np.flatnonzero(np.diff(part) < self._space // SECTOR)
            if len(close):
                raise self._overlapping(*part[close[0] : close[0] + 2].tolist())
        return int(sectors[-1]) if len(sectors) else before

    def _overlapping(self, first: int, second: int) -> FormatError:
        """Return the error for the blocks whose bitmaps are at these sectors."""
        indices: list[int] = []
        for index, place in self._all():
            indices += index[(place == first * SECTOR) | (place == second * SECTOR)][:2].tolist()
        what = f"its blocks {indices[0]} and {indices[1]} overlap at {second * SECTOR:#x}"
        return FormatError(what, where=self._file.name, remedy=RESTORE)

    def _check_off_tables(self, found: Used) -> None:
        """Refuse blocks that overlap the copy of the footer, the header or the table."""
        header = self._header
        for name, place, length in (
            ("the copy of its footer", 0, FOOTER_LENGTH),
            ("its header", self._places.header, HEADER_LENGTH),
            ("its block allocation table", header.bat_offset, header.bat_length),
        ):
            hit = (found.place < place + length) & (found.place > place - self._space)
            if hit.any():
                at = int(hit.argmax())
                what = f"its block {int(found.number[at])} at {int(found.place[at]):#x} overlaps {name}"
                raise FormatError(what, where=self._file.name, remedy=RESTORE)


def edges_of(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where runs of sorted numbers start and stop, in turns: int64. Numbers may come more than once."""
    if not len(numbers):
        return numbers
    breaks = np.diff(numbers) > 1
    starts, stops = numbers[np.append(True, breaks)], numbers[np.append(breaks, True)] + 1
    return np.stack([starts, stops], 1).reshape(-1)
