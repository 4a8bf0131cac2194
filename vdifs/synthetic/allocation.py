"""Which output clusters hold data, zeros or nothing: a summary of the whole disk, a detail for each window.

The disk is cut into windows. At open every window in which some layer has an L2 table is resolved once and only
counted; on reading it is resolved again and kept in a bounded cache. So memory does not grow with the disk.
"""

import itertools
import os
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import WouldBlock
from vdifs.extents import Extents
from vdifs.qcow2.geometry import Geometry, ceil_div
from vdifs.source.chain import Chain, union
from vdifs.source.pace import give_way
from vdifs.synthetic.cache import ByteBoundedCache
from vdifs.synthetic.summary import Summary
from vdifs.synthetic.window import Pieces, State, Window, data_pieces, hold_only_zeros, stored_clusters, unit_states

__all__ = ["Allocation", "window_cache"]

_WINDOW_CLUSTERS = 8192
_MANY_RUNS = 1 << 17
"""Those of which a summary takes some milliseconds, and memory."""
_UNITS_AT_ONCE = 1 << 17
"""So many units are summarized together: the work of a call of numpy counts more than that of a unit."""
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
        self._held, self._below = slice(0, base), slice(base, None)
        self.geometry = geometry
        self._unit_bits = geometry.grain.bit_length() - 1
        most = _WINDOW_CLUSTERS // (4 if geometry.extended_l2 else 1) * geometry.cluster_size
        self.window_size = min(most, max(chain.max_range, geometry.cluster_size))
        self._key = next(_serial)

    def summarize(self) -> Summary:
        """Resolve every window that holds something once and return what the layout needs to know.

        What was found is kept for a while, for all names of the same files, and for their snapshots that share an L1
        table. Raises FormatError for damage in the tables, SourceChangedError, StorageError.
        """
        key = self._states_of_files()
        known = summary_cache.get(key)
        if known is None and sum(member.layer.most_runs for member in self.chain.members) > _MANY_RUNS:
            give_way(heavy=True)
            known = summary_cache.get(key)  # another name of the same files may have had its turn before
        if known is None:
            known = self._summarize()
            self.chain.check_unchanged()
            summary_cache.put(key, known)
        return known

    def _states_of_files(self) -> Hashable:
        """Return what determines the summary."""
        layers = tuple(member.layer.identity for member in self.chain.members)
        return layers, self._held.stop, self.geometry, self.window_size

    def _summarize(self) -> Summary:
        summary = Summary(self.geometry.l1_size)
        windows = self.populated_windows()
        at_once = max(1, min(self.chain.max_range, _UNITS_AT_ONCE << self._unit_bits) // self.window_size)
        for first, last in windows.tolist():
            for window in range(first, last, at_once):
                self._summarize_windows(summary, window, min(window + at_once, last))
                give_way()
        if self._delta:
            self._summarize_zeros(summary, windows)
        return summary

    def window(self, index: int, *, wait: bool = True) -> Window:
        """Return the detail of a window. wait=False: raises WouldBlock if it has to be resolved first."""
        return self._kept((self._key, index), wait, lambda: self._resolve(index))

    def raw_pieces(self, index: int, *, wait: bool = True) -> Pieces:
        """Return where the guest contents of a window come from, its start being 0. wait: as for `window`."""
        return self._kept((self._key, index, "raw"), wait, lambda: self._resolve_raw(index)).pieces

    def states(self, index: int) -> NDArray[np.uint8]:
        """Return the `State` of each unit of a window: uint8."""
        return self._states(self._held_extents(*self._range(index)))

    def populated_windows(self) -> NDArray[np.int64]:
        """Return the windows to resolve as ranges of indices: int64, shape (n, 2), sorted, apart."""
        ranges = self.chain.populated(self._held)
        zero_from = self.chain.zero_from(self._held)
        if self._delta and zero_from < self.chain.virtual_size:
            ranges = np.concatenate([ranges, np.array([[zero_from, zero_from + 1]], np.int64)])
        size = self.window_size
        return union(np.stack([ranges[:, 0] // size, -(-ranges[:, 1] // size)], 1))

    def _summarize_windows(self, summary: Summary, first: int, last: int) -> None:
        start, end = first * self.window_size, min(last * self.window_size, self.chain.virtual_size)
        states = self._states(self._held_extents(start, end))
        stored = stored_clusters(states, self.geometry.units_per_cluster)
        counts = np.add.reduceat(
            stored, np.arange(last - first) * (self.window_size >> self.geometry.cluster_bits), dtype=np.int64
        )
        for window, count in enumerate(counts.tolist(), first):
            summary.add_data(window, count)
        units = self.geometry.units_per_l2
        lead = (start >> self._unit_bits) % units  # windows may begin within an L2 table
        tables = ceil_div(lead + len(states), units)
        begins = np.maximum(np.arange(tables) * units - lead, 0)
        needed = np.logical_or.reduceat(states != State.UNALLOCATED, begins)
        summary.need_l2(start // self.geometry.l2_coverage, needed)

    def _summarize_zeros(self, summary: Summary, windows: NDArray[np.int64]) -> None:
        """Count the windows beyond the end of a backing file that no layer touches: zeros, without resolving them."""
        end = ceil_div(self.chain.virtual_size, self.window_size)
        at = ceil_div(self.chain.zero_from(self._held), self.window_size)
        for first, last in [*windows.tolist(), (end, end)]:
            if at < first:
                start, stop = at * self.window_size, min(first * self.window_size, self.chain.virtual_size)
                low, high = start // self.geometry.l2_coverage, ceil_div(stop, self.geometry.l2_coverage)
                summary.need_l2(low, np.ones(high - low, np.bool_))
            at = max(at, last)

    def _range(self, index: int) -> tuple[int, int]:
        start = index * self.window_size
        return start, min(start + self.window_size, self.chain.virtual_size)

    def _held_extents(self, start: int, end: int) -> Extents:
        return self.chain.extents(start, end, self._held)

    def _whole_extents(self, held: Extents) -> Extents:
        """Return what the whole chain says, given what the layers above the base say."""
        if not self._delta:
            return held
        return held.over(self.chain.extents(int(held.start[0]), held.end, self._below))

    def _states(self, held: Extents) -> NDArray[np.uint8]:
        bits = self._unit_bits
        states = unit_states(held, bits, delta=self._delta)
        if self._delta:
            zeros = (states == State.DATA) & hold_only_zeros(held, bits, len(states))
            if zeros.any():
                states[zeros & hold_only_zeros(self._whole_extents(held), bits, len(states))] = State.ZERO
        return states

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
        whole = self.chain.extents(*self._range(index))
        return Window(np.empty(0, np.uint8), Pieces.from_extents(whole, whole.start - whole.start[0]))

    def _resolve(self, index: int) -> Window:
        held = self._held_extents(*self._range(index))
        states = self._states(held)
        whole = self._whole_extents(held) if (states == State.DATA).any() else held
        return Window(states, data_pieces(whole, states, self.geometry.cluster_bits, self._unit_bits))
