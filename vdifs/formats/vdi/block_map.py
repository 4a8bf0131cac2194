"""The block map of a VDI: which block in the file holds which block of the disk: docs/formats.md, VDI, "Bounds".

file    |header|  map  |  |extra|==data==|extra|==data==|extra|==data==|
entry                     0              1              2

All of it is looked at once, when the image is opened; what is kept follows how scattered it is, within bounds. Then
entries are read when they are asked for.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError
from vdifs.formats.vdi.header import RESTORE, Header
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile

__all__ = ["FREE", "ZERO", "BlockMap"]

FREE, ZERO = 0xFFFFFFFF, 0xFFFFFFFE
_ENTRY = 4
_AT_ONCE = 1 << 18
"""So many entries are looked at together: 1 MiB."""
_MOST_UNITS_BITS = 18
"""Where the disk has more blocks than this power of two, some neighbours are taken together in `populated`."""

_Entries = NDArray[np.uint32]


class BlockMap:
    """The entries that the disk needs, each checked whenever it is read."""

    def __init__(self, file: HostFile, header: Header) -> None:
        """Look at all entries. Raises FormatError where two are the same, or one is beyond the end, StorageError."""
        self.file = file
        self.header = header
        self._fits = max(0, file.size - header.data_offset) // header.block_space
        self.populated, self.data_blocks = self._look()

    def entries(self, first: int, last: int) -> _Entries:
        """Return the entries of blocks [first, last) of the disk: uint32. Raises FormatError, StorageError."""
        offset = self.header.map_offset + first * _ENTRY
        found = np.frombuffer(self.file.read_at(offset, (last - first) * _ENTRY), "<u4").astype(np.uint32, copy=False)
        beyond = (found >= self._fits) & (found < ZERO)
        if beyond.any():
            at = int(beyond.argmax())
            self._check_cut(first + at, int(found[at]))
        return found

    def places(self, entries: _Entries) -> NDArray[np.int64]:
        """Return where the data of entries that are neither FREE nor ZERO begin in the file: int64."""
        return entries.astype(np.int64) * self.header.block_space + self.header.first_block

    def _check_cut(self, index: int, entry: int) -> None:
        """Refuse a block that is not whole in the file, but the last of the disk, of which the disk's end is enough."""
        header = self.header
        start = header.first_block + entry * header.block_space
        end = start + min(header.block_size, header.virtual_size - index * header.block_size)
        if end > self.file.size:
            what = f"block {index} at {start:#x} would end at {end:#x}, beyond the end of the file"
            raise FormatError(f"{what} at {self.file.size:#x}", where=self.file.name, remedy=CUT_SHORT)

    def _parts(self) -> Iterator[tuple[int, _Entries]]:
        """Yield the index of the first entry of each part, and the part."""
        count = self.header.disk_blocks
        for first in range(0, count, _AT_ONCE):
            give_way(heavy=count > _AT_ONCE)
            yield first, self.entries(first, min(first + _AT_ONCE, count))

    def _look(self) -> tuple[Ranges, int]:
        """Return the ranges of blocks that the image says anything of, and how many blocks it has in the file."""
        count = self.header.disk_blocks
        bits = max(0, (count - 1).bit_length() - _MOST_UNITS_BITS)
        nothing = FREE if self.header.is_differencing else ZERO  # zeros of a child hide what is below them
        used, fill = np.empty(min(count, self._fits + 1), np.uint32), 0
        units = [np.empty(0, np.int64)]
        for first, part in self._parts():
            data = part[part < ZERO]
            if fill + len(data) > len(used):
                what = "its block map has more entries in use than blocks fit into the file"
                raise FormatError(what, where=self.file.name, remedy=CUT_SHORT)
            used[fill : fill + len(data)] = data
            fill += len(data)
            said = np.flatnonzero(np.logical_or.reduceat(part < nothing, np.arange(0, len(part), 1 << bits)))
            units.append(_edges(said + (first >> bits)))
        self._check_once(used[:fill])
        return Ranges.union(np.concatenate(units).reshape(-1, 2)).finer(bits), fill

    def _check_once(self, used: _Entries) -> None:
        """Refuse a block of the file that two blocks of the disk have. Sorts `used`."""
        used.sort()
        for at in range(0, len(used), _AT_ONCE):
            part = used[at : at + _AT_ONCE + 1]
            twice = np.flatnonzero(part[1:] == part[:-1])
            if len(twice):
                raise self._twice(int(part[twice[0]]))

    def _twice(self, entry: int) -> FormatError:
        blocks = [first + at for first, part in self._parts() for at in np.flatnonzero(part == entry).tolist()[:2]]
        what = f"its blocks {' and '.join(map(str, blocks[:2]))} lie at the same place, {entry} in its block map"
        return FormatError(what, where=self.file.name, remedy=RESTORE)


def _edges(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where runs of sorted numbers start and stop, in turns: int64."""
    if not len(numbers):
        return numbers
    breaks = np.diff(numbers) != 1
    starts, stops = numbers[np.append(True, breaks)], numbers[np.append(breaks, True)] + 1
    return np.stack([starts, stops], 1).reshape(-1)
