"""One compressed cluster to bytes, bounded by the cluster size: 2 KiB of a hostile image may hold megabytes."""

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

from vdifs.errors import FormatError
from vdifs.qcow2.header import CompressionType

__all__ = ["inflate"]

_WINDOW = 15
"""A superset of the 12 bits that QEMU writes."""
_ZSTD_WINDOW_MAX = 1 << 23
"""What the zstd format asks every decoder to accept."""


def inflate(packed: bytes, cluster_size: int, compression: CompressionType) -> bytes:
    """Return the `cluster_size` bytes that `packed` begins with; bytes after the stream are ignored.

    Follows qcow2_zlib_decompress and qcow2_zstd_decompress. Raises FormatError where the stream is damaged or holds
    less than a cluster.
    """
    try:
        if compression is CompressionType.ZSTD:
            data = _inflate_zstd(packed, cluster_size)
        else:
            data = isal_zlib.decompressobj(wbits=-_WINDOW).decompress(packed, cluster_size)
    except (IsalError, zstandard.ZstdError) as error:  # type: ignore[misc] # isal declares its class as an instance
        raise FormatError(f"the compressed data are damaged: {error}") from error
    if len(data) != cluster_size:
        raise FormatError(f"the compressed data hold {len(data)} bytes, expected {cluster_size}, a whole cluster")
    return bytes(data)


def _inflate_zstd(packed: bytes, cluster_size: int) -> bytes:
    """Inflate perhaps several frames; `max_output_size` would be no bound, since a frame header overrules it."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
    with decompressor.stream_reader(packed, read_across_frames=True) as reader:
        parts: list[bytes] = []
        missing = cluster_size
        while missing and (part := reader.read(missing)):
            parts.append(part)
            missing -= len(part)
    return b"".join(parts)
