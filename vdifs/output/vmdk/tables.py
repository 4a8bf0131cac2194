"""The bytes of a synthetic VMDK that are not its grains: header and descriptor, grain tables, directory, footer.

Any range of them is a pure function of the layout, of the descriptor and of which grains hold data.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.vmdk.stream import MetadataMarker, MetadataType
from vdifs.output.summary import Summary
from vdifs.output.vmdk.grain import STORED_SIZE
from vdifs.output.vmdk.grains import Grains
from vdifs.output.vmdk.layout import ENTRY, TABLE_BITS, TABLE_ENTRIES, TABLE_SIZE, Layout
from vdifs.units import SECTOR, ceil_div

__all__ = ["Tables"]

_ENTRY = np.dtype("<u4")


class Tables:
    """Everything before the grains, and everything behind them."""

    def __init__(self, layout: Layout, descriptor: bytes, summary: Summary, grains: Grains) -> None:
        """Renders nothing yet but header, descriptor and footer."""
        self._layout = layout
        self._in_use = summary.tables
        self._windows, self._stored = summary.windows, summary.stored
        self._grains = grains
        self._head = layout.header.pack() + descriptor
        self._footer = _marker(1, MetadataType.FOOTER) + layout.footer_header.pack() + _marker(0, MetadataType.END)
        # Functions, not bound methods: those would make a cycle of every opened image.
        self._areas: tuple[tuple[int, int, int, Callable[[Tables, int, int, bool], bytes]], ...] = (
            (0, layout.grains, 1, Tables._head_bytes),
            (layout.tables, layout.directory, TABLE_SIZE, Tables._grain_tables),
            (layout.directory, layout.directory + SECTOR, SECTOR, Tables._directory_marker),
            (layout.directory + SECTOR, layout.footer, ENTRY, Tables._directory),
            (layout.footer, layout.size, 1, Tables._footer_bytes),
        )

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """Fill `buffer` with the bytes from `offset` on, none of which lies among the grains.

        wait=False: raises WouldBlock where a window has to be resolved first.
        """
        end = offset + len(buffer)
        for start, stop, unit, render in self._areas:
            low, high = max(offset, start), min(end, stop)
            if low < high:
                first, last = (low - start) // unit, ceil_div(high - start, unit)
                skip = low - start - first * unit
                buffer[low - offset : high - offset] = render(self, first, last, wait)[skip : skip + high - low]

    def _head_bytes(self, first: int, last: int, _wait: bool) -> bytes:
        return self._head[first:last].ljust(last - first, b"\0")

    def _grain_tables(self, first: int, last: int, wait: bool) -> bytes:
        marker = _marker(TABLE_SIZE // SECTOR - 1, MetadataType.GRAIN_TABLE)
        return b"".join(marker + self._entries(self._in_use.select(rank), wait) for rank in range(first, last))

    def _entries(self, table: int, wait: bool) -> bytes:
        """Return the entries of a grain table, 0 where a grain holds nothing, or lies beyond the end of the disk."""
        entries = np.zeros(TABLE_ENTRIES, _ENTRY)
        at, end = table << TABLE_BITS, min(table + 1 << TABLE_BITS, self._windows.end)
        first = table * TABLE_ENTRIES
        while at < end:
            window = self._windows.at(at)
            before = self._stored.before(window)
            if self._stored.before(window + 1) > before:
                indices = self._grains.window(window, wait).indices
                low, high = indices.searchsorted((first, first + TABLE_ENTRIES)).tolist()
                places = self._layout.grains + np.arange(before + low, before + high) * STORED_SIZE
                entries[indices[low:high] - first] = places // SECTOR
            _, at = self._windows.range(window)
        return entries.tobytes()

    def _directory_marker(self, _first: int, _last: int, _wait: bool) -> bytes:
        return _marker(self._layout.directory_sectors, MetadataType.GRAIN_DIRECTORY)

    def _directory(self, first: int, last: int, _wait: bool) -> bytes:
        tables = self._in_use
        used = tables.between(first, last)
        rank: NDArray[np.int64] = (
            tables.rank(min(first, ceil_div(self._windows.end, 1 << TABLE_BITS))) + np.cumsum(used) - 1
        )
        places = self._layout.tables + rank * TABLE_SIZE + SECTOR
        return np.where(used, places // SECTOR, 0).astype(_ENTRY).tobytes().ljust((last - first) * ENTRY, b"\0")

    def _footer_bytes(self, first: int, last: int, _wait: bool) -> bytes:
        return self._footer[first:last]


def _marker(sectors: int, kind: MetadataType) -> bytes:
    return MetadataMarker(sectors, 0, kind).pack()
