"""Markers of streamOptimized files: each packed grain, table and footer stands behind one. Pure.

    grain    u64 sector of the disk | u32 bytes | zlib stream, with header and Adler-32
    others   u64 sectors that follow | u32 0 | u32 type | zeros to the end of the sector

See docs/formats.md, VMDK.
"""

import struct
from enum import IntEnum
from typing import NamedTuple, Self

from vdifs.errors import FormatError
from vdifs.units import SECTOR

__all__ = ["MARKER_SIZE", "Marker", "MetadataMarker", "MetadataType", "short_grain"]

_MARKER = struct.Struct("<QI")
_METADATA = struct.Struct("<QII")
MARKER_SIZE = _MARKER.size
"""Bytes of a grain's marker."""


class MetadataType(IntEnum):
    """What follows a marker that is none of a grain."""

    END = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3


class MetadataMarker(NamedTuple):
    """What stands before anything but a grain. sectors: of what follows. size: 0, where a grain's marker has its bytes.

    type: a MetadataType, or another number.
    """

    sectors: int
    size: int
    type: int

    @classmethod
    def parse(cls, sector: bytes) -> Self:
        """Return the marker that `sector` begins with, of a whole sector."""
        return cls._make(_METADATA.unpack_from(sector))

    def pack(self) -> bytes:
        """Return its sector."""
        return _METADATA.pack(*self).ljust(SECTOR, b"\0")


class Marker(NamedTuple):
    """What stands before the bytes of a packed grain. sector: of the extent's disk. length: of those bytes."""

    sector: int
    length: int

    @classmethod
    def parse(cls, packed: bytes) -> "Marker":
        """Return the marker that `packed` begins with, of MARKER_SIZE bytes at least."""
        return cls._make(_MARKER.unpack_from(packed))

    def pack(self) -> bytes:
        """Return its MARKER_SIZE bytes."""
        return _MARKER.pack(*self)

    def check(self, sector: int, grain: int) -> None:
        """Raise FormatError unless it is that of the grain at `sector`. grain: bytes in it."""
        if self.sector != sector:
            raise FormatError(f"its marker says that it is sector {self.sector} of the disk, expected {sector}")
        if not 0 < self.length <= 2 * grain:
            raise FormatError(f"its marker says that it has {self.length} bytes, expected 1 to {2 * grain}")


def short_grain(size: int, grain: int) -> dict[int, int]:
    """Return how many bytes of its last grain a disk of `size` bytes needs, by its sector, if not all."""
    rest = size % grain
    return {(size - rest) // SECTOR: rest} if rest else {}
