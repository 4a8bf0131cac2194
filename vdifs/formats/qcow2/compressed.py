"""The compressed clusters of a qcow2: a token is the L2 entry, which says where the packed bytes lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vdifs.formats.layer import Codec, PackedBytes
from vdifs.formats.qcow2.entries import compressed_cluster, compressed_places
from vdifs.formats.qcow2.header import CompressionType

__all__ = ["COMPRESSION_TYPES", "CompressedClusters"]

COMPRESSION_TYPES: Mapping[Codec, CompressionType] = {"deflate": CompressionType.DEFLATE, "zstd": CompressionType.ZSTD}
"""How a header says how clusters are packed."""


@dataclass(frozen=True, slots=True)
class CompressedClusters:
    """Those of one file; see Compressed and AsIs."""

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

    @property
    def codec(self) -> Codec:
        """How they are packed."""
        return "zstd" if self.compression is CompressionType.ZSTD else "deflate"

    @property
    def as_is(self) -> "CompressedClusters":
        """What a qcow2 has to know to hold them as they are: this."""
        return self

    def places(self, tokens: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the packed bytes of clusters lie; see AsIs."""
        return compressed_places(tokens, self.cluster_bits)

    def measurer(self) -> Callable[[bytes], int]:
        """Return what finds the end of the packed bytes of a cluster; see AsIs."""
        from vdifs.formats.qcow2.inflate import Inflater

        return Inflater(self.unit, self.compression).measure
