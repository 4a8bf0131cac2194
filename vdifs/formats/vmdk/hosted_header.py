"""Hosted sparse files: header and footer. Pure.

What VMware's desktop products, QEMU and exports have: monolithicSparse, twoGbMaxExtentSparse, streamOptimized. See
docs/formats.md, VMDK.
"""

import struct
from enum import IntFlag
from typing import NamedTuple

from vdifs.errors import FormatError
from vdifs.formats.vmdk.sparse_headers import HOSTED_MAGIC, check_grain_size
from vdifs.formats.vmdk.stream import MetadataMarker, MetadataType
from vdifs.units import SECTOR

__all__ = ["AT_END", "FOOTER_SECTORS", "NEWLINES", "HostedFlag", "HostedHeader", "parse_footer"]

FOOTER_SECTORS = 3
"""Its marker, itself, and the marker of the end."""
AT_END = (1 << 64) - 1
"""The offset of a directory of which the footer says where it is."""
_MAX_TABLE_ENTRIES = 512
_DESCRIPTOR_MAX_SECTORS = 2048
NEWLINES = b"\n \r\n"
"""What a copy as text would change."""
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")


class HostedFlag(IntFlag):
    """Bits of `flags`."""

    NEWLINE_TEST = 1
    REDUNDANT_DIRECTORY = 2
    ZERO_GRAINS = 4
    PACKED = 1 << 16
    MARKERS = 1 << 17


_UNKNOWN = ((1 << 32) - 1) & ~((1 << 18) - 1)


class HostedHeader(NamedTuple):
    """Fields in their order. Offsets and sizes are in sectors."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    num_gtes_per_gt: int
    rgd_offset: int
    gd_offset: int
    overhead: int
    unclean_shutdown: int
    newlines: bytes
    compress_algorithm: int

    @classmethod
    def parse(cls, sector: bytes) -> "HostedHeader":
        """Return the header that `sector` begins with. Raises FormatError where it breaks a rule."""
        if len(sector) < _HEADER.size:
            raise FormatError(f"its header has {len(sector)} bytes, expected {SECTOR}")
        header = cls._make(_HEADER.unpack_from(sector))
        header._check()
        return header

    def pack(self) -> bytes:
        """Return its sector."""
        return _HEADER.pack(*self).ljust(SECTOR, b"\0")

    def _check(self) -> None:
        flags = self.flags
        if self.magic != HOSTED_MAGIC:
            raise FormatError(f"its header begins with {self.magic!r}, expected {HOSTED_MAGIC!r}")
        if not 1 <= self.version <= 3:
            raise FormatError(f"its header has the version {self.version}, expected 1 to 3")
        if flags & _UNKNOWN:
            raise FormatError(f"its header has unknown flags: {flags & _UNKNOWN:#x}")
        if bool(flags & HostedFlag.PACKED) != bool(flags & HostedFlag.MARKERS):
            raise FormatError(f"of its flags {flags:#x}, those of compression and of markers do not go together")
        if self.compress_algorithm != int(bool(flags & HostedFlag.PACKED)):
            raise FormatError(f"its compression algorithm {self.compress_algorithm} does not fit the flags {flags:#x}")
        if not self.capacity:
            raise FormatError("its header has a capacity of 0 sectors")
        check_grain_size(self.grain_size)
        if self.descriptor_offset and self.descriptor_size > _DESCRIPTOR_MAX_SECTORS:
            most = _DESCRIPTOR_MAX_SECTORS
            raise FormatError(f"its descriptor has {self.descriptor_size} sectors, expected at most {most}")
        if not 1 <= self.num_gtes_per_gt <= _MAX_TABLE_ENTRIES:
            most = _MAX_TABLE_ENTRIES
            raise FormatError(f"its grain tables have {self.num_gtes_per_gt} entries, expected 1 to {most}")
        if flags & HostedFlag.NEWLINE_TEST and self.newlines != NEWLINES:
            remedy = "it was copied as text; copy it as it is"
            raise FormatError("the line ends in its header were converted", remedy=remedy)

    @property
    def has_footer(self) -> bool:
        """Whether where the tables are is said at the end of the file."""
        return self.gd_offset == AT_END


def parse_footer(sectors: bytes, header: HostedHeader) -> HostedHeader:
    """Return the footer: the header with the offset of the directory. sectors: the last three of the file.

    Raises FormatError where there is none, or another one than that of `header`.
    """
    whole = len(sectors) == FOOTER_SECTORS * SECTOR
    if not whole or MetadataMarker.parse(sectors)[1:] != (0, MetadataType.FOOTER):
        raise FormatError("the footer is missing, which says where its tables are", remedy=_CUT)
    if any(sectors[2 * SECTOR :]):
        raise FormatError("there is no end marker behind its footer", remedy=_CUT)
    try:
        footer = HostedHeader.parse(sectors[SECTOR : 2 * SECTOR])
    except FormatError as error:
        raise error.at("in its footer") from error
    same = "flags", "capacity", "grain_size", "num_gtes_per_gt"
    for name in same:
        if getattr(footer, name) != getattr(header, name):
            raise FormatError(f"its footer and its header differ in the field {name}")
    if footer.has_footer:
        raise FormatError("its footer does not say where its tables are")
    return footer


_CUT = "the file was cut short; restore it from a copy"
