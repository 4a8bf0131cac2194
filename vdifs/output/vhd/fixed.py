"""A fixed VHD: the guest contents, zeros up to a whole MiB, as clouds want it, and the footer.

disk      |==|....|=====|..|
file      |==|....|=====|..|.....|footer|
                           ^     ^ a multiple of 1 MiB
"""

import os
from collections.abc import Hashable, Iterator, Mapping
from typing import Final

import numpy as np

from vdifs.extents import Extents, Kind
from vdifs.formats.vhd.footer import FOOTER_LENGTH, DiskType
from vdifs.output.guest_contents import GuestContents
from vdifs.output.largest import check_holds
from vdifs.output.protocol import Region, ResolvedSpec
from vdifs.output.vhd.footer import footer_of, identity_of
from vdifs.output.window import Pieces
from vdifs.units import round_up

__all__ = ["FixedVhdOutput"]

_VIEW: Final = "vhd-fixed"
_ALIGNMENT: Final = 1 << 20
_CLUSTER_BITS: Final = 16
"""By which it is counted what the disk holds, whatever clusters its images have: no byte is to follow from that."""


class FixedVhdOutput:
    """See Output."""

    def __init__(self, spec: ResolvedSpec) -> None:
        """Counts what the disk holds, and reads no data.

        Raises UsageError for a disk that is too large for a VHD, and what Allocation.summarize does.
        """
        chain = spec.chain
        check_holds(_VIEW, chain.virtual_size, chain.members[0].file.name)
        self._contents = contents = GuestContents(chain, _CLUSTER_BITS)
        self._check_unchanged = chain.check_unchanged
        self._footer_offset = max(_ALIGNMENT, round_up(contents.size, _ALIGNMENT))
        uuid = identity_of(_VIEW, chain, contents.summary)
        self._footer = footer_of(DiskType.FIXED, self._footer_offset, uuid)
        self.size = self.size_if_full = self._footer_offset + FOOTER_LENGTH
        self.allocated = contents.allocated
        self.stored = min(contents.allocated, contents.size) + FOOTER_LENGTH
        self.packed = 0
        self.etag_parts = (str(uuid),)
        self.tables: Mapping[Hashable, int] = {id(contents.summary): contents.summary.nbytes}

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Output."""
        end, disk, foot = offset + len(buffer), self._contents.size, self._footer_offset
        if offset < disk:
            self._contents.readinto(offset, buffer[: disk - offset], wait=wait)
        if end > disk:
            if offset >= disk:
                self._check_unchanged()
            low, high = max(offset, disk), min(end, foot)
            if low < high:
                buffer[low - offset : high - offset] = bytes(high - low)
            low = max(offset, foot)
            if low < end:
                buffer[low - offset :] = self._footer[low - foot : end - foot]

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """See Output."""
        if offset < self._contents.size:
            return self._contents.known(offset, wait=wait)
        return self._padding() if offset < self._footer_offset else None

    def ahead(self, offset: int, most: int) -> Region | None:
        """See Output."""
        if offset < self._contents.size:
            return self._contents.ahead(offset, most)
        return self._padding() if offset < self._footer_offset else None

    def regions(self) -> Iterator[Region]:
        """See Output."""
        yield from self._contents.regions()
        yield Region(self._footer_offset, self.size, None)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:
        """See Output. The footer is data; behind the disk there are none, up to it."""
        disk, foot = self._contents.size, self._footer_offset
        found = self._contents.seek(offset, whence, wait=wait) if offset < disk else max(offset, disk)
        if found < disk:
            return found
        if whence == os.SEEK_DATA:
            return max(found, foot)
        return found if found < foot else self.size

    def _padding(self) -> Region:
        start, stop = self._contents.size, self._footer_offset
        zeros = Extents.uniform(0, stop - start, Kind.ZERO)
        return Region(start, stop, Pieces.from_extents(zeros, np.zeros(1, np.int64)))
