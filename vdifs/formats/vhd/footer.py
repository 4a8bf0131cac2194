"""The footer of a VHD: what it says, and which of its rules no reader may overlook. Pure.

docs/formats.md, VHD. All numbers are big-endian. Messages name the field; the caller, which knows the file, puts its
name in front.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from vdifs.errors import FormatError, UnsupportedError, quoted
from vdifs.units import SECTOR, round_down

__all__ = [
    "COOKIE",
    "FOOTER_LENGTH",
    "MAX_SIZE",
    "NO_OFFSET",
    "POISON",
    "RESTORE",
    "DiskType",
    "Footer",
    "checksum",
    "creator_name",
    "is_sound",
    "is_sound_fixed",
    "sealed",
]

COOKIE = b"conectix"
POISON = b"v_poison"
FOOTER_LENGTH = 512
MAX_SIZE = 2040 << 30
"""Bytes of the largest disk."""
NO_OFFSET = (1 << 64) - 1
"""What stands where an offset would be, of something that is not there."""
RESTORE = "restore it from a copy"
"""What to do with a damaged VHD: no common program repairs one."""

_FIELDS = struct.Struct(">8sIIQI4sI4sQQHBBII16sBB")
_CHECKSUM_AT, _HIDDEN_AT = 64, 85
_TAPDISK = b"tap\0"
_SIGNED_WITHOUT_HIDDEN = frozenset({0x00000001, 0x00010001})
_SIZED_BY_GEOMETRY = frozenset({b"vpc ", b"vs  ", b"qemu"})
_GREATEST_GEOMETRY = (65535, 16, 255)


class DiskType(IntEnum):
    """The types that are read."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True)
class Footer:
    """The fields in their order; offsets and sizes in bytes."""

    features: int
    version: int
    header_offset: int
    time_stamp: int
    creator: bytes
    creator_version: int
    creator_os: bytes
    original_size: int
    current_size: int
    cylinders: int
    heads: int
    sectors: int
    disk_type: DiskType
    checksum: int
    uuid: UUID
    saved_state: int
    hidden_flag: int

    @classmethod
    def parse(cls, data: bytes) -> "Footer":
        """Return the footer in `data`, 512 bytes that begin with the cookie.

        Raises FormatError for a wrong checksum, an unknown type and a size out of bounds, UnsupportedError for another
        major version.
        """
        values = _FIELDS.unpack_from(data)
        version, kind, found = values[2], values[13], values[14]
        if not is_sound(data):
            what = f"the checksum of its footer is {found:#010x}, expected {checksum(data, _CHECKSUM_AT):#010x}"
            raise FormatError(what, remedy=RESTORE)
        if version >> 16 != 1:
            what = f"its footer has the version {version >> 16}.{version & 0xFFFF}: only 1.x is read"
            raise UnsupportedError(what, remedy="convert it with the program that made it")
        if kind not in _KNOWN_TYPES:
            what = f"its disk type is {kind}, expected 2 (fixed), 3 (dynamic) or 4 (differencing)"
            raise FormatError(what, remedy=RESTORE)
        uuid, *flags = values[15:]
        fields = *values[1:13], DiskType(kind), found, UUID(bytes=uuid), *flags
        footer = cls(*fields)
        if footer.virtual_size < SECTOR or not SECTOR <= footer.size_below_child <= MAX_SIZE:
            what = f"its disk has {footer.current_size} bytes, expected 512 bytes to 2,040 GiB"
            raise FormatError(what, remedy=RESTORE)
        return footer

    def pack(self) -> bytes:
        """Return the footer as `parse` takes it, with the right checksum whatever that field says: 512 bytes."""
        packed = _FIELDS.pack(
            COOKIE,
            self.features,
            self.version,
            self.header_offset,
            self.time_stamp,
            self.creator,
            self.creator_version,
            self.creator_os,
            self.original_size,
            self.current_size,
            self.cylinders,
            self.heads,
            self.sectors,
            self.disk_type,
            0,
            self.uuid.bytes,
            self.saved_state,
            self.hidden_flag,
        )
        return sealed(packed.ljust(FOOTER_LENGTH, b"\0"), _CHECKSUM_AT)

    @property
    def is_tapdisk(self) -> bool:
        """Whether XenServer or XCP-ng made it."""
        return self.creator == _TAPDISK

    @property
    def size_below_child(self) -> int:
        """Bytes of the disk that a differencing image sees of its parent: always the current size."""
        return round_down(self.current_size, SECTOR)

    @property
    def sized_by_geometry(self) -> bool:
        """Whether cylinders, heads and sectors say how large the disk is: of creators that rounded it up or down so."""
        geometry = (self.cylinders, self.heads, self.sectors)
        return self.creator in _SIZED_BY_GEOMETRY and geometry != _GREATEST_GEOMETRY

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk: docs/formats.md, VHD, "Size"."""
        if self.sized_by_geometry:
            return self.cylinders * self.heads * self.sectors * SECTOR
        return self.size_below_child


_KNOWN_TYPES = frozenset(DiskType)


def checksum(data: bytes, at: int) -> int:
    """Return the ones' complement of the sum of all bytes but those of the checksum itself, which is at `at`."""
    return ~(sum(data) - sum(data[at : at + 4])) & 0xFFFFFFFF


def sealed(data: bytes, at: int) -> bytes:
    """Return the same bytes with the right checksum at `at`."""
    return data[:at] + checksum(data, at).to_bytes(4, "big") + data[at + 4 :]


def is_sound(data: bytes) -> bool:
    """Tell whether a footer has the right checksum. Tapdisk may have set its last flag without a new checksum."""
    found, wanted = int.from_bytes(data[_CHECKSUM_AT : _CHECKSUM_AT + 4], "big"), checksum(data, _CHECKSUM_AT)
    if found == wanted:
        return True
    creator, version = data[28:32], int.from_bytes(data[32:36], "big")
    without_flag = (wanted + data[_HIDDEN_AT]) & 0xFFFFFFFF
    return creator == _TAPDISK and version in _SIGNED_WITHOUT_HIDDEN and found == without_flag


def is_sound_fixed(data: bytes, place: int) -> bool:
    """Tell whether `data` are the footer of a fixed disk that fits before `place`, its offset in the file."""
    if data[: len(COOKIE)] != COOKIE or len(data) != FOOTER_LENGTH or not is_sound(data):
        return False
    values = _FIELDS.unpack_from(data)
    size, kind = values[9], values[13]
    return bool(kind == DiskType.FIXED and round_down(size, SECTOR) <= place)


def creator_name(creator: bytes) -> str:
    """Return the four bytes that name a program, for a message."""
    return quoted(creator.rstrip(b"\0 ").decode("latin-1"))
