"""Packed grains (streamOptimized): each behind a marker that says which it is, and how long. Pure.

    marker   u64 sector of the disk | u32 bytes | zlib stream, with header and Adler-32

See docs/formats.md, VMDK.
"""

import struct
from typing import NamedTuple

from vdifs.errors import FormatError
from vdifs.units import SECTOR

__all__ = ["MARKER_SIZE", "Marker", "short_grain"]

_MARKER = struct.Struct("<QI")
MARKER_SIZE = _MARKER.size


class Marker(NamedTuple):
    """What stands before the bytes of a packed grain. sector: of the extent's disk. length: of those bytes."""

    sector: int
    length: int

    @classmethod
    def parse(cls, packed: bytes) -> "Marker":
        """Return the marker that `packed` begins with, of MARKER_SIZE bytes at least."""
        return cls._make(_MARKER.unpack_from(packed))

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
