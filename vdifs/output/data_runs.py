"""Where a disk has data and where holes, as SEEK_DATA and SEEK_HOLE ask.

The summary tells which windows hold no data and which nothing else, so no search leads through them, however many they
are. It looks into two windows at most: the one it begins in, and the one that has the answer. Reads keep the same ones.

    windows     |        | ==     |========|========|====    |        |
    data          none     some      all      all      some     none
    data from        x----->x
    hole from                           x------------------->x
"""

from bisect import bisect_right
from collections.abc import Callable

from vdifs.output.summary import Summary
from vdifs.output.window import Pieces

__all__ = ["DataRuns"]

_PIECES_AT_ONCE = 16
"""Of a run of data, looked at together, and twice as many each time."""


class DataRuns:
    """The runs of data of one disk, neighbouring ones joined. Safe to use from several threads."""

    def __init__(self, summary: Summary, pieces: Callable[[int], Pieces]) -> None:
        """summary: of the disk, with no base. pieces: returns what a window is made of, from its start on.

        `pieces` raises what resolving does, and so do the methods.
        """
        self._windows, self._stored, self._full = summary.windows, summary.stored, summary.full
        self._pieces = pieces

    def data_from(self, offset: int) -> int:
        """Return where the first data from `offset` on begin, the end of the disk if there are none."""
        window = self._stored.next_with_any(self._windows.at(offset))
        while window is not None:
            start, _ = self._windows.range(window)
            at = max(offset, start)
            if self._full.first_outside(window) != window:
                return at
            if (found := _data_from(self._pieces(window), at - start)) is not None:
                return start + found
            window = self._stored.next_with_any(window + 1)
        return self._windows.end

    def hole_from(self, offset: int) -> int:
        """Return where the first hole from `offset` on begins, the end of the disk if there is none."""
        window = self._full.first_outside(self._windows.at(offset))
        start, stop = self._windows.range(window)
        while start < self._windows.end:
            at = max(offset, start)
            if self._stored.next_with_any(window) != window:
                return at
            if (found := start + _hole_from(self._pieces(window), at - start)) < stop:
                return found
            window = self._full.first_outside(window + 1)
            start, stop = self._windows.range(window)
        return self._windows.end


def _data_from(pieces: Pieces, at: int) -> int | None:
    index = bisect_right(pieces.stop.data, at)
    return max(at, pieces.out.item(index)) if index < len(pieces.out) else None


def _hole_from(pieces: Pieces, at: int) -> int:
    index = bisect_right(pieces.stop.data, at)
    if index == len(pieces.out) or pieces.out.item(index) > at:
        return at
    return pieces.stop.item(_last_of_run(pieces, index))


def _last_of_run(pieces: Pieces, index: int) -> int:
    """Return the index of the last piece that follows the one at `index` without a gap, or of that one itself."""
    count = _PIECES_AT_ONCE
    while len(following := pieces.out[index + 1 : index + 1 + count]):
        apart = following != pieces.stop[index : index + len(following)]
        first = int(apart.argmax())
        if apart[first]:
            return index + first
        index += len(following)
        count *= 2
    return index
