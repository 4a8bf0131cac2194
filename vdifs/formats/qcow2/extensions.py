"""The header extensions: a list of (type, data) between the header and the backing file name."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from vdifs.errors import FormatError

__all__ = [
    "Extension",
    "ExtensionType",
    "FeatureName",
    "decode_name",
    "encode_name",
    "feature_names",
    "has_end_mark",
    "pack_extensions",
    "parse_extensions",
]

_HEAD = struct.Struct(">II")
_FEATURE_NAME = struct.Struct(">BB46s")


class ExtensionType(IntEnum):
    """The extension types with a known meaning."""

    BACKING_FORMAT = 0xE2792ACA
    FEATURE_NAMES = 0x6803F857
    BITMAPS = 0x23852875
    LUKS_HEADER = 0x0537BE77
    DATA_FILE = 0x44415441
    HIDDEN = 0x76617465
    """XCP-ng's private mark of a hidden image."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One header extension; data: its bytes without the padding."""

    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FeatureName:
    """One entry of the feature name table; kind: 0 incompatible, 1 compatible, 2 autoclear."""

    kind: int
    bit: int
    name: str


def parse_extensions(area: bytes, where: int, length: int | None = None) -> tuple[Extension, ...]:
    """Return the extensions in the area of `length` bytes from byte `where` of the file on, which begins with `area`.

    Follows qcow2_read_extensions: an area that ends within the first 8 bytes of an extension, or before its data do, is
    refused, the end mark's length included; where the file ends within its area, zeros follow. Raises FormatError.
    """
    end = len(area) if length is None else length
    found: list[Extension] = []
    at = 0
    while at < end:
        kind, size = _HEAD.unpack(area[at : at + _HEAD.size].ljust(_HEAD.size, b"\0"))
        place = f"at {where + at:#x}"
        at += _HEAD.size
        if at > end:
            raise FormatError(
                f"the area for header extensions ends {place} after {end + _HEAD.size - at} bytes of an extension, "
                f"which has at least {_HEAD.size}"
            )
        if size > end - at:
            raise FormatError(
                f"header extension {kind:#010x} {place} is {size} bytes long, "
                f"but the area for extensions ends after {end - at}"
            )
        if kind == 0:
            break
        found.append(Extension(kind, area[at : at + size].ljust(size, b"\0")))
        at += (size + 7) & ~7
    return tuple(found)


def has_end_mark(area: bytes) -> bool:
    """Tell whether the extensions in `area`, perhaps only the beginning of the whole area, end within it."""
    at = 0
    while at + _HEAD.size <= len(area):
        kind, length = _HEAD.unpack_from(area, at)
        if kind == 0:
            return True
        at += _HEAD.size + ((length + 7) & ~7)
    return False


def pack_extensions(extensions: tuple[Extension, ...]) -> bytes:
    """Return the bytes of `extensions` and of the end mark; a multiple of 8."""
    packed = [_HEAD.pack(e.type, len(e.data)) + e.data + bytes(-len(e.data) % 8) for e in extensions]
    return b"".join(packed) + _HEAD.pack(0, 0)


def feature_names(extensions: tuple[Extension, ...]) -> tuple[FeatureName, ...]:
    """Return the entries of the feature name table, none if there is no table; a broken tail is ignored, as by QEMU."""
    table = b"".join(e.data for e in extensions if e.type == ExtensionType.FEATURE_NAMES)
    whole = table[: len(table) - len(table) % _FEATURE_NAME.size]
    return tuple(
        FeatureName(kind, bit, name.split(b"\0")[0].decode("ascii", "replace"))
        for kind, bit, name in _FEATURE_NAME.iter_unpack(whole)
    )


def decode_name(name: bytes) -> str:
    """Return a name in an image as Python names files: undecodable bytes become surrogates. As in QEMU NUL ends it."""
    return name.split(b"\0")[0].decode("utf-8", "surrogateescape")


def encode_name(name: str) -> bytes:
    """Return the bytes of a name; the inverse of decode_name, but for what follows a NUL."""
    return name.encode("utf-8", "surrogateescape")
