"""Where everything lies in a dynamic VHD, from two numbers alone: the blocks of the disk and those that are stored.

0       copy of the footer
512     header
1536    block allocation table: for each block of the disk where its bitmap is, in sectors; filled up with FF
4 KiB   stored blocks, in guest order, each with what is in front of it:
        |seven sectors of zeros|bitmap|data of 2 MiB|          so all data lie at multiples of 4 KiB, as
        ^ a multiple of 4 KiB                                  Windows has them; the last block is whole too
then    footer
"""

from dataclasses import dataclass
from typing import Final

from vdifs.formats.vhd.footer import FOOTER_LENGTH
from vdifs.formats.vhd.header import HEADER_LENGTH
from vdifs.units import SECTOR, ceil_div, round_up

__all__ = ["BITMAP_AT", "BITMAP_LENGTH", "BLOCK_BITS", "BLOCK_SIZE", "DATA_AT", "STRIDE", "Layout"]

BLOCK_BITS: Final = 21
BLOCK_SIZE: Final = 1 << BLOCK_BITS
BITMAP_LENGTH: Final = BLOCK_SIZE // SECTOR // 8
DATA_AT: Final = 4096
"""Where the data of a stored block begin behind its own start."""
BITMAP_AT: Final = DATA_AT - BITMAP_LENGTH
STRIDE: Final = DATA_AT + BLOCK_SIZE
"""From the start of one stored block to that of the next."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Output offsets, in bytes. entries: how many the table has."""

    header: int
    table: int
    table_end: int
    entries: int
    blocks: int
    footer: int
    size: int

    @classmethod
    def plan(cls, disk_size: int, stored: int) -> "Layout":
        """Lay out a file with so many stored blocks."""
        entries = ceil_div(disk_size, BLOCK_SIZE)
        table = FOOTER_LENGTH + HEADER_LENGTH
        table_end = round_up(table + 4 * entries, SECTOR)
        blocks = round_up(table_end, DATA_AT)
        footer = blocks + stored * STRIDE
        return cls(FOOTER_LENGTH, table, table_end, entries, blocks, footer, footer + FOOTER_LENGTH)
