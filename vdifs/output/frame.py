"""Guest data in frames: between bytes that are the same everywhere, perhaps with a number and a sum of their own.

    what is carried   [    payload 0   |    payload 1   |  ...
    the file          [literal|run 0|literal|run 1|sum|zeros][ the same of payload 1 ] ...

A value that the data plane understands too: it is only told of ranges that consist of such frames.
"""

from typing import NamedTuple

__all__ = ["Frame"]


class Frame(NamedTuple):
    """What stands in each frame of a range, and where. Offsets and sizes are in bytes, from the start of the frame.

    size: of a frame. payload: of what one carries. runs: (start, stop) of where that lies, one to two, sorted.
    literals: (offset, bytes), at most four of at most 512 bytes, outside of the runs. number_at: where a little-endian
    u64 stands before the first run, the sector of the disk at which the payload begins; -1 for none. sum_at: where a
    big-endian u32 stands behind the last run, the Adler-32 of the payload; -1 for none. All else is zeros.
    """

    size: int
    payload: int
    runs: tuple[tuple[int, int], ...]
    literals: tuple[tuple[int, bytes], ...] = ()
    number_at: int = -1
    sum_at: int = -1

    def carried(self, at: int) -> int:
        """Return how many bytes of payload lie before byte `at` of a range of frames."""
        index, rest = divmod(at, self.size)
        return index * self.payload + sum(min(rest, stop) - start for start, stop in self.runs if start < rest)
