"""What each cluster of a synthetic qcow2 must be (docs/specification.md 2.2), from `qemu-img map` of the source.

    source, as QEMU maps it      |-- data --|-- data in a hole --|-- zeros --|-- untouched above the base --|
    full                          data       nothing              nothing     nothing
    delta                         data       zeros                zeros       nothing

A cluster that is part zeros, part untouched must hold data in a delta, if below the base there are any.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntFlag
from math import inf
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.support import oracle
from tests.support.chains import SourceChain

Clusters = npt.NDArray[np.uint8]  # one entry per cluster of the output
Run = tuple[int, int]

FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
FIEMAP_EXTENT_LAST = 0x1
FIEMAP_EXTENT_UNWRITTEN = 0x800


class Part(IntFlag):
    """What parts of one output cluster are in the source."""

    DATA = 1
    ZERO = 2
    UNTOUCHED = 4
    DATA_BELOW = 8  # untouched above the base, which holds data there


class Kind(IntFlag):
    """What an output cluster is; several bits: any of them will do."""

    NOTHING = 1
    ZERO = 2
    DATA = 4


class SourceAllocation:
    """What the images of one chain hold; QEMU and the file system are asked once for each."""

    def __init__(self, chain: SourceChain) -> None:
        self.images = chain.images
        self.extents = [oracle.map_of(image.path, image.format) for image in chain.images]
        self.data_runs = [runs_with_data(image.path) for image in chain.images]

    def wanted(self, image: int, base: int | None, cluster_size: int) -> Clusters:
        """Return the Kind that each cluster of an output must have: of a full image, or of the delta against `base`."""
        parts = self.parts(image, base, cluster_size)
        data = (parts & Part.DATA) != 0
        zero = (parts & Part.ZERO) != 0
        filled = zero & ((parts & Part.DATA_BELOW) != 0)
        if base is None:
            return np.where(data, np.uint8(Kind.DATA), np.uint8(Kind.NOTHING))
        kinds = np.full(len(parts), Kind.NOTHING, np.uint8)
        kinds[zero] = Kind.ZERO
        kinds[data | filled] = Kind.DATA
        return kinds

    def parts(self, image: int, base: int | None, cluster_size: int) -> Clusters:
        """Return the Parts of each output cluster."""
        parts = np.zeros(-(-self.images[image].virtual_size // cluster_size), np.uint8)
        last = len(self.images) - 1 - image
        layers_above = len(self.images) if base is None else base - image
        for extent in self.extents[image]:
            touched = layer_of(extent, last) < layers_above
            mark(parts, cluster_size, (extent.start, extent.end), Part.ZERO if touched else Part.UNTOUCHED)
            for run in self.data_in(extent, image + extent.depth):
                mark(parts, cluster_size, run, Part.DATA if touched else Part.DATA_BELOW)
        return parts

    def data_in(self, extent: oracle.MapExtent, image: int) -> Iterator[Run]:
        """Yield the guest ranges of an extent whose data lie in no hole of the image's file."""
        if not extent.data:
            return
        if extent.offset is None:  # compressed
            yield extent.start, extent.end
            return
        shift = extent.start - extent.offset
        for start, end in self.data_runs[image]:
            if start + shift < extent.end and end + shift > extent.start:
                yield max(start + shift, extent.start), min(end + shift, extent.end)


def layer_of(extent: oracle.MapExtent, last: int) -> float:
    """Return how deep the image lies that decides over an extent; infinity if none does.

    Where an image has nothing and its backing file ends before, that backing file reads as zeros, and hides all below.
    """
    if extent.present:
        return extent.depth
    return extent.depth + 1 if extent.depth < last else inf


def mark(parts: Clusters, cluster_size: int, run: Run, part: Part) -> None:
    parts[run[0] // cluster_size : -(-run[1] // cluster_size)] |= np.uint8(part)


def held_clusters(extents: Sequence[oracle.MapExtent], virtual_size: int, cluster_size: int) -> Clusters:
    """Return the Kind of each cluster of a synthetic file, of itself alone, from its map."""
    kinds = np.full(-(-virtual_size // cluster_size), Kind.NOTHING, np.uint8)
    for extent in extents:
        if extent.depth == 0 and extent.present:
            kind = Kind.DATA if extent.data else Kind.ZERO
            run = slice(extent.start // cluster_size, -(-extent.end // cluster_size))
            assert {Kind.NOTHING, kind}.issuperset(kinds[run].tolist()), f"{extent} shares a cluster with another kind"
            kinds[run] = kind
    return kinds


def unlike(held: Clusters, wanted: Clusters) -> str | None:
    """Return None if each cluster is of a wanted kind, else what the first few that are not should have been."""
    wrong = np.flatnonzero((held & wanted) == 0)
    shown = [f"cluster {i:#x} is {Kind(int(held[i]))!r}, not {Kind(int(wanted[i]))!r}" for i in wrong[:5].tolist()]
    return f"{len(wrong)} clusters are wrong: {'; '.join(shown)}" if shown else None


def data_is_in_guest_order(
    extents: Sequence[oracle.MapExtent], held: Clusters, cluster_size: int, file_size: int
) -> bool:
    """Tell whether the data clusters lie one behind the other, as the guest has them, up to the end of the file.

    held: what held_clusters makes of `extents`.
    """
    is_data = held == Kind.DATA
    data_before = np.cumsum(is_data) - is_data
    first = file_size - int(is_data.sum()) * cluster_size
    for extent in extents:
        if extent.depth == 0 and extent.data:
            cluster, within = divmod(extent.start, cluster_size)
            if extent.offset != first + int(data_before[cluster]) * cluster_size + within:
                return False
    return True


def runs_with_data(path: Path) -> list[Run]:
    """Return the ranges of a file that hold written data: no holes and, where the file system tells, nothing that is
    allocated but was never written. (SEEK_DATA alone calls such a range data once a reader brought it into the cache.)
    """
    with path.open("rb") as file:
        runs = list(seek_data(file.fileno()))
        unwritten = list(unwritten_extents(file.fileno()))
    for start, end in unwritten:
        runs = [piece for run in runs for piece in ((run[0], min(run[1], start)), (max(run[0], end), run[1]))]
        runs = [(low, high) for low, high in runs if low < high]
    return runs


def seek_data(descriptor: int) -> Iterator[Run]:
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def unwritten_extents(descriptor: int) -> Iterator[Run]:
    """Yield the ranges that are allocated on the host but were never written (FS_IOC_FIEMAP), if it can say."""
    header, extent, count, start = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII"), 256, 0
    while True:
        request = bytearray(header.pack(start, (1 << 63) - 1 - start, FIEMAP_FLAG_SYNC, 0, count, 0))
        request += bytes(extent.size * count)
        try:
            fcntl.ioctl(descriptor, FS_IOC_FIEMAP, request)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY):
                raise
            return
        mapped = header.unpack_from(request)[3]
        flags = FIEMAP_EXTENT_LAST
        for index in range(mapped):
            logical, _, length, _, _, flags, *_ = extent.unpack_from(request, header.size + index * extent.size)
            start = logical + length
            if flags & FIEMAP_EXTENT_UNWRITTEN:
                yield logical, start
        if flags & FIEMAP_EXTENT_LAST:
            return
