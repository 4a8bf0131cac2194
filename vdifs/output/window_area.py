"""The area of an output where what its windows store lies, one after the other, in guest order.

disk    |  window 0   |  window 1   |  window 2   |  window 3   |
stored    ====  ==                    ==   =======  ==
area    [============][==================][====]                   how long each part is, the output has said
"""

from collections.abc import Callable, Iterator

from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region
from vdifs.output.window import Pieces
from vdifs.output.window_sums import WindowSums

__all__ = ["WindowArea"]


class WindowArea:
    """The bytes of one such area. Its part of a window may have any length, and gaps, which are zeros."""

    def __init__(self, sums: WindowSums, pieces: Callable[[int, bool], Pieces], reader: PieceReader) -> None:
        """sums: bytes of the area, by window. pieces: returns what the part of a window is made of.

        pieces(window, wait) raises WouldBlock if not `wait` and it is not known yet, and what resolving does.
        """
        self._sums, self._pieces, self._reader = sums, pieces, reader
        self.size = sums.total

    def readinto(self, at: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` from byte `at` of the area on, all within it. See Output.readinto."""
        done, end = 0, at + len(buffer)
        while done < len(buffer):
            window, start, stop = self._sums.find(at + done)
            count = min(end, stop) - at - done
            pieces = self._pieces(window, wait)
            self._reader.readinto(pieces, at + done - start, buffer[done : done + count], wait=wait)
            done += count

    def known(self, at: int, offset: int, *, wait: bool) -> Region:
        """Return the part around byte `at` of the area, which begins at `offset` of the output. See Output.known."""
        window, start, stop = self._sums.find(at)
        return Region(offset + start, offset + stop, self._pieces(window, wait))

    def regions(self, offset: int) -> Iterator[Region]:
        """Yield the parts that are not empty; offset: of the area in the output."""
        at = 0
        while at < self.size:
            window, start, at = self._sums.find(at)
            yield Region(offset + start, offset + at, self._pieces(window, True))
