"""The area of an output where blocks lie that stay packed, one after the other, in guest order.

    source      |..[====A====]xx[==B==]xxxxxxxxxx|.....|[======C======]xxx|
    area        |  [====A====]00[==B==]0000000000|[======C======]00000000|

Where packed bytes end is found when they are read first, by unpacking them, which proves them besides: what is behind
them in the source (x) is not theirs, and reads as zeros. That is remembered as long as the window is kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.chain.open_chain import Chain
from vdifs.errors import FormatError, WouldBlock
from vdifs.extents import Kind
from vdifs.output.packing import PackableUnits, PackedBlocks
from vdifs.output.piece_reader import clear
from vdifs.output.process_caches import workers
from vdifs.output.protocol import Region
from vdifs.output.unpacked_units import damaged_unit
from vdifs.output.window import Pieces
from vdifs.output.window_sums import WindowSums

__all__ = ["PackedArea", "PackedWindow"]

_UNKNOWN = -1
_AT_ONCE = 4 << 20
"""So many bytes are read before they are unpacked: a bound on memory, not on the request."""
_GROUP = 32
"""So many blocks are one region for those who read without asking: what they hold is known of all or of none."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedWindow:
    """The blocks of a window that stay packed.

    at, length: int64, where each begins in the window's part of the area, and how long it is at most. used: int32, how
    many bytes it takes, -1 as long as that is not known; written by those who find out.
    """

    blocks: PackedBlocks
    at: NDArray[np.int64]
    length: NDArray[np.int64]
    used: NDArray[np.int32]

    @classmethod
    def of(cls, blocks: PackedBlocks) -> "PackedWindow":
        """Return them as they lie, with nothing known of their ends."""
        return cls(blocks, blocks.offsets(), blocks.length, np.full(len(blocks.block), _UNKNOWN, np.int32))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 46 * len(self.at)


