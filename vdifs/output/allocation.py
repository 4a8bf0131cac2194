"""Which output clusters hold data, zeros or nothing: a summary of the whole disk, a detail for each window.

At open the whole disk is resolved once, in parts that are as long as their tables allow, and only counted; what many
neighbouring clusters have in common is counted as one. The disk is cut into windows, also where one part ends. On
reading, a window is resolved again and kept in a bounded cache. So memory does not grow with the disk, nor does time.
"""

import itertools
import os
from collections.abc import Callable, Hashable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vdifs.chain.open_chain import Chain
from vdifs.errors import WouldBlock
from vdifs.extents import NO_LAYER, Extents, Kind, Stack
from vdifs.formats.qcow2.geometry import Geometry
from vdifs.output.cache import ByteBoundedCache
from vdifs.output.summary import Summary
from vdifs.output.touched_units import Ranges, coarser, intersection, touched
from vdifs.output.window import Pieces, Window, data_pieces, unit_states
from vdifs.output.windows import Windows
from vdifs.pace import give_way

__all__ = ["Allocation", "window_cache"]

_WINDOW_CLUSTERS = 8192
_MANY_UNITS = 1 << 17
"""Those of which a summary takes some milliseconds, and memory."""
window_cache: ByteBoundedCache[Window] = ByteBoundedCache(12 << 20, lambda window: window.nbytes)
"""The windows of all images that were read last."""
os.register_at_fork(after_in_child=window_cache.start_anew)
summary_cache: ByteBoundedCache[Summary] = ByteBoundedCache(4 << 20, lambda summary: summary.nbytes)
"""The summaries that were made last."""
os.register_at_fork(after_in_child=summary_cache.start_anew)
_serial = itertools.count()


