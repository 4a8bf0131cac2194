"""The grains of a synthetic VMDK that hold data, window by window, and the area of the file in which they are stored.

disk    |  window 0   |  window 1   |  window 2   |
grains    ====  ==                    ==   =======
area    [g][g][g]...[g][g][g]...                    all of one length
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.output.allocation import Allocation
from vdifs.output.granularity import Granularity
from vdifs.output.kept_windows import KeptWindows
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region
from vdifs.output.vmdk.grain import FRAME, GRAIN_BITS, GRAIN_SIZE, STORED_SIZE, fill_stored, holds_sum, pieces_of
from vdifs.output.vmdk.layout import TABLE_BITS
from vdifs.output.window import Pieces, State, stored_pieces
from vdifs.output.window_sums import WindowSums

__all__ = ["GRANULARITY", "GrainArea", "GrainWindow", "Grains"]

GRANULARITY = Granularity(GRAIN_BITS, GRAIN_BITS, TABLE_BITS)
_AT_ONCE = 32
"""Grains of a request that are read together: they stay in a processor's own cache until they are where they belong."""


@dataclass(frozen=True, slots=True, eq=False)
class GrainWindow:
    """The grains of one window that hold data. indices: int64, which of the disk they are, sorted.

    pieces: their data, one after the other.
    """

    indices: NDArray[np.int64]
    pieces: Pieces

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what Python adds."""
        return self.indices.nbytes + self.pieces.nbytes


class Grains:
    """The windows of one output."""

    def __init__(self, allocation: Allocation) -> None:
        """Resolves nothing yet; allocation: summarized, of GRANULARITY."""
        self._allocation = allocation
        self._kept: KeptWindows[GrainWindow] = KeptWindows(allocation.chain)

    def window(self, index: int, wait: bool) -> GrainWindow:
        """Return a window. wait=False: raises WouldBlock if it has to be resolved first."""
        return self._kept.get(index, self._resolve, wait=wait)

    def _resolve(self, index: int) -> GrainWindow:
        extents = self._allocation.extents(index)
        states = self._allocation.states(extents)
        stored = states == State.DATA
        rank: NDArray[np.int64] = np.cumsum(stored) - stored
        pieces = stored_pieces(extents, states, GRANULARITY, rank << GRAIN_BITS)
        return GrainWindow(np.flatnonzero(stored) + (int(extents.start[0]) >> GRAIN_BITS), pieces)


class GrainArea:
    """The bytes of all stored grains, one after the other."""

    def __init__(self, stored: WindowSums, grains: Grains, allocation: Allocation) -> None:
        """stored: how many grains each window stores."""
        self._sums = stored.times(STORED_SIZE)
        self._grains = grains
        self._reader = PieceReader(allocation.chain)
        self._check_unchanged = allocation.chain.check_unchanged

    def readinto(self, at: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` from byte `at` of the area on, all within it. See Output.readinto."""
        done, end = 0, at + len(buffer)
        while done < len(buffer):
            window, start, stop = self._sums.find(at + done)
            count = min(end, stop) - at - done
            self._read(self._grains.window(window, wait), at + done - start, buffer[done : done + count], wait)
            done += count

    def known(self, at: int, offset: int, *, wait: bool) -> Region:
        """Return the part around byte `at` of the area, which begins at `offset` of the output. See Output.known."""
        window, start, stop = self._sums.find(at)
        pieces = self._grains.window(window, wait).pieces
        return Region(offset + start, offset + stop, pieces, frame=FRAME)

    def _read(self, window: GrainWindow, at: int, buffer: memoryview, wait: bool) -> None:
        """Fill `buffer` from byte `at` of the window's part on: whole grains together, those at the ends alone."""
        done = 0
        while done < len(buffer):
            rank, skip = divmod(at + done, STORED_SIZE)
            whole = 0 if skip else min(_AT_ONCE, (len(buffer) - done) // STORED_SIZE)
            count = whole * STORED_SIZE or min(STORED_SIZE - skip, len(buffer) - done)
            target = buffer[done : done + count]
            if whole:
                self._read_whole(window, rank, target, wait)
            elif holds_sum(skip, skip + count):
                stored = memoryview(bytearray(STORED_SIZE))
                self._read_whole(window, rank, stored, wait)
                target[:] = stored[skip : skip + count]
            else:
                self._read_part(window, rank, skip, target, wait)
            done += count

    def _read_whole(self, window: GrainWindow, rank: int, buffer: memoryview, wait: bool) -> None:
        """Fill `buffer` with the grains from the one of `rank` in the window on."""
        count = len(buffer) // STORED_SIZE
        data = np.empty((count, GRAIN_SIZE), np.uint8)
        self._reader.readinto(window.pieces, rank << GRAIN_BITS, data.reshape(-1).data, wait=wait)
        stored = np.frombuffer(buffer, np.uint8).reshape(count, STORED_SIZE)
        fill_stored(stored, window.indices[rank : rank + count], data)

    def _read_part(self, window: GrainWindow, rank: int, skip: int, buffer: memoryview, wait: bool) -> None:
        """Fill `buffer` from byte `skip` of one grain on, without its sum: only data that are asked for are read."""
        read = False
        for at, target in pieces_of(int(window.indices[rank]), skip, buffer):
            self._reader.readinto(window.pieces, (rank << GRAIN_BITS) + at, target, wait=wait)
            read = True
        if not read:
            self._check_unchanged()
