"""The headers, and the file identifier before them (docs/formats.md, VHDX): which of two headers is the current one.

Pure. Messages name the field and its value; the caller, which knows the file, puts its name in front.
"""

import struct
from dataclasses import dataclass
from uuid import UUID

from vdifs.errors import FormatError, UnsupportedError
from vdifs.formats.vhdx.checksums import is_intact

__all__ = [
    "HEADER_PLACES", "HEADER_SECTION", "HEADER_SIZE", "MIB", "NO_GUID", "RESTORE",
    "Header", "Headers", "creator_of", "current_header",
]  # fmt: skip

MIB = 1 << 20

HEADER_PLACES = (64 << 10, 128 << 10)
HEADER_SIZE = 4096
HEADER_SECTION = MIB
"""Identifier, headers and region tables lie in the first MiB, and nothing else does."""
_MAX_LOG = 64 * MIB
NO_GUID = UUID(int=0)
RESTORE = "restore it from a copy"

_HEADER = struct.Struct("<4s4xQ16s16s16sHHIQ")
_COMPARED = slice(8, 80)
_CREATOR = slice(8, 520)


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a header, in the order of the specification."""

    sequence: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID
    log_version: int
    version: int
    log_length: int
    log_offset: int

    @property
    def has_log(self) -> bool:
        """Whether there is a log to replay: the image was not closed cleanly."""
        return self.log_guid != NO_GUID

    @classmethod
    def parse(cls, data: bytes) -> "Header":
        """Return the fields of a header whose signature and checksum are right."""
        _, sequence, file_write, data_write, log, log_version, version, length, offset = _HEADER.unpack_from(data)
        file_guid, data_guid, log_guid = (UUID(bytes_le=each) for each in (file_write, data_write, log))
        return cls(sequence, file_guid, data_guid, log_guid, log_version, version, length, offset)

    def check(self) -> None:
        """Raise FormatError for a version that is not read, and for a log that may not lie there."""
        if self.version != 1:
            raise UnsupportedError(f"its header has the version {self.version}, expected 1", remedy=RESTORE)
        if self.has_log and self.log_version != 0:
            what, remedy = f"its log has the version {self.log_version}, expected 0", "open it once in Hyper-V"
            raise UnsupportedError(what, remedy=remedy)
        if self.has_log and not self.log_length:
            raise FormatError("it has a log to replay, of no length", remedy=RESTORE)
        if self.has_log and self.log_length > _MAX_LOG:
            what = f"its log to replay has {self.log_length} bytes, at most {_MAX_LOG}"
            raise UnsupportedError(what, remedy="open it once in Hyper-V")
        if self.log_length and (self.log_length % MIB or self.log_offset % MIB or self.log_offset < HEADER_SECTION):
            what = f"its log of {self.log_length:#x} bytes at {self.log_offset:#x} is not in whole MiB behind the first"
            raise FormatError(what, remedy=RESTORE)


@dataclass(frozen=True, slots=True)
class Headers:
    """The current header, and what is wrong with the other one: None if nothing is."""

    current: Header
    other_problem: str | None


def current_header(first: bytes, second: bytes) -> Headers:
    """Return the header with the higher sequence number of those that are intact. first, second: 4 KiB of each.

    Raises FormatError if none is, if two of one number differ, and what Header.check does. A version that is not read
    is no reason to take the other one.
    """
    intact = [data for data in (first, second) if is_intact(data, b"head")]
    if not intact:
        raise FormatError("neither of its two headers is intact", remedy=RESTORE)
    headers = [Header.parse(data) for data in intact]
    if len(headers) == 2 and headers[0].sequence == headers[1].sequence and first[_COMPARED] != second[_COMPARED]:
        raise FormatError(f"its two headers differ under one sequence number, {headers[0].sequence}", remedy=RESTORE)
    current = max(headers, key=lambda header: header.sequence)
    current.check()
    if len(intact) == 2:
        return Headers(current, None)
    broken = 1 if intact[0] is second else 2
    return Headers(current, f"its header {broken} of 2 is damaged, and the other one is used")


def creator_of(identifier: bytes) -> str:
    """Return the name of the program that made the file. identifier: its first 4 KiB."""
    return identifier[_CREATOR].decode("utf-16-le", "replace").split("\0", 1)[0]
