"""The bitmap directory: what dirty bitmaps an image has, and whether their tables are in order.

The bitmaps themselves are not read, and synthetic files have none.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

from vdifs.errors import FormatError
from vdifs.formats.qcow2.extensions import ExtensionType, decode_name
from vdifs.formats.qcow2.header import Autoclear, Header, check_place
from vdifs.units import round_up

__all__ = ["Bitmap", "BitmapFlag", "parse_bitmaps"]

_EXTENSION = struct.Struct(">IIQQ")
_ENTRY = struct.Struct(">QIIBBHI")
_MAX_BITMAPS = 65535
_MAX_DIRECTORY = 64 << 20
_DIRTY_TRACKING = 1
_MAX_GRANULARITY_BITS = 31
_MAX_TABLE = 512 << 20
"""Bytes of bitmap that a table may lead to: QEMU's BME_MAX_PHYS_SIZE."""


class BitmapFlag(IntFlag):
    """The flags of a directory entry."""

    IN_USE = 1 << 0
    AUTO = 1 << 1
    EXTRA_DATA_COMPATIBLE = 1 << 2


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One directory entry, the fields in spec order; granularity: bytes of guest disk for each bit."""

    table_offset: int
    table_size: int
    flags: BitmapFlag
    granularity_bits: int
    name: str

    @property
    def granularity(self) -> int:
        """Bytes of guest disk that one bit stands for."""
        return 1 << self.granularity_bits


def parse_bitmaps(header: Header, read: Callable[[int, int], bytes]) -> tuple[Bitmap, ...]:
    """Return the bitmaps of an image, none where autoclear bit 0 says they are not valid.

    read(offset, length) gives bytes of its file, zeros beyond the end. Raises FormatError for a directory that breaks
    a rule (bitmap_list_load in QEMU).
    """
    data = next((e.data for e in header.extensions if e.type == ExtensionType.BITMAPS), None)
    if data is None or not header.autoclear_features & Autoclear.BITMAPS:
        return ()
    if len(data) != _EXTENSION.size:
        raise FormatError(f"the bitmaps extension is {len(data)} bytes long, expected {_EXTENSION.size}")
    count, _, size, offset = _EXTENSION.unpack(data)
    if count > _MAX_BITMAPS or size > _MAX_DIRECTORY:
        raise FormatError(f"the bitmap directory has {count} entries in {size} bytes: too many")
    check_place("bitmap directory", offset, size, header.cluster_size)
    directory = read(offset, size)
    found: list[Bitmap] = []
    at = 0
    for index in range(count):
        bitmap, length = _parse_entry(index, directory, at)
        if bitmap.table_size << header.cluster_bits > _MAX_TABLE:
            raise FormatError(f"the table of bitmap {index} has {bitmap.table_size} entries: too many")
        check_place(f"table of bitmap {index}", bitmap.table_offset, bitmap.table_size * 8, header.cluster_size)
        found.append(bitmap)
        at += length
    return tuple(found)


def _parse_entry(index: int, directory: bytes, at: int) -> tuple[Bitmap, int]:
    if at + _ENTRY.size > len(directory):
        raise FormatError(f"the bitmap directory ends before entry {index}")
    table, size, flags, kind, bits, name_size, extra_size = _ENTRY.unpack_from(directory, at)
    start = at + _ENTRY.size + extra_size
    if start + name_size > len(directory):
        raise FormatError(f"bitmap {index} is longer than its directory")
    if kind != _DIRTY_TRACKING or bits > _MAX_GRANULARITY_BITS:
        raise FormatError(f"bitmap {index} has the type {kind} and {bits} granularity bits: unknown")
    name = decode_name(directory[start : start + name_size])
    return Bitmap(table, size, BitmapFlag(flags), bits, name), round_up(start + name_size - at, 8)
