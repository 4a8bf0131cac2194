"""Which blocks of a VHD are in the file with every sector: looked up once, when the image is opened.

Nearly all are. Of these no sector bitmap is read again, and none is more than one run: a disk of 2 TiB has a million.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from vdifs.formats.vhd.blocks import Blocks, edges_of
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile

__all__ = ["WholeBlocks", "whole_blocks"]

_AT_ONCE = 1 << 18
"""Bytes of bitmaps that are read together, of at least one block."""


@dataclass(frozen=True, eq=False)
class WholeBlocks:
    """others: ranges of blocks of the disk, outside of which each that is in the file is whole; few within them are."""

    others: Ranges

    @classmethod
    def look(cls, file: HostFile, blocks: Blocks, bitmap_length: int) -> "WholeBlocks":
        """Read the sector bitmaps of all blocks that are in the file. Raises FormatError, StorageError."""
        all_set = b"\xff" * bitmap_length
        others = [np.empty(0, np.int64)]
        step = min(256, max(1, _AT_ONCE // bitmap_length))
        for number, place in blocks.parts():
            found = np.empty(len(number), np.bool_)
            for at in range(0, len(number), step):
                give_way()
                bitmaps = file.read_each(place[at : at + step].tolist(), bitmap_length)
                found[at : at + len(bitmaps)] = [each == all_set for each in bitmaps]
            others.append(edges_of(number[~found] >> blocks.unit_bits))
        units = Ranges.union(np.concatenate(others).reshape(-1, 2))
        return cls(units.finer(blocks.unit_bits).clip(0, blocks.count))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.others.nbytes

    def are_whole(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each of some blocks that are in the file whether it is known to be whole: bool."""
        return ~self.others.contains(numbers)


_known: LRUCache[Hashable, WholeBlocks] = LRUCache(1 << 20, getsizeof=lambda found: found.nbytes + 512)
"""Of the files that were opened last: 1 MiB."""
_lock = Lock()


def whole_blocks(identity: Hashable, file: HostFile, blocks: Blocks, bitmap_length: int) -> WholeBlocks:
    """Return what `WholeBlocks.look` does; identity: of the layer, which tells whether it was found before."""
    with _lock:
        known: WholeBlocks | None = _known.get(identity)
    if known is None:
        known = WholeBlocks.look(file, blocks, bitmap_length)
        if known.nbytes < _known.maxsize // 4:
            with _lock:
                _known[identity] = known
    return known
