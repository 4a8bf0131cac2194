"""seSparse: the sparse extents of ESX's snapshots of large disks. Pure. See docs/formats.md, VMDK.

entry of the directory   0, or 10000000 and the number of a table
entry of a table         |type: 4 bits|low 12 bits of the number|high 48 bits of the number|
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError, UnsupportedError
from vdifs.extents import Kind
from vdifs.formats.vmdk.grain_tables import LAST_OFFSET, Decoded
from vdifs.units import SECTOR, ceil_div

__all__ = ["SeSparseTables", "check_volatile_header", "volatile_header_at"]

_VOLATILE_MAGIC = 0xCAFECAFE
_VERSION = 0x0000000200000001
_HEADER = struct.Struct("<26Q")
_VOLATILE = struct.Struct("<4Q")
_GRAIN_SECTORS, _TABLE_SECTORS = 8, 64
_GRAIN_BITS = 12
_TABLE_ENTRIES = _TABLE_SECTORS * SECTOR // 8
_MAX_SECTORS = 1 << 53


class _Header(NamedTuple):
    """Fields in their order. Offsets and sizes are in sectors."""

    magic: int
    version: int
    capacity: int
    grain_size: int
    grain_table_size: int
    flags: int
    reserved1: int
    reserved2: int
    reserved3: int
    reserved4: int
    volatile_header_offset: int
    volatile_header_size: int
    journal_header_offset: int
    journal_header_size: int
    journal_offset: int
    journal_size: int
    grain_dir_offset: int
    grain_dir_size: int
    grain_tables_offset: int
    grain_tables_size: int
    free_bitmap_offset: int
    free_bitmap_size: int
    backmap_offset: int
    backmap_size: int
    grains_offset: int
    grains_size: int


@dataclass(frozen=True, slots=True)
class SeSparseTables:
    """See GrainTables. tables, tables_size, grains: where those are, in bytes."""

    capacity: int
    directory: int
    tables: int
    tables_size: int
    grains: int

    entry = "<u8"
    grain = _GRAIN_SECTORS * SECTOR
    table_entries = _TABLE_ENTRIES
    packed = False
    unclean = False
    metadata_end = SECTOR

    @classmethod
    def parse(cls, sector: bytes) -> "SeSparseTables":
        """Return what the header says. Raises FormatError where it breaks a rule."""
        h = _header(sector)
        if h.version != _VERSION:
            raise FormatError(f"its header has the version {h.version:#x}, expected {_VERSION:#x}")
        if (h.grain_size, h.grain_table_size) != (_GRAIN_SECTORS, _TABLE_SECTORS):
            what = f"its grains have {h.grain_size} sectors and its grain tables {h.grain_table_size}"
            raise FormatError(f"{what}, expected {_GRAIN_SECTORS} and {_TABLE_SECTORS}")
        if any(h[5:10]) or any(sector[_HEADER.size : SECTOR]):
            raise FormatError("its header has flags or other fields set that must be zero")
        if not 0 < h.capacity <= _MAX_SECTORS:
            raise FormatError(f"its header has a capacity of {h.capacity} sectors")
        if max(h[10:]) > _MAX_SECTORS:
            raise FormatError("its header has an offset or a size beyond all that a file can hold")
        needed = ceil_div(h.capacity, _TABLE_ENTRIES * _GRAIN_SECTORS)
        entries = h.grain_dir_size * SECTOR // 8
        if entries < needed:
            raise FormatError(f"its grain directory has {entries} entries, and its disk needs {needed}")
        if not h.grain_dir_offset or not h.grain_tables_offset or not h.grains_offset:
            raise FormatError("its tables or its grains lie on its header")
        offsets = h.grain_dir_offset, h.grain_tables_offset, h.grain_tables_size, h.grains_offset
        return cls(h.capacity, *(sectors * SECTOR for sectors in offsets))

    def table_offsets(self, entries: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See GrainTables."""
        used = entries != 0
        wrong = used & (entries >> np.uint64(32) != 0x10000000)
        number = (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
        wrong |= used & ((number + 1) * _TABLE_SECTORS * SECTOR > self.tables_size)
        if wrong.any():
            index = int(wrong.argmax())
            raise FormatError(f"the entry {index} of the grain directory is {int(entries[index]):#x}: no table of it")
        return np.where(used, self.tables + number * (_TABLE_SECTORS * SECTOR), 0)

    def decode(self, entries: NDArray[np.uint64]) -> Decoded:
        """See GrainTables. Types: 0 nothing, 1 unmapped, 2 zeros, 3 a grain."""
        kind_of = entries >> np.uint64(60)
        wrong = (kind_of > 3) | ((kind_of == 0) & (entries != 0))
        high = (entries & np.uint64((1 << 48) - 1)).astype(np.int64)
        beyond = (kind_of == 3) & (high > LAST_OFFSET - self.grains >> 2 * _GRAIN_BITS)
        wrong |= beyond
        if wrong.any():
            index = int(wrong.argmax())
            why = "a grain beyond all that a file can hold" if beyond[index] else "of no known type"
            raise FormatError(f"the entry {index} of the grain table is {int(entries[index]):#x}: {why}")
        number = (high << 12) + (entries >> np.uint64(48) & np.uint64(0xFFF)).astype(np.int64)
        kind = np.array([Kind.UNALLOCATED, Kind.ZERO, Kind.ZERO, Kind.DATA], np.uint8)[kind_of.astype(np.intp)]
        return Decoded(kind, np.where(kind == Kind.DATA, self.grains + (number << _GRAIN_BITS), 0))


def volatile_header_at(sector: bytes) -> int:
    """Return the offset of the volatile header, in bytes. sector: the header, which is known to be right."""
    return _header(sector).volatile_header_offset * SECTOR


def check_volatile_header(sector: bytes) -> None:
    """Raise FormatError unless it is one, UnsupportedError where a journal would have to be replayed."""
    magic, _, _, replay = _VOLATILE.unpack_from(sector)
    if magic != _VOLATILE_MAGIC:
        raise FormatError(f"its volatile header begins with {magic:#x}, expected {_VOLATILE_MAGIC:#x}")
    if replay:
        remedy = "start and stop its machine once, or consolidate its snapshots"
        raise UnsupportedError("it was not closed cleanly, and its journal is to be replayed", remedy=remedy)


def _header(sector: bytes) -> _Header:
    if len(sector) < SECTOR:
        raise FormatError(f"its header has {len(sector)} bytes, expected {SECTOR}")
    return _Header._make(_HEADER.unpack_from(sector))
