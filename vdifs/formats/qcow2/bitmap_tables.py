"""The tables of dirty bitmaps, which lead to the bits: whether their entries are in order."""

import numpy as np

from vdifs.errors import FormatError

__all__ = ["check_bitmap_table"]

_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
_ALL_ONES = 1 << 0
"""Of a bitmap table's entry without offset: its part of the bitmap is all ones, otherwise all zeros."""


def check_bitmap_table(table: bytes, cluster_size: int) -> None:
    """Raise FormatError for an entry of a bitmap's `table` that breaks a rule, as check_table_entry of QEMU.

    None may have a reserved bit, an unaligned offset, or bit 0, all ones, together with an offset.
    """
    entries = np.frombuffer(table, ">u8").astype(np.uint64)
    offsets = entries & np.uint64(_OFFSET_MASK)
    wrong = (entries & ~np.uint64(_OFFSET_MASK | _ALL_ONES)) != 0
    wrong |= (offsets != 0) & ((entries & np.uint64(_ALL_ONES | cluster_size - 1)) != 0)
    if wrong.any():
        index = int(wrong.argmax())
        raise FormatError(f"entry {index} is {int(entries[index]):#x}, which is no offset, no zeros and no ones")
