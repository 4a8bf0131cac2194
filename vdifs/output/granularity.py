"""How finely an output divides a disk: what the allocation needs to know of it, and all it knows."""

from typing import NamedTuple

__all__ = ["Granularity"]

_MOST_BLOCKS, _MOST_UNITS = 1 << 13, 1 << 16
"""Of one window: so much is resolved for a read, and kept."""


class Granularity(NamedTuple):
    """Three sizes in bytes, each a power of two and no smaller than the one before, by their exponents.

    unit_bits: of what has a state of its own, DATA, ZERO or UNALLOCATED. block_bits: of what the output stores whole if
    any unit of it is DATA. table_bits: of what one table of the output maps, where tables in whose range nothing is
    held are left out; None where there are no such tables.

                unit                     block      table
        qcow2   cluster or subcluster    cluster    what an L2 table maps
        raw     cluster                  cluster    none
    """

    unit_bits: int
    block_bits: int
    table_bits: int | None = None

    @property
    def units_per_block(self) -> int:
        """How many units a block has."""
        return 1 << self.block_bits - self.unit_bits

    @property
    def window_size(self) -> int:
        """Bytes of a window at most."""
        return min(_MOST_BLOCKS, max(1, _MOST_UNITS // self.units_per_block)) << self.block_bits

    def answers(self, other: "Granularity") -> bool:
        """Return whether what is counted by this granularity tells all that `other` asks for."""
        return self[:2] == other[:2] and other.table_bits in {self.table_bits, None}
