"""The header of a VDI: what it says, and which of its rules no reader may overlook. Pure.

docs/formats.md, VDI. All numbers are little-endian. Messages name the field; the caller, which knows the file, puts its
name in front.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from vdifs.errors import CUT_SHORT, FormatError, UnsupportedError
from vdifs.units import SECTOR, ceil_div, round_up

__all__ = ["HEADER_LENGTH", "MAX_MAP_BYTES", "NO_UUID", "RESTORE", "Header", "ImageType"]

NO_UUID = UUID(int=0)
RESTORE = "restore it from a copy"
"""What to do with a damaged VDI: no common program repairs one."""
MAX_MAP_BYTES = 64 << 20

_SIGNATURE_AT, _SIZE_FROM = 64, 72
_FIELDS = struct.Struct("<64sIIIII256sIIIIIIIQIIII16s16s16s16s")
_GEOMETRY = struct.Struct("<IIII")
_VERSION = 0x00010001
_LEAST_SIZE, _SIZE_WITH_GEOMETRY = 0x180, 0x190
_MIN_BLOCK, _MAX_BLOCK = 128 << 10, 128 << 20

HEADER_LENGTH = _FIELDS.size + _GEOMETRY.size
"""Bytes that are read, at most; the last of them are not in every image."""


class ImageType(IntEnum):
    """The types that are read."""

    DYNAMIC = 1
    STATIC = 2
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True)
class Header:
    """The fields in their order; offsets and sizes in bytes.

    geometry, logical_geometry: cylinders, heads, sectors, of the second also bytes in each; None in older images.
    """

    text: bytes
    version: int
    header_size: int
    image_type: ImageType
    flags: int
    comment: bytes
    map_offset: int
    data_offset: int
    geometry: tuple[int, int, int]
    sector_size: int
    unused: int
    disk_size: int
    block_size: int
    block_extra: int
    blocks: int
    allocated_blocks: int
    uuid: UUID
    modification_uuid: UUID
    parent_uuid: UUID
    parent_modification_uuid: UUID
    logical_geometry: tuple[int, int, int, int] | None

    @classmethod
    def parse(cls, data: bytes, file_size: int) -> "Header":
        """Return the header in `data`, the first HEADER_LENGTH bytes of a file of `file_size` bytes, or all of them.

        Raises FormatError where a rule is broken, UnsupportedError for another version.
        """
        version = int.from_bytes(data[_SIGNATURE_AT + 4 : _SIZE_FROM], "little")
        if len(data) < _FIELDS.size:
            what = f"its header has at least {_FIELDS.size} bytes, the file only {file_size}"
            raise FormatError(what, remedy=CUT_SHORT)
        if version != _VERSION:
            what = f"its header has the version {version >> 16}.{version & 0xFFFF}: only 1.1 is read"
            raise UnsupportedError(what, remedy="convert it with 'VBoxManage clonemedium'")
        text, _, _, header_size, kind, *values = _FIELDS.unpack_from(data)
        if header_size < _LEAST_SIZE:
            what = f"its header claims {header_size} bytes, expected at least {_LEAST_SIZE}"
            raise FormatError(what, remedy=RESTORE)
        if kind not in _KNOWN_TYPES:
            what = f"its type is {kind}, expected 1 (dynamic), 2 (static) or 4 (differencing)"
            raise FormatError(what, remedy=RESTORE)
        flags, comment, map_offset, data_offset, cylinders, heads, sectors, *sizes = values[:-4]
        logical = None
        if header_size >= _SIZE_WITH_GEOMETRY and len(data) >= HEADER_LENGTH:
            logical = _GEOMETRY.unpack_from(data, _FIELDS.size)
        uuids = (UUID(bytes_le=each) for each in values[-4:])
        places, geometry = (map_offset, data_offset), (cylinders, heads, sectors)
        fields = text, version, header_size, ImageType(kind), flags, comment, *places, geometry, *sizes, *uuids, logical
        header = cls(*fields)
        header._check_sizes()
        header._check_places(file_size)
        header._check_parent()
        return header

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk: the last sector counts whole, as in QEMU."""
        return round_up(self.disk_size, SECTOR)

    @property
    def disk_blocks(self) -> int:
        """How many entries of the map a disk of this size needs; what is behind them means nothing."""
        return ceil_div(self.virtual_size, self.block_size)

    @property
    def map_length(self) -> int:
        """Bytes of all entries."""
        return self.blocks * 4

    @property
    def block_space(self) -> int:
        """Bytes in the file of each block, what is in front of its data included."""
        return self.block_extra + self.block_size

    @property
    def first_block(self) -> int:
        """Where the data of the first block in the file are."""
        return self.data_offset + self.block_extra

    @property
    def is_differencing(self) -> bool:
        """Whether it has a parent."""
        return self.image_type is ImageType.DIFFERENCING

    def _check_sizes(self) -> None:
        if self.sector_size != SECTOR:
            raise FormatError(f"its sectors have {self.sector_size} bytes, expected 512", remedy=RESTORE)
        if not self.disk_size:
            raise FormatError("its disk has 0 bytes", remedy=RESTORE)
        if self.block_size & (self.block_size - 1) or not _MIN_BLOCK <= self.block_size <= _MAX_BLOCK:
            what = f"its blocks have {self.block_size} bytes, expected a power of two from 128 KiB to 128 MiB"
            raise FormatError(what, remedy=RESTORE)
        if self.block_extra & (self.block_extra - 1):
            what = f"its blocks have {self.block_extra} bytes of extra data, expected none or a power of two"
            raise FormatError(what, remedy=RESTORE)
        if self.map_length > MAX_MAP_BYTES:
            what = f"its block map has {self.blocks} entries, expected at most {MAX_MAP_BYTES // 4}"
            raise FormatError(what, remedy=RESTORE)
        if self.blocks * self.block_size < self.virtual_size:
            what = f"its {self.blocks} blocks of {self.block_size} bytes are too few for a disk of"
            raise FormatError(f"{what} {self.disk_size} bytes", remedy=RESTORE)

    def _check_places(self, file_size: int) -> None:
        behind_header, map_end = _SIZE_FROM + self.header_size, self.map_offset + self.map_length
        if self.map_offset < behind_header:
            what = f"its block map is at {self.map_offset:#x}, within its header, which ends at {behind_header:#x}"
            raise FormatError(what, remedy=RESTORE)
        if map_end > self.data_offset:
            what = f"its block map ends at {map_end:#x}, behind the start of its data at {self.data_offset:#x}"
            raise FormatError(what, remedy=RESTORE)
        if map_end > file_size:
            what = f"its block map ends at {map_end:#x}, beyond the end of the file at {file_size:#x}"
            raise FormatError(what, remedy=CUT_SHORT)

    def _check_parent(self) -> None:
        if self.is_differencing and self.parent_uuid == NO_UUID:
            what = "it is a differencing image, and the UUID of its parent is all zeros"
            raise FormatError(what, remedy=RESTORE)
        if not self.is_differencing and self.parent_uuid != NO_UUID:
            what = f"it names the parent {self.parent_uuid}, and its type is {int(self.image_type)}, expected 4"
            raise FormatError(what, remedy=RESTORE)


_KNOWN_TYPES = frozenset(ImageType)
