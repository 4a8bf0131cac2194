"""A synthetic qcow2: tables, then the data clusters in guest order."""

import os
import posixpath
from collections.abc import Hashable, Iterator, Mapping

from vdifs.formats.layer import Codec
from vdifs.formats.qcow2.compressed import COMPRESSION_TYPES
from vdifs.formats.qcow2.geometry import Geometry
from vdifs.output.allocation import Allocation
from vdifs.output.packed_area import PackedArea
from vdifs.output.packing import PackableUnits, PackedRuns
from vdifs.output.piece_reader import PieceReader
from vdifs.output.protocol import Region, ResolvedSpec
from vdifs.output.qcow2.clusters import Clusters, granularity_of
from vdifs.output.qcow2.layout import Backing, Layout, Packed, check_geometry, safe_backing_name, size_if_full
from vdifs.output.qcow2.tables import Areas, Tables
from vdifs.output.window_area import WindowArea
from vdifs.output.window_sums import WindowSums, less
from vdifs.units import SECTOR

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
        units = PackableUnits(spec.chain, spec.cluster_bits) if spec.packed == "keep" else None
        allocation = Allocation(spec.chain, spec.base, granularity_of(geometry), units)
        summary = allocation.summarize()
        codec, plain, packed = _divided(summary.stored, {} if units is None else summary.packed or {})
        data = plain.times(geometry.cluster_size)
        backing = None if spec.base is None else _backing(spec, spec.base)
        clusters = Clusters(allocation, codec)
        area = None
        if packed is not None and units is not None:
            area = PackedArea(packed, clusters.packed, spec.chain, units)
        layout = Layout.plan(
            geometry,
            summary.tables.count,
            plain.total,
            backing,
            None if codec is None or packed is None else Packed(COMPRESSION_TYPES[codec], packed.total),
        )
        self.size = self.stored = layout.size
        self.size_if_full = size_if_full(geometry)
        self.allocated = summary.stored.total << spec.cluster_bits
        self.packed = 0 if packed is None else packed.total
        self.etag_parts = (
            (spec.cluster_bits, spec.extended_l2),
            backing and (backing.name, backing.format),
            *(() if codec is None else (codec,)),
        )
        self.tables: Mapping[Hashable, int] = {id(summary): summary.nbytes}
        self._tables = Tables(layout, summary, clusters, Areas(data, packed, area))
        self._data = WindowArea(data, clusters.pieces, PieceReader(spec.chain))
        self._packed = area
        self._ends = layout.data, layout.packed
        self._check_unchanged = spec.chain.check_unchanged

    def readinto(self, offset: int, buffer: memoryview, *, wait: bool) -> None:
        """See Output."""
        data, packed = self._ends
        end = offset + len(buffer)
        if offset < data:
            self._tables.readinto(offset, buffer[: data - offset], wait=wait)
            self._check_unchanged()
        low, high = max(offset, data), min(end, packed)
        if low < high:
            self._data.readinto(low - data, buffer[low - offset : high - offset], wait=wait)
        if end > packed and self._packed is not None:
            low = max(offset, packed)
            self._packed.readinto(low - packed, buffer[low - offset :], wait=wait)

    def known(self, offset: int, *, wait: bool) -> Region | None:
        """See Output."""
        data, packed = self._ends
        if offset < data:
            return None
        if offset < packed:
            return self._data.known(offset - data, data, wait=wait)
        if self._packed is None or offset - packed >= self._packed.size:
            return None
        return self._packed.known(offset - packed, packed, wait=wait)

    def ahead(self, offset: int, most: int) -> Region | None:  # noqa: ARG002 - the file has no holes
        """See Output."""
        return None

    def regions(self) -> Iterator[Region]:
        """See Output."""
        data, packed = self._ends
        yield Region(0, data, None)
        yield from self._data.regions(data)
        if self._packed is not None:
            yield from self._packed.regions(packed)

    def seek(self, offset: int, whence: int, *, wait: bool) -> int:  # noqa: ARG002 - it never waits
        """See Output. It is one piece of data: what is a hole on the disk has no place in the file."""
        return offset if whence == os.SEEK_DATA else self.size


def _divided(
    stored: WindowSums, packed: Mapping[Codec, PackedRuns]
) -> tuple[Codec | None, WindowSums, WindowSums | None]:
    """Return how clusters stay packed, how many are plain, and the bytes of packed ones; None where none stay so.

    A file has one compression type: that of most of the clusters that may stay packed. The others are plain.
    """
    if not packed:
        return None, stored, None
    counts = {codec: WindowSums(runs.blocks).total for codec, runs in packed.items()}
    codec = max(sorted(counts), key=counts.__getitem__)
    plain = WindowSums(less(stored.runs, packed[codec].blocks))
    return codec, plain, WindowSums(packed[codec].sectors).times(SECTOR)


def _backing(spec: ResolvedSpec, index: int) -> Backing:
    """Return how the base is named: as its full image is called, if it is neither a qcow2 nor raw.

    The base of a delta is what a reader of qcow2 opens: it would find no parent of another format, or not look at it.
    """
    member, name = spec.chain.members[index], spec.backing_name
    stays = member.format == _OWN or member.metadata.format.unmarked
    if name is None:
        name = safe_backing_name(posixpath.basename(member.path) + ("" if stays else f".{_OWN}"))
    return Backing(name, spec.backing_format or (member.format if stays else _OWN))
