"""What is kept of a whole disk: how many blocks each window stores, and in which tables anything is held.

And which windows are data all through.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.layer import Codec
from vdifs.output.granularity import Granularity
from vdifs.output.packing import PackedRuns
from vdifs.output.window_sums import Runs, WindowSums, merged
from vdifs.output.windows import Windows
from vdifs.ranges import Ranges
from vdifs.units import ceil_div

__all__ = ["Bits", "Counting", "Summary"]

_BLOCK = 4096


class Bits:
    """A set of indices below `size`, with rank and select."""

    def __init__(self, flags: NDArray[np.bool_]) -> None:
        """Takes ownership of `flags`: bool, one for each index."""
        self._flags = flags
        counts = [int(np.count_nonzero(flags[at : at + _BLOCK])) for at in range(0, len(flags), _BLOCK)]
        self._before = np.cumsum([0, *counts], dtype=np.int64)

    @property
    def count(self) -> int:
        """How many are in the set."""
        return int(self._before[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return 512 + self._flags.nbytes

    def rank(self, index: int) -> int:
        """Return how many members are below `index`."""
        block = index // _BLOCK
        return int(self._before[block] + np.count_nonzero(self._flags[block * _BLOCK : index]))

    def select(self, rank: int) -> int:
        """Return the member that has `rank` members below it."""
        block = int(self._before.searchsorted(rank, "right")) - 1
        members = np.flatnonzero(self._flags[block * _BLOCK : (block + 1) * _BLOCK])
        return block * _BLOCK + int(members[rank - int(self._before[block])])

    def between(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return the flags of [first, last): bool."""
        return self._flags[first:last]


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What a disk holds, counted.

    granularity: by which it was counted. stored: the blocks that are stored, by window. tables: the indices of those
    in whose range anything is held, data or zeros; none where the granularity has no tables. full: the windows that are
    data to the last byte; none of a delta. packed: what may stay packed of that which is stored, by codec; None where
    there is some that was not looked at.
    """

    granularity: Granularity
    windows: Windows
    stored: WindowSums
    tables: Bits
    full: Ranges
    packed: Mapping[Codec, PackedRuns] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        packed = sum(runs.nbytes for each in (self.packed or {}).values() for runs in each)
        return self.stored.nbytes + self.tables.nbytes + self.windows.nbytes + self.full.nbytes + packed


class Counting:
    """A summary in the making. The parts of the disk are added in order."""

    def __init__(self, granularity: Granularity, virtual_size: int) -> None:
        """Starts with nothing stored and nothing held."""
        self._granularity = granularity
        self._runs: list[Runs] = [np.empty((0, 3), np.int64)]
        self._full: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        self._packed: dict[Codec, list[PackedRuns]] | None = {}
        bits = granularity.table_bits
        self._flags = np.zeros(0 if bits is None else ceil_div(virtual_size, 1 << bits), np.bool_)

    def add_stored(self, runs: Runs) -> None:
        """Add what windows store that are above all before."""
        self._runs.append(merged(runs))

    def add_tables(self, ranges: Ranges) -> None:
        """Add tables in which something is held, by their indices; any of them may have been added before."""
        if not len(ranges):
            return
        low, high = int(ranges.edges[0]), int(ranges.edges[-1])
        turns = np.zeros(high - low + 1, np.int8)
        turns[ranges.starts - low] = 1
        turns[ranges.stops - low] = -1
        self._flags[low:high] |= turns[:-1].cumsum(dtype=np.int8).view(np.bool_)

    def add_full(self, windows: Ranges) -> None:
        """Add windows that are data all through, above all before."""
        if len(windows):
            self._full.append(windows.rows)

    def add_packed(self, codec: Codec, runs: PackedRuns) -> None:
        """Add what may stay packed of that which windows store, above all before."""
        if self._packed is not None:
            self._packed.setdefault(codec, []).append(PackedRuns(*map(merged, runs)))

    def leave_packed_unknown(self) -> None:
        """Take note that there is something packed that was not looked at."""
        self._packed = None

    def finish(self, windows: Windows) -> Summary:
        """Return the summary of the disk, of which `windows` are the windows."""
        stored, full = WindowSums(np.concatenate(self._runs)), Ranges.union(np.concatenate(self._full))
        packed: dict[Codec, PackedRuns] | None = None
        if self._packed is not None:
            packed = {codec: _joined(parts) for codec, parts in self._packed.items()}
        return Summary(self._granularity, windows, stored, Bits(self._flags), full, packed)


def _joined(parts: list[PackedRuns]) -> PackedRuns:
    return PackedRuns(*(merged(np.concatenate(each)) for each in zip(*parts, strict=True)))
