"""The compressed clusters of a qcow2: a token is the L2 entry, which says where the packed bytes lie."""

from collections.abc import Callable
from dataclasses import dataclass

from vdifs.formats.layer import PackedBytes
from vdifs.formats.qcow2.entries import compressed_cluster
from vdifs.formats.qcow2.header import CompressionType

__all__ = ["CompressedClusters"]


@dataclass(frozen=True, slots=True)
class CompressedClusters:
    """Those of one file; see Compressed."""

    cluster_bits: int
    compression: CompressionType

    @property
    def unit(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    def place(self, token: int) -> PackedBytes:
        """Return where the packed bytes of a cluster lie."""
        cluster = compressed_cluster(token, self.cluster_bits)
        return PackedBytes(cluster.offset, cluster.length)

    def unpacker(self) -> Callable[[bytes], bytes]:
        """Return what inflates a cluster."""
        from vdifs.formats.qcow2.inflate import Inflater  # its libraries are only for who has compressed clusters

        return Inflater(self.unit, self.compression).inflate
