"""What the sparse extents of a VMDK have in common: a directory of tables, whose entries each stand for a grain. Pure.

    directory  [ t0 | 0 | t2 ]                one entry for each table
    tables     t0 -> [ g g 0 g ]              one entry for each grain: 0 is nothing
    grains     g  -> bytes of the disk

See docs/formats.md, VMDK.
"""

from collections.abc import Hashable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vdifs.errors import FormatError
from vdifs.extents import Kind
from vdifs.units import SECTOR, ceil_div

__all__ = ["MAX_DIRECTORY", "Decoded", "GrainTables", "of_sectors"]

MAX_DIRECTORY = 1 << 20
"""Entries of the directories of an image, all together."""
LAST_OFFSET = (1 << 62) - 1


class Decoded(NamedTuple):
    """Entries of grain tables. kind: uint8, `Kind`. host: int64, where a grain lies in the file, 0 where none does."""

    kind: NDArray[np.uint8]
    host: NDArray[np.int64]


class GrainTables(Hashable, Protocol):
    """How a kind of sparse extent has its tables. Values: of two equal ones in one file everything is the same."""

    @property
    def capacity(self) -> int:
        """Sectors of the disk."""

    @property
    def grain(self) -> int:
        """Bytes in a grain: a power of 2."""

    @property
    def table_entries(self) -> int:
        """Entries in a table."""

    @property
    def entry(self) -> str:
        """The numpy dtype of an entry, of a table and of the directory."""

    @property
    def directory(self) -> int:
        """Where the directory lies in the file, in bytes."""

    @property
    def packed(self) -> bool:
        """Whether its grains are compressed."""

    @property
    def unclean(self) -> bool:
        """Whether it was not closed cleanly."""

    @property
    def metadata_end(self) -> int:
        """Before this offset, in bytes, there is no grain."""

    def table_offsets(self, entries: NDArray[np.uint64], /) -> NDArray[np.int64]:
        """Return where the tables lie, in bytes, 0 for none. Raises FormatError for entries that break a rule."""

    def decode(self, entries: NDArray[np.uint64], /) -> Decoded:
        """Return what entries of tables say. Raises FormatError for those that break a rule."""


def directory_entries(tables: GrainTables) -> int:
    """Return how many entries the directory has that the disk needs."""
    return ceil_div(tables.capacity * SECTOR, tables.table_entries * tables.grain)


def of_sectors(entries: NDArray[np.uint64], first: int, *, ones_are_zeros: bool) -> Decoded:
    """Return what entries say that are sectors of the file, 0 for nothing.

    first: the first sector that a grain may lie at. ones_are_zeros: 1 stands for a grain of zeros. Raises FormatError.
    """
    kind = np.where(entries == 0, np.uint8(Kind.UNALLOCATED), np.uint8(Kind.DATA))
    if ones_are_zeros:
        kind[entries == 1] = Kind.ZERO
    data = kind == Kind.DATA
    low = data & (entries < first)
    if low.any():
        index = int(low.argmax())
        raise FormatError(
            f"the entry {index} of the grain table leads to sector {int(entries[index])}, among the first {first}, "
            "which hold its own tables"
        )
    return Decoded(kind, np.where(data, entries.astype(np.int64) * SECTOR, 0))
