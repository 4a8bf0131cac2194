"""The metadata of a VHDX (docs/formats.md, VHDX): its table, the items that are known, and what they may say. Pure."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from uuid import UUID

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.vhdx.header import MIB, RESTORE
from vdifs.formats.vhdx.locator import ParentLocator

__all__ = ["TABLE_SIZE", "Entry", "Known", "Parameters", "entries_of", "parameters_of"]

TABLE_SIZE = 64 << 10
_MOST_ENTRIES = 2047
_MOST_LENGTH = MIB
_ENTRY = struct.Struct("<16sIII4x")
_USER, _REQUIRED = 1, 4
_FIXED, _HAS_PARENT = 1, 2
_SECTOR_SIZES = (512, 4096)
_MAX_DISK = 64 << 40
_MAX_BLOCK = 256 * MIB


class Known(Enum):
    """The system items that are known."""

    FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
    DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
    LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
    PHYSICAL_SECTOR_SIZE = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
    DISK_GUID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
    PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
    UNFINISHED = UUID("71cc85f0-1b69-4e28-9558-c3bf83ae75d3")
    GEOMETRY = UUID("da02d7bc-3d3a-423c-ac88-2a36ab21479b")


_KNOWN = {each.value: each for each in Known}
_LENGTHS = {
    Known.FILE_PARAMETERS: 8,
    Known.DISK_SIZE: 8,
    Known.LOGICAL_SECTOR_SIZE: 4,
    Known.PHYSICAL_SECTOR_SIZE: 4,
    Known.DISK_GUID: 16,
}
"""Of those that every image has."""


class Entry(NamedTuple):
    """An entry of the table. offset: from the start of the region. user: whether it is no item of the system's."""

    guid: UUID
    offset: int
    length: int
    user: bool


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the items say. fixed: whether its blocks stay allocated. locator: None without a parent."""

    block_size: int
    fixed: bool
    disk_size: int
    logical_sector_size: int
    physical_sector_size: int
    disk_guid: UUID
    locator: ParentLocator | None


def entries_of(table: bytes, region_length: int) -> tuple[Entry, ...]:
    """Return the entries of the table, its first 64 KiB.

    Raises FormatError for what may not lie where it does, overlaps or comes twice, UnsupportedError for an unknown item
    that is required.
    """
    if table[:8] != b"metadata":
        raise FormatError("its metadata region does not begin with 'metadata'", remedy=RESTORE)
    count = int.from_bytes(table[10:12], "little")
    if count > _MOST_ENTRIES:
        raise FormatError(f"its metadata table has {count} entries, at most {_MOST_ENTRIES}", remedy=RESTORE)
    found: dict[tuple[UUID, bool], Entry] = {}
    for index in range(count):
        raw, offset, length, flags = _ENTRY.unpack_from(table, 32 + index * _ENTRY.size)
        entry = Entry(UUID(bytes_le=raw), offset, length, bool(flags & _USER))
        _check_entry(entry, flags, region_length)
        if (entry.guid, entry.user) in found:
            raise FormatError(f"its metadata have the item {entry.guid} twice", remedy=RESTORE)
        found[entry.guid, entry.user] = entry
    end, before = 0, None
    for entry in sorted(found.values(), key=lambda each: each.offset):
        if entry.length and entry.offset < end:
            raise FormatError(f"its metadata items {before} and {entry.guid} overlap", remedy=RESTORE)
        end, before = max(end, entry.offset + entry.length), entry.guid
    return tuple(found.values())


def _check_entry(entry: Entry, flags: int, region_length: int) -> None:
    if flags & _REQUIRED and (entry.user or entry.guid not in _KNOWN):
        kind = "user" if entry.user else "system"
        what = f"it has an unknown required {kind} item in its metadata, {entry.guid}"
        raise UnsupportedError(what, remedy="convert it with what made it")
    is_empty = entry.offset == entry.length == 0
    inside = entry.offset >= TABLE_SIZE and entry.offset + entry.length <= region_length
    if not is_empty and (not inside or entry.length > _MOST_LENGTH):
        what = (
            f"its metadata item {entry.guid} of {entry.length:#x} bytes at {entry.offset:#x} of the region may not lie"
        )
        raise FormatError(f"{what} there", remedy=RESTORE)


def parameters_of(entries: tuple[Entry, ...], read: Callable[[Entry], bytes]) -> Parameters:
    """Return what the items say. read: returns the bytes of an item.

    Raises FormatError for an item that is missing or breaks a rule, UnsupportedError for what is not read.
    """
    known = {_KNOWN[each.guid]: each for each in entries if not each.user and each.guid in _KNOWN}
    if Known.UNFINISHED in known:
        raise FormatError("what wrote it marked it as unfinished", remedy="make it anew: its making was interrupted")
    values: dict[Known, int] = {}
    for kind, length in _LENGTHS.items():
        name = kind.name.lower().replace("_", " ")
        if kind not in known:
            raise FormatError(f"its metadata have no {name} ({kind.value})", remedy=RESTORE)
        if known[kind].length != length:
            what = f"the {name} in its metadata has {known[kind].length} bytes, expected {length}"
            raise FormatError(what, remedy=RESTORE)
        values[kind] = int.from_bytes(read(known[kind]), "little")
    block_size, flags = values[Known.FILE_PARAMETERS] & 0xFFFF_FFFF, values[Known.FILE_PARAMETERS] >> 32
    _check_values(block_size, flags, values)
    locator = None
    if flags & _HAS_PARENT:
        if Known.PARENT_LOCATOR not in known:
            raise FormatError("it has a parent, and its metadata have no parent locator", remedy=RESTORE)
        locator = ParentLocator.parse(read(known[Known.PARENT_LOCATOR]))
    return Parameters(
        block_size,
        bool(flags & _FIXED),
        values[Known.DISK_SIZE],
        values[Known.LOGICAL_SECTOR_SIZE],
        values[Known.PHYSICAL_SECTOR_SIZE],
        UUID(bytes_le=values[Known.DISK_GUID].to_bytes(16, "little")),
        locator,
    )


def _check_values(block_size: int, flags: int, values: dict[Known, int]) -> None:
    if not MIB <= block_size <= _MAX_BLOCK or block_size & block_size - 1:
        what = f"its block size is {block_size}, expected a power of two from 1 MiB to 256 MiB"
        raise FormatError(what, remedy=RESTORE)
    if flags & ~(_FIXED | _HAS_PARENT):
        what, remedy = f"its file parameters have unknown bits set, {flags:#x}", "convert it with what made it"
        raise UnsupportedError(what, remedy=remedy)
    for kind in (Known.LOGICAL_SECTOR_SIZE, Known.PHYSICAL_SECTOR_SIZE):
        if values[kind] not in _SECTOR_SIZES:
            name = kind.name.lower().replace("_", " ")
            raise FormatError(f"its {name} is {values[kind]}, expected 512 or 4096", remedy=RESTORE)
    size, sector = values[Known.DISK_SIZE], values[Known.LOGICAL_SECTOR_SIZE]
    if not size or size > _MAX_DISK or size % sector:
        what = f"its disk has {size} bytes, expected a multiple of {sector} up to 64 TiB"
        raise FormatError(what, remedy=RESTORE)
