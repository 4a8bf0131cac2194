"""Which units of a disk hold data, zeros or nothing in an output: a summary of all of them, a detail for each window.

At open the whole disk is resolved once, in parts that are as long as their tables allow, and only counted; what many
neighbouring units have in common is counted as one. The disk is cut into windows, also where one part ends. On reading,
a window is resolved again. So memory does not grow with the disk, nor does time.

How the output looks, and where anything lies in it, is its own business.
"""

from collections.abc import Hashable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vdifs.chain.open_chain import Chain
from vdifs.extents import NO_FILE, Extents, Kind, Stack
from vdifs.formats.layer import Codec
from vdifs.output.granularity import Granularity
from vdifs.output.packing import PackableUnits, PackedBlocks, packed_runs
from vdifs.output.process_caches import summary_cache
from vdifs.output.summary import Counting, Summary
from vdifs.output.window import unit_states
from vdifs.output.window_sums import count_by_window, full_windows
from vdifs.output.windows import Windows
from vdifs.pace import give_way
from vdifs.ranges import Ranges

__all__ = ["Allocation"]

_MANY_UNITS = 1 << 17
"""Those of which a summary takes some milliseconds, and memory."""


class Allocation:
    """The allocation of one output. Safe to use from several threads once `summarize` has returned."""

    def __init__(
        self, chain: Chain, base: int | None, granularity: Granularity, units: PackableUnits | None = None
    ) -> None:
        """Resolves nothing yet; base: None for a full image, else the index in the chain of the delta's base.

        units: those that may stay packed, of blocks of the granularity; None if none may.
        """
        self.chain = chain
        self.granularity = granularity
        self._units = units
        self._delta = base is not None
        self._base = len(chain.members) if base is None else base
        self._stored_from = _stored_from(chain, base, granularity.unit_bits)
        self.windows = Windows(granularity.window_size, chain.virtual_size)
        """Those of one size; `summarize` cuts them where they would be too much work."""

    def summarize(self) -> Summary:
        """Resolve the whole disk once and return what the layout of an output needs to know.

        What was found is kept for a while, for all names of the same files, for their snapshots that share an L1
        table, and for outputs that ask for no more. Raises FormatError for damage in the tables, SourceChangedError,
        StorageError.
        """
        key = self._states_of_files()
        known = self._known(key)
        if known is None and sum(member.layer.load.units for member in self.chain.members) > _MANY_UNITS:
            give_way(heavy=True)
            known = self._known(key)  # another name of the same files may have had its turn before
        if known is None:
            known = self._summarize()
            self.chain.check_unchanged()
            summary_cache.put(key, known)
        self.windows = known.windows
        return known

    def extents(self, index: int) -> Extents:
        """Return what the layers of the output hold of window `index`; with a delta, what those below add to its units.

        Raises FormatError, StorageError.
        """
        return self._cut(Extents.joined(list(self._parts(*self.windows.range(index)))))

    def packed(self, extents: Extents, codec: Codec) -> PackedBlocks | None:
        """Return the blocks of a window that stay packed in `codec`, None if none do; extents: as for `states`."""
        if self._units is None:
            return None
        held = self._masks(extents)[1]
        return next((blocks for found, blocks in self._units.within(extents, held) if found == codec), None)

    def states(self, extents: Extents) -> NDArray[np.uint8]:
        """Return the `State` of each unit of a window: uint8; extents: what `extents` returned for it."""
        return unit_states(extents, self.granularity.unit_bits, *self._masks(extents))

    def _states_of_files(self) -> Hashable:
        """Return what determines the summary, but for its tables."""
        layers = tuple(member.layer.identity for member in self.chain.members)
        delta = self._base, self._delta, self._stored_from
        return self.chain.paired, layers, delta, self.granularity[:2], self.windows.size, self.windows.end

    def _known(self, key: Hashable) -> Summary | None:
        known = summary_cache.get(key)
        if known is None or not known.granularity.answers(self.granularity):
            return None
        return known if self._units is None or known.packed is not None else None

    def _summarize(self) -> Summary:
        counting = Counting(self.granularity, self.chain.virtual_size)
        cuts: list[int] = []
        for extents in self._parts(0, self.chain.virtual_size):
            start = int(extents.start[0])
            if start % self.windows.size:
                cuts.append(start)
            self._count(counting, self._cut(extents), len(cuts))
            give_way()
        return counting.finish(Windows(self.windows.size, self.chain.virtual_size, cuts))

    def _count(self, counting: Counting, extents: Extents, cuts: int) -> None:
        """Count a part, before the end of which windows are cut `cuts` times, none of them within it."""
        data, held = self._masks(extents)
        stop, (unit_bits, block_bits, table_bits) = extents.stop, self.granularity
        if self._delta:
            holding = Ranges.touching_units(extents.start[held], stop[held], unit_bits)
            with_data = Ranges.touching_units(extents.start[data], stop[data], unit_bits)
            stored = holding.intersection(with_data).coarser(block_bits - unit_bits)
        else:
            runs = Ranges.touching_units(extents.start[data], stop[data], 0)
            stored = runs.coarser(block_bits)
            holding = stored.finer(block_bits - unit_bits)
            counting.add_full(full_windows(runs, int(extents.start[0]), extents.end, self.windows.size, cuts))
        if table_bits is not None:
            counting.add_tables(holding.coarser(table_bits - unit_bits))
        counting.add_stored(count_by_window(stored, self.windows.size >> block_bits, cuts))
        if self._units is not None:
            for codec, blocks in self._units.within(extents, held):
                counting.add_packed(codec, packed_runs(blocks, self.windows.size >> block_bits, cuts))
        elif extents.has(Kind.COMPRESSED):
            counting.leave_packed_unknown()

    def _masks(self, extents: Extents) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which runs are data, and which a full image, or a layer above the base, holds: bool."""
        data = extents.kind >= Kind.DATA
        if not self._delta:
            return data, data
        above = (extents.file != NO_FILE) & (extents.file < self.chain.first_file[self._base])
        return data, above | (extents.start >= self._stored_from)

    def _cut(self, extents: Extents) -> Extents:
        """Return the same, cut where a delta begins to hold everything."""
        at = self._stored_from
        return extents.cut(np.array([at])) if int(extents.start[0]) < at < extents.end else extents

    def _parts(self, start: int, end: int) -> Iterator[Extents]:
        """Yield what the layers of the output hold of [start, end); with a delta, what those below add to its units."""
        unit_bits, block_bits, _ = self.granularity
        return self.chain.flattening(
            step=1 << block_bits,
            grid=self.windows.size,
            narrow=partial(_narrow, unit_bits=unit_bits, end=self._stored_from) if self._delta else None,
            narrow_at=self._base,
        ).parts(start, end)


def _stored_from(chain: Chain, base: int | None, unit_bits: int) -> int:
    """Return from where on a delta holds all that the image reads, in whole units; the end of the disk if nowhere.

    It does where its base, on its own, is a disk of another size than the images above it see.
    """
    if (
        base is not None and not chain.paired and chain.members[base].snapshot is None
    ):  # those are bases as they are seen
        alone, seen = chain.members[base].metadata.size_alone, chain.members[base].layer.virtual_size
        if alone != seen:
            return min(chain.virtual_size, min(alone, seen) >> unit_bits << unit_bits)
    return chain.virtual_size


def _narrow(held: Stack, unit_bits: int, end: int) -> None:
    """Leave bare whatever lies in units of which nothing is held: of the others a delta stores what is there in all.

    end: whatever lies behind it is asked for.

    units       |     |     |     |     |     |     |
    held     ===|==.  |     |     |  .==|==.  |     |
    asked for      |--|           |--|     |--|
    """
    unit = 1 << unit_bits
    starts, stops = held.starts, held.stops
    low = np.minimum(stops, starts + unit - 1 & -unit)
    high = np.where(stops == held.end, stops, np.maximum(low, stops & -unit))
    high = np.minimum(high, end)
    some = low < high
    held.leave(low[some], high[some])
