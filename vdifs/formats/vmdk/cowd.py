"""COWD: the sparse extents of ESX's snapshots (vmfsSparse). Pure. See docs/formats.md, VMDK."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError
from vdifs.formats.vmdk.grain_tables import Decoded, of_sectors
from vdifs.formats.vmdk.sparse_headers import check_grain_size
from vdifs.units import SECTOR, ceil_div

__all__ = ["CowdTables"]

_HEADER = struct.Struct("<4sIIIIII")
_HEADER_SECTORS = 4
_TABLE_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class CowdTables:
    """See GrainTables."""

    capacity: int
    grain: int
    directory: int

    entry = "<u4"
    table_entries = _TABLE_ENTRIES
    packed = False
    unclean = False
    metadata_end = _HEADER_SECTORS * SECTOR

    @classmethod
    def parse(cls, sector: bytes) -> "CowdTables":
        """Return what the header says. Raises FormatError where it breaks a rule."""
        if len(sector) < SECTOR:
            raise FormatError(f"its header has {len(sector)} bytes, expected {_HEADER_SECTORS * SECTOR}")
        _, version, flags, capacity, grain_size, directory, entries = _HEADER.unpack_from(sector)
        if (version, flags) != (1, 3):
            raise FormatError(f"its header has version {version} and flags {flags:#x}, expected 1 and 0x3")
        if not capacity:
            raise FormatError("its header has a capacity of 0 sectors")
        check_grain_size(grain_size)
        needed = ceil_div(capacity, _TABLE_ENTRIES * grain_size)
        if entries < needed:
            raise FormatError(f"its grain directory has {entries} entries, and its disk needs {needed}")
        if directory < _HEADER_SECTORS:
            raise FormatError(f"its grain directory is at sector {directory}, within its header")
        return cls(capacity, grain_size * SECTOR, directory * SECTOR)

    def table_offsets(self, entries: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See GrainTables."""
        return entries.astype(np.int64) * SECTOR

    def decode(self, entries: NDArray[np.uint64]) -> Decoded:
        """See GrainTables: there are no grains of zeros."""
        return of_sectors(entries, _HEADER_SECTORS, ones_are_zeros=False)
