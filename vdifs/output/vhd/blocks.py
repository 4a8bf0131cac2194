"""The blocks of a dynamic VHD, window by window: which of them are stored, and what they are made of."""

from dataclasses import dataclass
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

GRANULARITY: Final = Granularity(13, BLOCK_BITS)
"""Units so small that a window has 512 MiB: to read a few bytes, no more than that is resolved."""
_WHOLE_BLOCKS: Final = Granularity(BLOCK_BITS, BLOCK_BITS)
_ABSENT: Final = 0xFFFFFFFF
_SECTOR_BITS: Final = 9

_Ranks = NDArray[np.int64]
"""Of each block of a window: how many of the window are stored before it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """stored: bool, of each block. pieces: of those that are, and of what is in front of each."""

    stored: NDArray[np.bool_]
    pieces: Pieces

    @property
    def nbytes(self) -> int:
        return self.stored.nbytes + self.pieces.nbytes


class Blocks:
    """The blocks of one output. Safe to use from several threads."""

    def __init__(self, allocation: Allocation, summary: Summary) -> None:
        """Resolves nothing yet; summary: of `allocation`."""
        self._allocation, self._summary = allocation, summary
        self._kept: KeptWindows[_Window] = KeptWindows(allocation.chain)

    def pieces(self, window: int, wait: bool) -> Pieces:
        """Return what the stored blocks of a window are made of, one after the other, each of STRIDE bytes.

        wait=False: raises WouldBlock if the window has to be resolved first.
        """
        return self._kept.get(window, self._resolve, wait=wait).pieces

    def entries(self, first: int, last: int, offset: int, wait: bool) -> NDArray[np.uint32]:
        """Return the entries [first, last) of the block allocation table, of blocks of the disk: uint32.

        offset: of the first stored block in the output. wait: as for `pieces`, of windows that are neither empty nor
        stored whole: of those no table need be read.
        """
        found = np.full(last - first, _ABSENT, np.uint32)
        windows, stored = self._summary.windows, self._summary.stored
        at = first
        while at < last:
            window, start, end = windows.locate(at << BLOCK_BITS)
            low, high = start >> BLOCK_BITS, -(-end >> BLOCK_BITS)
            before, behind = stored.before(window), stored.before(window + 1)
            stop = min(high, last)
            if before < behind:
                whole = behind - before == high - low
                flags = np.ones(high - low, np.bool_) if whole else self._stored(window, wait)
                place = offset + BITMAP_AT + (before + _ranks(flags)) * STRIDE
                part = slice(at - low, stop - low)
                found[at - first : stop - first][flags[part]] = place[part][flags[part]] >> _SECTOR_BITS
            at = stop
        return found

    def _stored(self, window: int, wait: bool) -> NDArray[np.bool_]:
        return self._kept.get(window, self._resolve, wait=wait).stored

    def _resolve(self, index: int) -> _Window:
        extents = self._allocation.extents(index)
        data = extents.kind >= Kind.DATA
        states = unit_states(extents, BLOCK_BITS, data, data)
        stored = states == State.DATA
        starts = _ranks(stored) * STRIDE
        pieces = stored_pieces(extents, states, _WHOLE_BLOCKS, starts + DATA_AT)
        return _Window(stored, _with_bitmaps(pieces, starts[stored] + BITMAP_AT))


def _ranks(stored: NDArray[np.bool_]) -> _Ranks:
    ranks: _Ranks = np.cumsum(stored) - stored
    return ranks


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
