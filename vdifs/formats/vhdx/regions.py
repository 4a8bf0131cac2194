"""The region tables (docs/formats.md, VHDX): where the BAT and the metadata lie. Pure."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.vhdx.checksums import is_intact
from vdifs.formats.vhdx.header import HEADER_SECTION, MIB, RESTORE, Header

__all__ = ["BAT", "METADATA", "TABLE_PLACES", "TABLE_SIZE", "Place", "Regions", "read_regions"]

BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
TABLE_SIZE = 64 << 10
TABLE_PLACES = (192 << 10, 256 << 10)

_MOST_ENTRIES = 2047
_ENTRY = struct.Struct("<16sQII")
_REQUIRED = 1
_NAMES = {BAT: "BAT region", METADATA: "metadata region"}


class Place(NamedTuple):
    """Something that occupies [offset, end) of the file, by a name for messages."""

    offset: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Regions:
    """places: of every region, known or not, with the header section and the log, sorted. problem: of the tables."""

    bat: Place
    metadata: Place
    places: tuple[Place, ...]
    problem: str | None


def read_regions(first: bytes, second: bytes, header: Header, file_size: int) -> Regions:
    """Return the regions of the first table that is intact. first, second: 64 KiB of each.

    Raises FormatError if none is, for a region that may not lie where it does or that is named twice, and if BAT or
    metadata are missing; UnsupportedError for an unknown one that is required.
    """
    intact = [data for data in (first, second) if is_intact(data, b"regi")]
    if not intact:
        raise FormatError("neither of its two region tables is intact", remedy=RESTORE)
    regions = _parse(intact[0], file_size)
    for guid, name in _NAMES.items():
        if guid not in regions:
            raise FormatError(f"its region table has no {name}", remedy=RESTORE)
    fixed = [Place(0, HEADER_SECTION, "header section")]
    if header.log_length:
        fixed.append(Place(header.log_offset, header.log_offset + header.log_length, "log"))
    places = tuple(sorted([*fixed, *regions.values()]))
    check_apart(places)
    return Regions(regions[BAT], regions[METADATA], places, _problem(intact, second))


def check_apart(places: Iterable[Place]) -> None:
    """Raise FormatError if one of some places, sorted, overlaps the next."""
    for low, high in pairwise(places):
        if high.offset < low.end:
            raise FormatError(f"its {low.name} and its {high.name} overlap at {high.offset:#x}", remedy=RESTORE)


def _problem(intact: list[bytes], second: bytes) -> str | None:
    if len(intact) == 2:
        return None if intact[0] == intact[1] else "its two region tables differ, and the first is used"
    broken = 1 if intact[0] is second else 2
    return f"its region table {broken} of 2 is damaged, and the other one is used"


def _parse(table: bytes, file_size: int) -> dict[UUID, Place]:
    count = int.from_bytes(table[8:12], "little")
    if count > _MOST_ENTRIES:
        raise FormatError(f"its region table has {count} entries, at most {_MOST_ENTRIES}", remedy=RESTORE)
    found: dict[UUID, Place] = {}
    for index in range(count):
        raw, offset, length, flags = _ENTRY.unpack_from(table, 16 + index * _ENTRY.size)
        guid = UUID(bytes_le=raw)
        if guid not in _NAMES and flags & _REQUIRED:
            what, remedy = f"it has an unknown required region, {guid}", "convert it with what made it"
            raise UnsupportedError(what, remedy=remedy)
        if guid in found:
            raise FormatError(f"its region table has the region {guid} twice", remedy=RESTORE)
        name = _NAMES.get(guid, f"region {guid}")
        if offset % MIB or length % MIB or not length or offset < HEADER_SECTION:
            what = f"its {name} of {length:#x} bytes at {offset:#x} is not in whole MiB behind the first"
            raise FormatError(what, remedy=RESTORE)
        if offset + length > file_size:
            what = f"its {name} of {length:#x} bytes at {offset:#x} ends beyond the end of the file at {file_size:#x}"
            raise FormatError(what, remedy="the file was cut short; restore it from a copy")
        found[guid] = Place(offset, offset + length, name)
    return found
