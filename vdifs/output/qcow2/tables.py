"""The bytes of header, refcounts, L1 and L2 of a synthetic qcow2, any range of them: a pure function of the layout.

L2 tables are rendered window by window:

    L2 region      [table of L1 index 3][of 4][of 9]...        only the needed ones, found by select
    one table      |window|window|window|...                   or many tables in one window
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.qcow2.entries import encode_compressed, encode_extended_l2, encode_tables
from vdifs.formats.qcow2.refcounts import REFCOUNT_BITS, pack_block, pack_counts, pack_table
from vdifs.output.packed_area import PackedArea
from vdifs.output.qcow2.clusters import Clusters, ClusterWindow
from vdifs.output.qcow2.layout import Layout
from vdifs.output.summary import Summary
from vdifs.output.window import State, by_block
from vdifs.output.window_sums import WindowSums
from vdifs.units import ceil_div

__all__ = ["Areas", "Tables"]

_ENTRY = 8


class Areas(NamedTuple):
    """What lies behind the tables: the bytes of plain clusters, and of packed ones, by window; None where none are."""

    plain: WindowSums
    packed: WindowSums | None = None
    packed_area: PackedArea | None = None


class Tables:
    """Everything before the data region."""

    def __init__(self, layout: Layout, summary: Summary, clusters: Clusters, areas: Areas) -> None:
        """Renders nothing yet but the header."""
        self._layout = layout
        self._l2_in_use = summary.tables
        self._windows = summary.windows
        self._clusters, self._areas = clusters, areas
        self._header = layout.header.pack()
        # Functions, not bound methods: those would make a cycle of every opened image.
        self._regions: tuple[tuple[int, int, int, Callable[[Tables, int, int, bool], bytes]], ...] = (
            (0, layout.refcount_table, 1, Tables._header_bytes),
            (layout.refcount_table, layout.refcount_blocks, _ENTRY, Tables._refcount_table),
            (layout.refcount_blocks, layout.l1_table, REFCOUNT_BITS // 8, Tables._refcount_blocks),
            (layout.l1_table, layout.l2_tables, _ENTRY, Tables._l1_table),
            (layout.l2_tables, layout.data, layout.geometry.l2_entry_size, Tables._l2_tables),
        )

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` with the bytes from `offset` on, which all lie before the data region.

        wait=False: raises WouldBlock where a window has to be resolved first.
        """
        end = offset + len(buffer)
        for start, stop, unit, render in self._regions:
            low, high = max(offset, start), min(end, stop)
            if low < high:
                first, last = (low - start) // unit, ceil_div(high - start, unit)
                skip = low - start - first * unit
                buffer[low - offset : high - offset] = render(self, first, last, wait)[skip : skip + high - low]

    def _header_bytes(self, first: int, last: int, _wait: bool) -> bytes:
        return self._header[first:last].ljust(last - first, b"\0")

    def _refcount_table(self, first: int, last: int, _wait: bool) -> bytes:
        layout = self._layout
        blocks, size = layout.refcounts.blocks, layout.geometry.cluster_size
        return pack_table(first, last - first, blocks, layout.refcount_blocks, size)

    def _refcount_blocks(self, first: int, last: int, wait: bool) -> bytes:
        layout, area = self._layout, self._areas.packed_area
        counts = pack_block(first, last - first, layout.refcounts.total)
        begin = layout.packed >> layout.geometry.cluster_bits
        low, high = max(first, begin), min(last, layout.refcounts.total)
        if area is None or low >= high:
            return counts
        touching = area.touching(low - begin, high - begin, layout.geometry.cluster_bits, wait=wait)
        size = REFCOUNT_BITS // 8
        return b"".join((
            counts[: (low - first) * size],
            pack_counts(touching),
            counts[(high - first) * size :],
        ))  # fmt: skip

    def _l1_table(self, first: int, last: int, _wait: bool) -> bytes:
        tables = self._l2_in_use
        used = tables.between(first, last)
        place = tables.rank(min(first, self._layout.geometry.l1_size)) + np.cumsum(used) - 1
        offsets = np.where(used, self._layout.l2_tables + (place << self._layout.geometry.cluster_bits), 0)
        return encode_tables(offsets).ljust((last - first) * _ENTRY, b"\0")

    def _l2_tables(self, first: int, last: int, wait: bool) -> bytes:
        per_table = self._layout.geometry.l2_entries
        parts: list[bytes] = []
        while first < last:
            table, entry = divmod(first, per_table)
            stop = min(last, (table + 1) * per_table)
            cluster = self._l2_in_use.select(table) * per_table + entry
            parts.append(self._l2_entries(cluster, cluster + stop - first, wait))
            first = stop
        return b"".join(parts)

    def _l2_entries(self, first: int, last: int, wait: bool) -> bytes:
        """Return the entries of guest clusters [first, last), of one table; 0 beyond the end of the disk."""
        bits, windows = self._layout.geometry.cluster_bits, self._windows
        disk = self._layout.geometry.clusters
        parts: list[bytes] = []
        at = first
        while at < min(last, disk):
            window = windows.at(at << bits)
            start, end = windows.range(window)
            begin, stop = start >> bits, min(last, self._layout.geometry.clusters_for(end))
            parts.append(self._window_entries(window, at - begin, stop - begin, wait))
            at = stop
        return b"".join(parts).ljust((last - first) * self._layout.geometry.l2_entry_size, b"\0")

    def _window_entries(self, index: int, first: int, last: int, wait: bool) -> bytes:
        geometry = self._layout.geometry
        units = geometry.units_per_cluster
        window = self._clusters.window(index, wait)
        plain = window.plain[:last]
        place = self._layout.data + self._areas.plain.before(index)
        offsets = np.where(plain, place + (np.cumsum(plain) - 1 << geometry.cluster_bits), 0)[first:]
        states = window.states[first * units : last * units]
        at, packed = self._packed_entries(index, window, first, last)
        if not geometry.extended_l2:
            return encode_tables(offsets, states == State.ZERO, at, packed)
        data, zero = by_block(states == State.DATA, units), by_block(states == State.ZERO, units)
        return encode_extended_l2(offsets, data, zero, at, packed)

    def _packed_entries(
        self, index: int, window: ClusterWindow, first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Return which of clusters [first, last) of a window stay packed, from `first` on, and their entries."""
        packed, sums = window.packed, self._areas.packed
        if packed is None or sums is None:
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        part = slice(*window.packed_index.searchsorted([first, last]).tolist())
        offsets = self._layout.packed + sums.before(index) + packed.at[part]
        entries = encode_compressed(offsets, packed.blocks.sectors[part], self._layout.geometry.cluster_bits)
        return window.packed_index[part] - first, entries
