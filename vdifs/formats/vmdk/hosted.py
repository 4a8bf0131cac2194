"""Hosted sparse files: where their tables are, and what the entries say. Pure. See docs/formats.md, VMDK."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.vmdk.grain_tables import Decoded, of_sectors
from vdifs.formats.vmdk.hosted_header import HostedFlag, HostedHeader
from vdifs.units import SECTOR

__all__ = ["HostedTables"]


@dataclass(frozen=True, slots=True)
class HostedTables:
    """See GrainTables. overhead: in sectors; no grain lies before that."""

    capacity: int
    grain: int
    table_entries: int
    directory: int
    overhead: int
    zero_grains: bool
    packed: bool
    unclean: bool

    entry = "<u4"

    @classmethod
    def of(cls, header: HostedHeader) -> "HostedTables":
        """Return where the tables are, and how they are read, by a header, or a footer."""
        flags = HostedFlag(header.flags & 0x3FFFF)
        return cls(
            header.capacity,
            header.grain_size * SECTOR,
            header.num_gtes_per_gt,
            header.gd_offset * SECTOR,
            header.overhead,
            HostedFlag.ZERO_GRAINS in flags,
            HostedFlag.PACKED in flags,
            bool(header.unclean_shutdown),
        )

    @property
    def metadata_end(self) -> int:
        """See GrainTables."""
        return self.overhead * SECTOR

    def table_offsets(self, entries: NDArray[np.uint64]) -> NDArray[np.int64]:
        """See GrainTables."""
        return entries.astype(np.int64) * SECTOR

    def decode(self, entries: NDArray[np.uint64]) -> Decoded:
        """See GrainTables."""
        return of_sectors(entries, max(1, self.overhead), ones_are_zeros=self.zero_grains)
