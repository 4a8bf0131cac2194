"""The blocks of a dynamic VHD: which of them are stored, and, window by window, what they are made of."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vdifs.extents import NO_FILE, Kind
from vdifs.output.allocation import Allocation
from vdifs.output.granularity import Granularity
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.summary import Summary
from vdifs.output.vhd.layout import BITMAP_AT, BITMAP_LENGTH, BLOCK_BITS, DATA_AT, STRIDE
from vdifs.output.window import ONES, Pieces, State, stored_pieces, unit_states

__all__ = ["GRANULARITY", "Blocks"]

GRANULARITY: Final = Granularity(13, BLOCK_BITS, BLOCK_BITS)
"""Units so small that a window has 512 MiB: to read a few bytes, no more than that is resolved. What is held is known
of each block, as if it were a table."""
_WHOLE_BLOCKS: Final = Granularity(BLOCK_BITS, BLOCK_BITS)
_ABSENT: Final = 0xFFFFFFFF
_SECTOR_BITS: Final = 9


class Blocks:
    """The blocks of one output. Safe to use from several threads."""

    def __init__(self, allocation: Allocation, summary: Summary) -> None:
        """Resolves nothing yet; summary: of `allocation`."""
        self._allocation, self._stored = allocation, summary.tables
        self._kept: KeptWindows[Pieces] = KeptWindows(allocation.chain)

    def pieces(self, window: int, wait: bool) -> Pieces:
        """Return what the stored blocks of a window are made of, one after the other, each of STRIDE bytes.

        wait=False: raises WouldBlock if the window has to be resolved first.
        """
        return self._kept.get(window, self._resolve, wait=wait)

    def entries(self, first: int, last: int, offset: int) -> NDArray[np.uint32]:
        """Return the entries [first, last) of the block allocation table, of blocks of the disk: uint32.

        offset: of the first stored block in the output. Resolves nothing.
        """
        stored = self._stored.between(first, last)
        rank = self._stored.rank(first) + np.cumsum(stored) - 1
        bitmap = offset + BITMAP_AT + rank * STRIDE >> _SECTOR_BITS
        return np.where(stored, bitmap, _ABSENT).astype(np.uint32)

    def _resolve(self, index: int) -> Pieces:
        extents = self._allocation.extents(index)
        data = extents.kind >= Kind.DATA
        states = unit_states(extents, BLOCK_BITS, data, data)
        stored = states == State.DATA
        starts = (np.cumsum(stored) - stored) * STRIDE
        pieces = stored_pieces(extents, states, _WHOLE_BLOCKS, starts + DATA_AT)
        return _with_bitmaps(pieces, starts[stored] + BITMAP_AT)


def _with_bitmaps(pieces: Pieces, places: NDArray[np.int64]) -> Pieces:
    """Return the pieces with the bitmaps between them, which say that all sectors of a stored block are there."""
    count = len(places)
    zeros, ones = np.zeros(count, np.int64), np.full(count, ONES, np.uint8)
    bitmaps = Pieces(places, places + BITMAP_LENGTH, zeros, ones, np.full(count, NO_FILE, np.int16), zeros)
    out = np.concatenate([pieces.out, bitmaps.out])
    order = out.argsort(kind="stable")
    return Pieces(
        out[order],
        np.concatenate([pieces.stop, bitmaps.stop])[order],
        np.concatenate([pieces.guest, bitmaps.guest])[order],
        np.concatenate([pieces.kind, bitmaps.kind])[order],
        np.concatenate([pieces.file, bitmaps.file])[order],
        np.concatenate([pieces.host, bitmaps.host])[order],
    )
