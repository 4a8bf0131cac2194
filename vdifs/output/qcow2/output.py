"""A synthetic qcow2: tables, then the data clusters in guest order."""

import os
import posixpath
from collections.abc import Hashable, Iterator, Mapping

from vdifs.formats.qcow2.geometry import Geometry
from vdifs.output.allocation import Allocation
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region, ResolvedSpec
from vdifs.output.qcow2.clusters import Clusters, granularity_of
from vdifs.output.qcow2.layout import Backing, Layout, check_geometry, safe_backing_name, size_if_full
from vdifs.output.qcow2.tables import Tables
from vdifs.output.window_area import WindowArea

__all__ = ["Qcow2Output"]

_OWN = "qcow2"


class Qcow2Output:
    """See Output."""

    def __init__(self, spec: ResolvedSpec) -> None:
        """Counts what the disk holds, reading tables, and lays it out.

        Raises UsageError where a table or the backing file name would be too large, and what Allocation.summarize does.
        """
        geometry = Geometry(spec.cluster_bits, spec.chain.virtual_size, spec.extended_l2)
        check_geometry(geometry)
        allocation = Allocation(spec.chain, spec.base, granularity_of(geometry))
        summary = allocation.summarize()
        backing = None if spec.base is None else _backing(spec, spec.base)
        layout = Layout.plan(geometry, summary.tables.count, summary.stored.total, backing)
        clusters = Clusters(allocation)
        data = summary.stored.times(geometry.cluster_size)
        self.size = self.stored = layout.size
        self.size_if_full, self.allocated = size_if_full(geometry), data.total
        self.etag_parts = (spec.cluster_bits, spec.extended_l2), backing and (backing.name, backing.format)
        self.tables: Mapping[Hashable, int] = {id(summary): summary.nbytes}
        self._data_offset = layout.data
        self._tables = Tables(layout, summary, clusters)
        self._data = WindowArea(data, clusters.pieces, PieceReader(spec.chain))
        self._check_unchanged = spec.chain.check_unchanged

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Output."""
        tables = min(len(buffer), max(0, self._data_offset - offset))
        if tables:
            self._tables.readinto(offset, buffer[:tables], wait=wait)
            self._check_unchanged()
        if tables < len(buffer):
            self._data.readinto(offset + tables - self._data_offset, buffer[tables:], wait=wait)

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """See Output."""
        if offset < self._data_offset:
            return None
        return self._data.known(offset - self._data_offset, self._data_offset, wait=wait)

    def ahead(self, offset: int, most: int) -> Region | None:  # noqa: ARG002 - the file has no holes
        """See Output."""
        return None

    def regions(self) -> Iterator[Region]:
        """See Output."""
        yield Region(0, self._data_offset, None)
        yield from self._data.regions(self._data_offset)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:  # noqa: ARG002 - it never waits
        """See Output. It is one piece of data: what is a hole on the disk has no place in the file."""
        return offset if whence == os.SEEK_DATA else self.size


def _backing(spec: ResolvedSpec, index: int) -> Backing:
    """Return how the base is named: as its full image is called, if it is neither a qcow2 nor raw.

    The base of a delta is what a reader of qcow2 opens: it would find no parent of another format, or not look at it.
    """
    member, name = spec.chain.members[index], spec.backing_name
    stays = member.format == _OWN or member.metadata.format.unmarked
    if name is None:
        name = safe_backing_name(posixpath.basename(member.path) + ("" if stays else f".{_OWN}"))
    return Backing(name, spec.backing_format or (member.format if stays else _OWN))