class PackedArea:
    """The bytes of that area. Safe to use from several threads."""

    def __init__(
        self, sums: WindowSums, window: Callable[[int, bool], PackedWindow], chain: Chain, units: PackableUnits
    ) -> None:
        """sums: bytes of the area, by window. window: returns what a window has in it.

        window(index, wait) raises WouldBlock if not `wait` and it is not known yet, and what resolving does.
        """
        self._sums, self._window = sums, window
        self._files, self._units = chain.data_files, units
        self._check_unchanged = chain.check_unchanged
        self.size = sums.total

    def readinto(self, at: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` from byte `at` of the area on; beyond its end are zeros. See Output.readinto."""
        inside = max(0, min(len(buffer), self.size - at))
        clear(buffer)
        done = 0
        while done < inside:
            index, start, stop = self._sums.find(at + done)
            low = at + done - start
            count = min(inside - done, stop - start - low, _AT_ONCE)
            self._fill(self._window(index, wait), low, buffer[done : done + count], wait)
            done += count
        self._check_unchanged()

    def known(self, at: int, offset: int, *, wait: bool) -> Region | None:
        """Return the part around byte `at` of the area, which begins at `offset` of the output. See Output.known.

        wait: find out where packed bytes end, and raise WouldBlock otherwise where that is not known.
        """
        index, start, stop = self._sums.find(at)
        window = self._window(index, wait)
        group = max(int(window.at.searchsorted(at - start, "right")) - 1, 0) // _GROUP * _GROUP
        last = min(group + _GROUP, len(window.at))
        first = int((window.at + window.length).searchsorted(window.at[group], "right"))  # that may reach into them
        if (window.used[first:last] < 0).any():
            if not wait:
                raise WouldBlock
            self._find_all_ends(window, range(first, last))
            self._check_unchanged()
        ends, begins = window.at[first:last] + window.used[first:last], window.at[first + 1 : last + 1]
        if (ends[: len(begins)] > begins).any():
            return None  # they overlap in the source, whatever that means there
        low = int(window.at[group]) if group else 0
        high = int(window.at[last]) if last < len(window.at) else stop - start
        pieces = _pieces(window, slice(group, last), low)
        return Region(offset + start + low, offset + start + high, pieces)

    def regions(self, offset: int) -> Iterator[Region]:
        """Yield the parts that are not empty; offset: of the area in the output."""
        at = 0
        while at < self.size:
            _, start, at = self._sums.find(at)
            yield Region(offset + start, offset + at, None)

    def touching(self, first: int, last: int, bits: int, *, wait: bool) -> NDArray[np.int64]:
        """Return how many blocks touch each of the stretches [first, last) of the area, of 2**bits bytes: int64."""
        counts = np.zeros(last - first + 1, np.int64)
        at, end = first << bits, min(last << bits, self.size)
        while at < end:
            index, start, at = self._sums.find(at)
            window = self._window(index, wait)
            begin = start + window.at
            low = np.clip((begin >> bits) - first, 0, last - first)
            high = np.clip((begin + window.length - 1 >> bits) + 1 - first, 0, last - first)
            counts += np.bincount(low, minlength=len(counts)) - np.bincount(high, minlength=len(counts))
        return counts.cumsum()[:-1]

    def _fill(self, window: PackedWindow, low: int, buffer: memoryview, wait: bool) -> None:
        """Fill `buffer`, of zeros, from byte `low` of the window's part on."""
        high = low + len(buffer)
        first = int((window.at + window.length).searchsorted(low, "right"))
        last = int(window.at.searchsorted(high, "left"))
        unknown = [index for index in range(first, last) if window.used[index] < 0]
        if unknown and not wait:
            raise WouldBlock
        found = self._find_ends(window, unknown)
        for index in range(first, last):
            begin, host = int(window.at[index]), int(window.blocks.host[index])
            start, stop = max(begin, low), min(begin + int(window.used[index]), high)
            if start >= stop:
                continue
            target = buffer[start - low : stop - low]
            if (packed := found.get(index)) is not None:
                target[:] = packed[start - begin : stop - begin]
            else:
                file = self._files[int(window.blocks.file[index])]
                file.readinto_at(host + start - begin, target, wait=wait)

    def _find_all_ends(self, window: PackedWindow, indices: Sequence[int]) -> None:
        """Find out where the packed bytes of blocks end, however long they are."""
        part: list[int] = []
        size = 0
        for index in indices:
            part.append(index)
            size += int(window.length[index])
            if size >= _AT_ONCE:
                self._find_ends(window, part)
                part, size = [], 0
        self._find_ends(window, part)

    def _find_ends(self, window: PackedWindow, indices: Sequence[int]) -> Mapping[int, bytes]:
        """Find out where the packed bytes of blocks end; return them, those behind their ends included."""
        blocks = window.blocks
        found = {
            index: self._files[int(blocks.file[index])].read_at(int(blocks.host[index]), int(window.length[index]))
            for index in indices
        }

        def measure(some: Sequence[int]) -> None:
            measurers: dict[int, Callable[[bytes], int]] = {}
            for index in some:
                file = int(blocks.file[index])
                if file not in measurers:
                    measurers[file] = self._measurer(file)
                try:
                    window.used[index] = measurers[file](found[index])
                except FormatError as error:
                    raise damaged_unit(self._files[file], int(blocks.host[index]), error) from error

        workers.side_by_side(measure, indices)
        return found

    def _measurer(self, file: int) -> Callable[[bytes], int]:
        units = self._units.as_is[file]
        assert units is not None, "only blocks of such files stay packed"
        return units.measurer()


def _pieces(window: PackedWindow, part: slice, origin: int) -> Pieces:
    """Return what the packed bytes of blocks are made of, from `origin` of the window's part on."""
    blocks, out = window.blocks, window.at[part] - origin
    kind = np.full(len(out), Kind.DATA, np.uint8)
    return Pieces(out, out + window.used[part], np.zeros_like(out), kind, blocks.file[part], blocks.host[part])
