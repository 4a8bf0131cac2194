"""A dynamic VHD: a table of the blocks of the disk, then those in which anything is held, each of them whole."""

import os
from collections.abc import Hashable, Iterator, Mapping
from typing import Final

from vdifs.formats.vhd.footer import DiskType
from vdifs.formats.vhd.header import Header
from vdifs.output.allocation import Allocation
from vdifs.output.largest import check_holds
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region, ResolvedSpec
from vdifs.output.vhd.blocks import GRANULARITY, Blocks
from vdifs.output.vhd.footer import footer_of, identity_of
from vdifs.output.vhd.layout import BLOCK_SIZE, STRIDE, Layout
from vdifs.output.window_area import WindowArea
from vdifs.units import SECTOR, ceil_div

__all__ = ["DynamicVhdOutput"]

_VIEW: Final = "vhd"
_ENTRY: Final = 4
_ABSENT: Final = b"\xff" * _ENTRY


class DynamicVhdOutput:
    """See Output."""

    def __init__(self, spec: ResolvedSpec) -> None:
        """Counts what the disk holds, reading tables, and lays it out.

        Raises UsageError for a disk that is too large for a VHD, and what Allocation.summarize does.
        """
        chain = spec.chain
        check_holds(_VIEW, chain.virtual_size, chain.members[0].file.name)
        allocation = Allocation(chain, None, GRANULARITY)
        summary = allocation.summarize()
        disk_size = max(chain.virtual_size, SECTOR)  # there is no smaller disk
        self._layout = layout = Layout.plan(disk_size, summary.stored.total)
        self._blocks_of_disk = ceil_div(chain.virtual_size, BLOCK_SIZE)
        self._blocks = blocks = Blocks(allocation, summary)
        self._area = WindowArea(summary.stored.times(STRIDE), blocks.pieces, PieceReader(chain))
        self._check_unchanged = chain.check_unchanged
        uuid = identity_of(_VIEW, chain, summary)
        self._footer = footer_of(DiskType.DYNAMIC, disk_size, uuid, layout.header)
        self._head = self._footer + Header.dynamic(layout.table, layout.entries, BLOCK_SIZE).pack()
        self.size = self.stored = layout.size
        self.size_if_full = Layout.plan(disk_size, layout.entries).size
        self.allocated = summary.stored.times(BLOCK_SIZE).total
        self.packed = 0
        self.etag_parts = (str(uuid),)
        self.tables: Mapping[Hashable, int] = {id(summary): summary.nbytes}

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Output."""
        end, layout = offset + len(buffer), self._layout
        low, high = max(offset, layout.blocks), min(end, layout.footer)
        if low < high:
            self._area.readinto(low - layout.blocks, buffer[low - offset : high - offset], wait=wait)
        if offset < layout.blocks:
            self._read_before_blocks(offset, buffer[: layout.blocks - offset])
        low = max(offset, layout.footer)
        if low < end:
            buffer[low - offset :] = self._footer[low - layout.footer : end - layout.footer]
        if offset < layout.blocks or end > layout.footer:
            self._check_unchanged()

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """See Output."""
        layout = self._layout
        if not layout.blocks <= offset < layout.footer:
            return None
        return self._area.known(offset - layout.blocks, layout.blocks, wait=wait)

    def ahead(self, offset: int, most: int) -> Region | None:  # noqa: ARG002 - the file has no holes
        """See Output."""
        return None

    def regions(self) -> Iterator[Region]:
        """See Output."""
        yield Region(0, self._layout.blocks, None)
        yield from self._area.regions(self._layout.blocks)
        yield Region(self._layout.footer, self.size, None)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:  # noqa: ARG002 - it never waits
        """See Output. It is one piece of data: what is a hole on the disk has no place in the file."""
        return offset if whence == os.SEEK_DATA else self.size

    def _read_before_blocks(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with what lies there before the first block: the head, the table, and zeros."""
        end, table, table_end = offset + len(buffer), self._layout.table, self._layout.table_end
        entries = self._entries(max(offset, table), min(end, table_end))
        buffer[:] = (self._head[offset:end] + entries).ljust(len(buffer), b"\0")

    def _entries(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of the output, within the table; nothing where that is no range."""
        if start >= stop:
            return b""
        first, last = (start - self._layout.table) // _ENTRY, ceil_div(stop - self._layout.table, _ENTRY)
        of_disk = min(first, self._blocks_of_disk), min(last, self._blocks_of_disk)
        known = self._blocks.entries(*of_disk, self._layout.blocks)
        skip = start - self._layout.table - first * _ENTRY
        return (known.astype(">u4").tobytes() + _ABSENT * (last - first - len(known)))[skip : skip + stop - start]
