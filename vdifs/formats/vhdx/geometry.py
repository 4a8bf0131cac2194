"""Every quotient and rounding that follows from block, sector and disk size (docs/formats.md, VHDX). Pure.

BAT     |b0|b1|...|b(r-1)|bitmap 0|b(r)|...|b(2r-1)|bitmap 1|...|      r, the chunk ratio: blocks in a chunk
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.vhdx.header import MIB
from vdifs.units import ceil_div

__all__ = ["BITMAP_BITS", "BITMAP_BYTES", "Geometry"]

BITMAP_BYTES = MIB
BITMAP_BITS = 8 * BITMAP_BYTES
"""Sectors in a chunk: its bitmap has a bit for each."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The quantities of one image; sizes in bytes."""

    block_size: int
    sector_size: int
    disk_size: int
    has_parent: bool

    @property
    def ratio(self) -> int:
        """Blocks in a chunk."""
        return BITMAP_BITS * self.sector_size // self.block_size

    @property
    def blocks(self) -> int:
        """Blocks of the disk, the last perhaps in part beyond its end."""
        return ceil_div(self.disk_size, self.block_size)

    @property
    def chunks(self) -> int:
        """Chunks of the disk."""
        return ceil_div(self.blocks, self.ratio)

    @property
    def entries(self) -> int:
        """Entries of the BAT: in a child the bitmap of the last chunk has one too."""
        if self.has_parent:
            return self.chunks * (self.ratio + 1)
        return self.blocks + (self.blocks - 1) // self.ratio

    @property
    def sectors_per_block(self) -> int:
        """Sectors, and bits of a bitmap, in a block."""
        return self.block_size // self.sector_size

    @property
    def last_block_bytes(self) -> int:
        """Bytes of the last block that are within the disk."""
        return self.disk_size - (self.blocks - 1) * self.block_size

    def entry_of_block(self, block: int) -> int:
        """Return the index of a block's entry."""
        return block + block // self.ratio

    def entry_of_bitmap(self, chunk: int) -> int:
        """Return the index of the entry of a chunk's bitmap."""
        return (chunk + 1) * (self.ratio + 1) - 1

    def is_bitmap(self, entries: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which indices are those of bitmaps: bool."""
        found: NDArray[np.bool_] = entries % (self.ratio + 1) == self.ratio
        return found

    def blocks_of(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the blocks whose entries have these indices, none of them a bitmap's."""
        return entries - entries // (self.ratio + 1)

    def bit_place(self, block: int) -> int:
        """Return the offset within its chunk's bitmap of the byte with the first bit of a block."""
        return block % self.ratio * self.sectors_per_block // 8
