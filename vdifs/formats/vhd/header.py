"""The header of dynamic and differencing VHDs, with what it says of the parent. Pure: docs/formats.md, VHD."""

import struct
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.vhd.footer import NO_OFFSET, RESTORE, checksum, sealed
from vdifs.units import SECTOR, ceil_div, round_up

__all__ = ["BATMAP_COOKIE", "HEADER_LENGTH", "MAX_BAT_BYTES", "Header", "Locator", "is_encrypted"]

HEADER_LENGTH = 1024
MAX_BAT_BYTES = 64 << 20
BATMAP_COOKIE = b"tdbatmap"
_COOKIE = b"cxsparse"
_VERSION = 0x00010000
_MAX_LOCATOR = 4096
_FIELDS = struct.Struct(">8sQQIIII16sII512s")
_LOCATOR = struct.Struct(">4sIIIQ")
_CHECKSUM_AT, _LOCATORS_AT, _LOCATORS = 36, 576, 8
_MIN_BLOCK, _MAX_BLOCK = 4 << 10, 256 << 20
_ENCRYPTED_AT = 29


class Locator(NamedTuple):
    """Where a name of the parent lies in the file. The space for it is not told: programs count it differently."""

    code: bytes
    length: int
    offset: int

    def is_within(self, file_size: int) -> bool:
        """Tell whether it is one that is read: not empty, not too long, and in the file."""
        return 0 < self.length <= _MAX_LOCATOR and self.offset + self.length <= file_size


@dataclass(frozen=True, slots=True)
class Header:
    """The fields in their order, but for the name, which is to the first NUL; offsets and sizes in bytes."""

    next_offset: int
    bat_offset: int
    version: int
    bat_entries: int
    block_size: int
    checksum: int
    parent_uuid: UUID
    parent_time_stamp: int
    parent_name: bytes
    locators: tuple[Locator, ...]

    @classmethod
    def parse(cls, data: bytes, file_size: int) -> "Header":
        """Return the header in `data`, 1,024 bytes. Raises FormatError where a rule is broken, UnsupportedError."""
        cookie, next_offset, bat, version, entries, block, found, uuid, time, _, name = _FIELDS.unpack_from(data)
        if cookie != _COOKIE:
            raise FormatError("its header does not begin with 'cxsparse'", remedy=RESTORE)
        if found != (wanted := checksum(data, _CHECKSUM_AT)):
            what = f"the checksum of its header is {found:#010x}, expected {wanted:#010x}"
            raise FormatError(what, remedy=RESTORE)
        if version != _VERSION:
            what = f"its header has the version {version >> 16}.{version & 0xFFFF}: only 1.0 is read"
            raise UnsupportedError(what, remedy="convert it with the program that made it")
        if block & (block - 1) or not _MIN_BLOCK <= block <= _MAX_BLOCK:
            what = f"its blocks have {block} bytes, expected a power of two from 4 KiB to 256 MiB"
            raise FormatError(what, remedy=RESTORE)
        locators = tuple(_locator(data, index) for index in range(_LOCATORS))
        header = cls(next_offset, bat, version, entries, block, found, UUID(bytes=uuid), time, _to_nul(name), locators)
        header._check_bat(file_size)
        return header

    @classmethod
    def dynamic(cls, bat_offset: int, bat_entries: int, block_size: int) -> "Header":
        """Return the header of an image without a parent; its checksum is left to `pack`."""
        locators = (Locator(bytes(4), 0, 0),) * _LOCATORS
        return cls(NO_OFFSET, bat_offset, _VERSION, bat_entries, block_size, 0, UUID(int=0), 0, b"", locators)

    def pack(self) -> bytes:
        """Return the header of an image without a parent as `parse` takes it, with the right checksum: 1,024 bytes."""
        assert not any(each.length for each in self.locators), "it has no parent"
        packed = _FIELDS.pack(
            _COOKIE,
            self.next_offset,
            self.bat_offset,
            self.version,
            self.bat_entries,
            self.block_size,
            0,
            self.parent_uuid.bytes,
            self.parent_time_stamp,
            0,
            b"",
        )
        return sealed(packed.ljust(HEADER_LENGTH, b"\0"), _CHECKSUM_AT)

    def _check_bat(self, file_size: int) -> None:
        if self.bat_length > MAX_BAT_BYTES:
            what = f"its block allocation table has {self.bat_entries} entries, expected at most {MAX_BAT_BYTES // 4}"
            raise FormatError(what, remedy=RESTORE)
        if self.bat_offset % SECTOR:
            what = f"its block allocation table is at {self.bat_offset:#x}, no multiple of 512"
            raise FormatError(what, remedy=RESTORE)
        if self.bat_offset + self.bat_length > file_size:
            end = self.bat_offset + self.bat_length
            what = f"its block allocation table ends at {end:#x}, beyond the end of the file at {file_size:#x}"
            raise FormatError(what, remedy="the file was cut short; restore it from a copy")

    def check_covers(self, size: int) -> None:
        """Raise FormatError if there are too few blocks for a disk of `size` bytes."""
        if self.bat_entries * self.block_size < size:
            what = f"its {self.bat_entries} blocks of {self.block_size} bytes are too few for a disk of {size} bytes"
            raise FormatError(what, remedy=RESTORE)

    @property
    def bat_length(self) -> int:
        """Bytes of its entries."""
        return self.bat_entries * 4

    @property
    def bitmap_length(self) -> int:
        """Bytes of a sector bitmap that have a meaning."""
        return ceil_div(self.block_size, SECTOR * 8)

    @property
    def bitmap_space(self) -> int:
        """Bytes in front of the data of a block: its bitmap, in whole sectors."""
        return round_up(self.bitmap_length, SECTOR)

    @property
    def batmap_offset(self) -> int:
        """Where XenServer's batmap header lies if there is one: behind the table, in whole sectors."""
        return round_up(self.bat_offset + self.bat_length, SECTOR)


def is_encrypted(batmap: bytes) -> bool:
    """Tell whether the bytes behind the table are a batmap header that says that all data are encrypted."""
    return batmap.startswith(BATMAP_COOKIE) and batmap[_ENCRYPTED_AT] != 0


def _locator(data: bytes, index: int) -> Locator:
    code, _space, length, _, offset = _LOCATOR.unpack_from(data, _LOCATORS_AT + _LOCATOR.size * index)
    return Locator(code, length, offset)


def _to_nul(name: bytes) -> bytes:
    """Return UTF-16 up to the first NUL."""
    for at in range(0, len(name), 2):
        if name[at : at + 2] == b"\0\0":
            return name[:at]
    return name
