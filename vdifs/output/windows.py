"""The windows of a disk: which part of it is resolved, and kept, together.

They begin at every multiple of one size, and besides where a window of that size would be too much work:

    size     |-------------|-------------|-------------|-------------|
    cuts                   .     |    |  |  |          .
    windows  |      0      |  1  | 2  |3 | 4|    5     |      6      |
"""

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["Windows"]


class Windows:
    """The windows of [0, end). A cut is kept in some bytes, and of those without cuts nothing."""

    def __init__(self, size: int, end: int, cuts: Sequence[int] = ()) -> None:
        """Take the offsets `cuts`, sorted, none of them a multiple of `size`."""
        self.size, self.end = size, end
        self._cuts = cuts
        self._first_after = [cut // size + number for number, cut in enumerate(cuts, 1)]
        """The window that begins at each cut."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return 256 + 100 * len(self._cuts)

    def at(self, offset: int) -> int:
        """Return the index of the window that holds the byte at `offset`."""
        return offset // self.size + (bisect_right(self._cuts, offset) if self._cuts else 0)

    def locate(self, offset: int) -> tuple[int, int, int]:
        """Return the index of the window that holds the byte at `offset`, where it begins and where it ends."""
        if self._cuts:
            index = self.at(offset)
            return index, *self.range(index)
        index, at = divmod(offset, self.size)
        start = offset - at
        return index, start, min(start + self.size, self.end)

    def range(self, index: int) -> tuple[int, int]:
        """Return where a window begins and where it ends."""
        if not self._cuts:
            return index * self.size, min(index * self.size + self.size, self.end)
        before = bisect_right(self._first_after, index)
        start = (index - before) * self.size
        end = min(start + self.size, self.end)
        if before:
            start = max(start, self._cuts[before - 1])
        if before < len(self._cuts):
            end = min(end, self._cuts[before])
        return start, end
