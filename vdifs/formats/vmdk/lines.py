"""The lines of a descriptor that each name an extent: ACCESS SECTORS TYPE "name" [offset] [more]. Pure.

See docs/formats.md, VMDK.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from vdifs.errors import FormatError, UnsupportedError, quoted

__all__ = ["ExtentLine", "ExtentType", "parse_line"]

MAX_SECTORS = 1 << 54
_ACCESS = re.compile(rb"(RW|RDONLY|NOACCESS)(?=\s)", re.IGNORECASE)
_LINE = re.compile(rb'\S+\s+([0-9]{1,20})\s+([^\s"]+)(?:\s*"([^"]*)"(?:\s+([0-9]{1,20})(?:\s.*)?)?)?', re.DOTALL)
_DEVICE = re.compile(rb"/dev/|\\\\[.?]\\", re.IGNORECASE)


class ExtentType(StrEnum):
    """What an extent is, in the words of `docs/formats.md`: FLAT is VMFS too, SPARSE all that have tables."""

    FLAT = "FLAT"
    SPARSE = "SPARSE"
    ZERO = "ZERO"


_TYPES = {
    "FLAT": ExtentType.FLAT,
    "VMFS": ExtentType.FLAT,
    "SPARSE": ExtentType.SPARSE,
    "VMFSSPARSE": ExtentType.SPARSE,
    "SESPARSE": ExtentType.SPARSE,
    "ZERO": ExtentType.ZERO,
}
_RAW_DEVICES = ("VMFSRDM", "VMFSRAW")


class ExtentLine(NamedTuple):
    """One extent. sectors: of the disk. name: of its file, empty for ZERO. offset: in sectors, of the disk in the file.

    stated, access: the type and the access as they stand there, in capitals.
    """

    type: ExtentType
    sectors: int
    name: bytes
    offset: int
    stated: str
    access: str


def parse_line(line: bytes, where: str) -> ExtentLine | None:
    """Return the extent that a line names, None where it does not begin as such a line.

    Raises FormatError, UnsupportedError for what is not read: devices, what may not be accessed.
    """
    begins = _ACCESS.match(line)
    if begins is None:
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise FormatError(f"{where} names an extent, and has not the form of one")
    access, stated = begins[1].decode().upper(), match[2].decode("latin-1").upper()
    sectors, name, offset = int(match[1]), match[3] or b"", int(match[4] or 0)
    if not 0 < sectors <= MAX_SECTORS or offset > MAX_SECTORS:
        raise FormatError(f"{where} has an extent of {sectors} sectors from sector {offset} on")
    if stated.startswith(_RAW_DEVICES) or (stated != "ZERO" and _DEVICE.match(name)):
        what = f"{where} is a raw device mapping or a device ({stated}): its data lie in no file"
        raise UnsupportedError(what, remedy="clone the disk into a file with vmkfstools")
    kind = _TYPES.get(stated)
    if kind is None:
        raise UnsupportedError(f"{where} has an extent of the type {quoted(stated[:40])}")
    if kind is ExtentType.ZERO:
        return ExtentLine(kind, sectors, b"", 0, stated, access)
    if access == "NOACCESS":
        raise UnsupportedError(f"{where} has an extent that must not be accessed (NOACCESS)")
    if not name:
        raise FormatError(f"{where} names no file")
    if kind is ExtentType.SPARSE and offset:
        raise FormatError(f"{where} has a sparse extent from sector {offset} on, expected 0")
    return ExtentLine(kind, sectors, name, offset, stated, access)
