"""The disk of a VMDK: its extents one after the other, each a part that knows only itself.

extents    |  data[0], from sector 0  |  zeros  |  data[1], grain tables       |
disk       |0                                                       virtual size|
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import CUT_SHORT, FormatError, UnsupportedError
from vdifs.extents import Extents, Kind
from vdifs.formats.layer import PackedBytes, identity_of
from vdifs.formats.load import Load
from vdifs.formats.vmdk.sparse_extent import SparseExtent
from vdifs.formats.vmdk.stream import MARKER_SIZE, Marker, short_grain
from vdifs.pace import give_way
from vdifs.ranges import Ranges
from vdifs.storage.host_file import HostFile
from vdifs.storage.known_holes import data_of
from vdifs.units import SECTOR

__all__ = ["Part", "Placed", "VmdkLayer", "VmdkState"]


_LINE_BYTES, _FILE_BYTES = 768, 3072
"""Of memory for each line of a descriptor, and the part of the disk that it is; and for each file that is open."""


class Part(Protocol):
    """One extent, as a disk of its own, from 0 to `size`."""

    @property
    def size(self) -> int:
        """Bytes of disk."""

    @property
    def grain(self) -> int:
        """Bytes that an entry of its tables stands for: see Load."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""

    def extents(self, start: int, end: int, *, detailed: bool) -> Extents:
        """Return what it holds of [start, end), not empty: as of a Layer with one data file. detailed: in MapKind.

        The token of a packed grain is where it begins.
        """

    def populated(self, *, has_backing: bool) -> NDArray[np.int64]:
        """Return the ranges outside of which it has no data, and of an image with a parent nothing: as of a Layer."""


class Placed(NamedTuple):
    """A part from offset `start` of the disk on. file: the index of its file among the data files."""

    start: int
    part: Part
    file: int = 0


class VmdkState(NamedTuple):
    """The one state of an image."""

    virtual_size: int


class VmdkLayer:
    """A VMDK without the images below it. See Layer."""

    def __init__(
        self,
        file: HostFile,
        data: Sequence[HostFile],
        placed: Sequence[Placed],
        claims: Hashable,
        *,
        has_backing: bool,
        lines: int = 1,
    ) -> None:
        """Take the parts, in order, without gaps. claims: what, beside the files, determines them.

        lines: how many of a descriptor are kept for them.
        """
        self.file, self.data, self.placed = file, data, placed
        self.has_backing = has_backing
        self._starts = [each.start for each in placed]
        self.virtual_size = placed[-1].start + placed[-1].part.size
        self.state = VmdkState(self.virtual_size)
        files = list(dict.fromkeys([file, *data]))
        self.identity = identity_of(files, [data_of(each) for each in files], (claims, has_backing))
        self.load = _load_of(placed, has_backing=has_backing)
        self.compressed = _packed_grains(placed, data)
        objects = lines * _LINE_BYTES + len(files) * _FILE_BYTES
        self.nbytes = self.load.nbytes + sum(each.part.nbytes for each in placed) + objects

    def extents(self, start: int, end: int) -> Extents:
        """Return the merged runs of [start, end); see Layer."""
        found = self._joined(start, end, detailed=False)
        bare = found.kind == Kind.UNALLOCATED
        if self.has_backing or not bare.any():
            return found
        kind, file = np.where(bare, np.uint8(Kind.ZERO), found.kind), np.where(bare, np.int16(0), found.file)
        return Extents(found.start, kind, file, found.host, found.end).merged()

    def details(self, start: int, end: int) -> Extents:
        """Return the runs of [start, end) with all kinds; see Layer."""
        return self._joined(start, end, detailed=True)

    def populated(self) -> NDArray[np.int64]:
        """See Layer."""
        rows = [each.part.populated(has_backing=self.has_backing) + each.start for each in self.placed]
        return Ranges.union(np.concatenate(rows)).rows

    def _joined(self, start: int, end: int, *, detailed: bool) -> Extents:
        return Extents.joined(list(self._each(start, end, detailed)))

    def _each(self, start: int, end: int, detailed: bool) -> Iterator[Extents]:
        index = bisect_right(self._starts, start) - 1
        while start < end:
            origin, part, file = self.placed[index]
            stop = min(end, origin + part.size)
            give_way()
            yield _moved(part.extents(start - origin, stop - origin, detailed=detailed), origin, file)
            start, index = stop, index + 1


def _moved(own: Extents, origin: int, index: int) -> Extents:
    """Return what a part holds where it lies on the disk; index: of its file."""
    kind = own.kind
    file = np.where(kind == Kind.UNALLOCATED, own.file, np.int16(index))
    file[kind == Kind.ZERO] = 0
    host = own.host + np.where(kind == Kind.COMPRESSED, origin, 0)
    return Extents(own.start + origin, kind, file, host, own.end + origin)


def _load_of(placed: Sequence[Placed], *, has_backing: bool) -> Load:
    """Return the load of all parts, each by its own grain; their ranges may touch one another."""
    rows = [each.part.populated(has_backing=has_backing) + each.start for each in placed]
    grains = np.array([each.part.grain for each in placed], np.float64).repeat([len(each) for each in rows])
    return Load(np.concatenate(rows), grains)


def _packed_grains(placed: Sequence[Placed], data: Sequence[HostFile]) -> "PackedGrains | None":
    """Return the packed grains of all parts, None where there are none.

    Units must be alike and at multiples of their size, so several packed extents have to fit one another.
    """
    packed = [each for each in placed if isinstance(each.part, SparseExtent) and each.part.tables.packed]
    if not packed:
        return None
    unit = packed[0].part.grain
    short = short_grain(packed[-1].part.size, unit)
    alike = all(each.part.grain == unit and each.start % unit == 0 for each in packed)
    if not alike or (len(packed) > 1 and (short or any(each.part.size % unit for each in packed))):
        what = "it has several compressed extents, and their grains do not fit one another"
        raise UnsupportedError(what, where=data[packed[1].file if len(packed) > 1 else packed[0].file].name)
    return PackedGrains(unit, tuple(packed), short)


@dataclass(frozen=True, slots=True)
class PackedGrains:
    """The packed grains of an image; see Compressed. A token is the offset of the disk at which a grain begins."""

    unit: int
    placed: tuple[Placed, ...]
    short: dict[int, int]

    def place(self, token: int) -> PackedBytes:
        """Return where a grain lies, its marker in front. Reads that; raises FormatError where it is another's."""
        start, part, _ = self.placed[bisect_right(self.placed, token, key=lambda each: each.start) - 1]
        assert isinstance(part, SparseExtent), "only these are packed"
        file, offset = part.file, part.packed_grain(token - start)
        marker = Marker.parse(file.read_at(offset, MARKER_SIZE))
        length = MARKER_SIZE + marker.length
        try:
            marker.check((token - start) // SECTOR, self.unit)
            if offset + length > file.size:
                what = f"it ends at {offset + length:#x}, beyond the end of the file at {file.size:#x}"
                raise FormatError(what, remedy=CUT_SHORT)
        except FormatError as error:
            damaged = error.at(file.name, f"packed grain at {offset:#x}")
            damaged.about = "packed grains", file.path  # one line in the log, not one for each grain
            raise damaged from error
        return PackedBytes(offset, length)

    def unpacker(self) -> Callable[[bytes], bytes]:
        """Return what unpacks a grain."""
        from vdifs.formats.vmdk.inflate import Unpacker  # its library is only for who has packed grains

        return Unpacker(self.unit, self.short).unpack

    @property
    def as_is(self) -> None:
        """None: they have markers before them, and the frame of a zlib stream, which a qcow2 has not."""
