"""A synthetic VMDK: header and descriptor, the grains in guest order, tables and footer."""

import hashlib
import os
import posixpath
from collections.abc import Hashable, Iterator, Mapping
from typing import Final

import numpy as np

from vdifs.errors import UsageError
from vdifs.output.allocation import Allocation
from vdifs.output.largest import check_holds
from vdifs.output.protocol import Region, ResolvedSpec
from vdifs.output.summary import Summary
from vdifs.output.view import View
from vdifs.output.vmdk.grain import GRAIN_SIZE
from vdifs.output.vmdk.grains import GRANULARITY, GrainArea, Grains
from vdifs.output.vmdk.layout import TABLE_BITS, Layout, size_if_full
from vdifs.output.vmdk.tables import Tables
from vdifs.output.vmdk.text import cid_of, descriptor
from vdifs.units import ceil_div

__all__ = ["VmdkOutput"]

_VIEW: Final[View] = "vmdk"


class VmdkOutput:
    """See Output. The clusters of the spec are of no account: grains have one size."""

    def __init__(self, spec: ResolvedSpec) -> None:
        """Counts what the disk holds, reading tables, and lays it out.

        Raises UsageError for a disk that is too large, or holds too much, and what Allocation.summarize does.
        """
        name = spec.chain.members[0].file.name
        check_holds(_VIEW, spec.chain.virtual_size, name)
        allocation = Allocation(spec.chain, None, GRANULARITY)
        summary = allocation.summarize()
        try:
            layout = Layout.plan(spec.chain.virtual_size, summary.stored.total, summary.tables.count)
        except UsageError as error:
            raise error.at(name) from error
        cid = cid_of(_identity(spec, summary))
        grains = Grains(allocation)
        self.size = self.stored = layout.size
        self.size_if_full = size_if_full(spec.chain.virtual_size)
        self.packed = 0
        self.allocated = summary.stored.times(GRAIN_SIZE).total
        self.etag_parts = (cid,)
        self.tables: Mapping[Hashable, int] = {id(summary): summary.nbytes}
        self._layout = layout
        self._tables = Tables(layout, descriptor(layout.header.capacity, cid), summary, grains)
        self._area = GrainArea(summary.stored, grains, allocation)
        self._check_unchanged = spec.chain.check_unchanged

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Output. What has the checksum of a grain in it reads all of that grain."""
        start, stop = self._layout.grains, self._layout.tables
        low = min(len(buffer), max(0, start - offset))
        high = max(low, min(len(buffer), stop - offset))
        if low or high < len(buffer):
            self._tables.readinto(offset, buffer[:low], wait=wait)
            self._tables.readinto(offset + high, buffer[high:], wait=wait)
            self._check_unchanged()
        if low < high:
            self._area.readinto(offset + low - start, buffer[low:high], wait=wait)

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """See Output."""
        start = self._layout.grains
        return self._area.known(offset - start, start, wait=wait) if start <= offset < self._layout.tables else None

    def ahead(self, offset: int, most: int) -> Region | None:  # noqa: ARG002 - the file has no holes
        """See Output."""
        return None

    def regions(self) -> Iterator[Region]:
        """See Output."""
        yield Region(0, self.size, None)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:  # noqa: ARG002 - it never waits
        """See Output. It is one piece of data: what is a hole on the disk has no place in the file."""
        return offset if whence == os.SEEK_DATA else self.size


def _identity(spec: ResolvedSpec, summary: Summary) -> tuple[object, ...]:
    """Return what the CID is made of: what is known of the contents before any data are read.

    No time and no inode number is in it, as copies of the same sources give the same file; so what overwrites data in
    place may leave it as it was.
    """
    members = [(each.file.fingerprint.size, sorted(each.metadata.identities)) for each in spec.chain.members]
    top = spec.chain.members[0]
    in_use = summary.tables.between(0, ceil_div(spec.chain.virtual_size, 1 << TABLE_BITS))
    return (
        posixpath.basename(top.file_path),
        top.snapshot,
        spec.chain.virtual_size,
        summary.stored.total,
        hashlib.sha256(np.packbits(in_use).tobytes()).hexdigest(),
        members,
    )