class Allocation:
    """The allocation of one output. base: None for a full image, else the index in the chain of the delta's base."""

    def __init__(self, chain: Chain, base: int | None, geometry: Geometry) -> None:
        """Resolve nothing yet; geometry: of the output, with the virtual size of `chain`."""
        self.chain = chain
        self._delta = base is not None
        self._base = len(chain.members) if base is None else base
        self.geometry = geometry
        self._unit_bits = geometry.grain.bit_length() - 1
        most = _WINDOW_CLUSTERS // (4 if geometry.extended_l2 else 1) * geometry.cluster_size
        self.windows = Windows(most, chain.virtual_size)
        """Those of one size; `summarize` cuts them where they would be too much work."""
        self._key = next(_serial)

    def summarize(self) -> Summary:
        """Resolve the whole disk once and return what the layout needs to know.

        What was found is kept for a while, for all names of the same files, and for their snapshots that share an L1
        table. Raises FormatError for damage in the tables, SourceChangedError, StorageError.
        """
        key = self._states_of_files()
        known = summary_cache.get(key)
        if known is None and sum(member.layer.load.units for member in self.chain.members) > _MANY_UNITS:
            give_way(heavy=True)
            known = summary_cache.get(key)  # another name of the same files may have had its turn before
        if known is None:
            known = self._summarize()
            self.chain.check_unchanged()
            summary_cache.put(key, known)
        self.windows = known.windows
        return known

    def _states_of_files(self) -> Hashable:
        """Return what determines the summary."""
        layers = tuple(member.layer.identity for member in self.chain.members)
        return layers, self._base, self._delta, self.geometry, self.windows.size

    def _summarize(self) -> Summary:
        summary = Summary(self.geometry.l1_size)
        cuts: list[int] = []
        for extents in self._parts(0, self.chain.virtual_size):
            start = int(extents.start[0])
            if start % self.windows.size:
                cuts.append(start)
            self._count(summary, extents, len(cuts))
            give_way()
        summary.finish(Windows(self.windows.size, self.chain.virtual_size, cuts))
        return summary

    def window(self, index: int, *, wait: bool = True) -> Window:
        """Return the detail of a window. wait=False: raises WouldBlock if it has to be resolved first."""
        return self._kept((self._key, index), wait, lambda: self._resolve(index))

    def raw_pieces(self, index: int, *, wait: bool = True) -> Pieces:
        """Return where the guest contents of a window come from, its start being 0. wait: as for `window`."""
        return self._kept((self._key, index, "raw"), wait, lambda: self._resolve_raw(index)).pieces

    def raw_parts(self) -> Iterator[tuple[int, int, Pieces]]:
        """Yield what raw_pieces does of the whole disk, in parts of no more than some runs, and where each lies."""
        for whole in self.chain.in_parts():
            self.chain.check_unchanged()
            yield int(whole.start[0]), whole.end, Pieces.from_extents(whole, whole.start - whole.start[0])

    def _count(self, summary: Summary, extents: Extents, cuts: int) -> None:
        """Count a part, before the end of which windows are cut `cuts` times, none of them within it."""
        data, held = self._masks(extents)
        stop, bits = extents.stop, self.geometry.cluster_bits
        if self._delta:
            holding = touched(extents.start[held], stop[held], self._unit_bits)
            with_data = touched(extents.start[data], stop[data], self._unit_bits)
            stored = coarser(intersection(holding, with_data), bits - self._unit_bits)
        else:
            stored = touched(extents.start[data], stop[data], bits)
            holding = stored << bits - self._unit_bits
        summary.need_l2(coarser(holding, self.geometry.units_per_l2.bit_length() - 1))
        summary.add_data(_by_window(stored, self.windows.size >> bits, cuts))

    def _masks(self, extents: Extents) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which runs are data, and which a full image, or a layer above the base, holds: bool."""
        data = extents.kind >= Kind.DATA
        if not self._delta:
            return data, data
        return data, (extents.layer != NO_LAYER) & (extents.layer < self._base)

    def _parts(self, start: int, end: int) -> Iterator[Extents]:
        """Yield what the layers of the output hold of [start, end); with a delta, what those below add to its units."""
        return self.chain.resolver(
            step=self.geometry.cluster_size,
            grid=self.windows.size,
            narrow=partial(_narrow, unit_bits=self._unit_bits) if self._delta else None,
            narrow_at=self._base,
        ).resolve(start, end)

    def _kept(self, key: Hashable, wait: bool, resolve: Callable[[], Window]) -> Window:
        window = window_cache.get(key)
        if window is None:
            if not wait:
                raise WouldBlock
            window = resolve()
            self.chain.check_unchanged()
            window_cache.put(key, window)
        return window

    def _resolve_raw(self, index: int) -> Window:
        whole = self.chain.extents(*self.windows.range(index))
        return Window(np.empty(0, np.uint8), Pieces.from_extents(whole, whole.start - whole.start[0]))

    def _resolve(self, index: int) -> Window:
        extents = Extents.joined(list(self._parts(*self.windows.range(index))))
        data, held = self._masks(extents)
        states = unit_states(extents, self._unit_bits, data, held)
        return Window(states, data_pieces(extents, states, self.geometry.cluster_bits, self._unit_bits))


def _narrow(held: Stack, unit_bits: int) -> None:
    """Leave bare whatever lies in units of which nothing is held: of the others a delta stores what is there in all.

    units       |     |     |     |     |     |     |
    held     ===|==.  |     |     |  .==|==.  |     |
    asked for      |--|           |--|     |--|
    """
    unit = 1 << unit_bits
    starts, stops = held.starts, held.stops
    low = np.minimum(stops, starts + unit - 1 & -unit)
    high = np.where(stops == held.end, stops, np.maximum(low, stops & -unit))
    some = low < high
    held.leave(low[some], high[some])


def _by_window(stored: Ranges, per_window: int, cuts: int) -> NDArray[np.int64]:
    """Return ranges of stored clusters as runs of windows: see Summary.add_data.

    stored      |...[==|========|========|=]..[=]...|
    runs            first        between  last
    """
    first, last = stored[:, 0] // per_window, (stored[:, 1] - 1) // per_window
    alone = first == last
    ends = np.where(alone, stored[:, 1], (first + 1) * per_window)
    parts = np.empty((len(stored), 3, 3), np.int64)
    parts[:, 0] = np.stack([first, np.ones_like(first), ends - stored[:, 0]], 1)
    parts[:, 1] = np.stack([first + 1, np.maximum(last - first - 1, 0), np.full_like(first, per_window)], 1)
    parts[:, 2] = np.stack([last, (~alone).astype(np.int64), stored[:, 1] - last * per_window], 1)
    runs = parts[parts[:, :, 1] > 0]
    runs[:, 0] += cuts
    if not len(runs):
        return runs
    begins = np.flatnonzero(np.append(True, runs[1:, 0] != runs[:-1, 0]))
    each = np.add.reduceat(runs[:, 2], begins)
    return np.stack([runs[begins, 0], runs[begins, 1], each], 1)
