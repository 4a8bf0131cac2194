"""Every quotient and rounding that follows from the cluster size and the virtual size.

No other module divides by a cluster size: an L1 size that two places compute differently is how images lose data.
"""

from dataclasses import dataclass

from vdifs.units import ceil_div

__all__ = [
    "L1_MAX_BYTES",
    "MAX_CLUSTER_BITS",
    "MIN_CLUSTER_BITS",
    "REFCOUNT_TABLE_MAX_BYTES",
    "Geometry",
]

MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
L1_MAX_BYTES = 32 << 20
"""QEMU's QCOW_MAX_L1_SIZE."""
REFCOUNT_TABLE_MAX_BYTES = 8 << 20
"""QEMU's QCOW_MAX_REFTABLE_SIZE."""
SUBCLUSTERS = 32


@dataclass(frozen=True, slots=True)
class Geometry:
    """The quantities of one image. virtual_size: bytes, any number; extended_l2: with subclusters."""

    cluster_bits: int
    virtual_size: int
    extended_l2: bool = False

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def grain(self) -> int:
        """Bytes in the smallest unit that has an allocation of its own: a subcluster or a cluster."""
        return self.cluster_size // SUBCLUSTERS if self.extended_l2 else self.cluster_size

    @property
    def l2_entry_size(self) -> int:
        """Bytes in an L2 entry."""
        return 16 if self.extended_l2 else 8

    @property
    def l2_entries(self) -> int:
        """Entries in an L2 table, which fills one cluster."""
        return self.cluster_size // self.l2_entry_size

    @property
    def units_per_cluster(self) -> int:
        """Subclusters, or 1 where the cluster itself is the unit."""
        return self.cluster_size // self.grain

    @property
    def units_per_l2(self) -> int:
        """Clusters or subclusters that one L2 table maps."""
        return self.l2_coverage // self.grain

    @property
    def l2_coverage(self) -> int:
        """Bytes of guest disk that one L2 table maps."""
        return self.l2_entries << self.cluster_bits

    @property
    def clusters(self) -> int:
        """Guest clusters of the disk, the last perhaps in part beyond its end."""
        return ceil_div(self.virtual_size, self.cluster_size)

    @property
    def l1_size(self) -> int:
        """L1 entries that the disk needs (QEMU's size_to_l1)."""
        return ceil_div(self.virtual_size, self.l2_coverage)

    def cluster_index(self, offset: int) -> int:
        """Return the index of the cluster that holds byte `offset`."""
        return offset >> self.cluster_bits

    def clusters_for(self, size: int) -> int:
        """Return the clusters that `size` bytes fill."""
        return ceil_div(size, self.cluster_size)
