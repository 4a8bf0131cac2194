"""One compressed cluster to bytes, bounded by the cluster size: 2 KiB of a hostile image may hold megabytes."""

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

from vdifs.errors import FormatError
from vdifs.qcow2.header import CompressionType

__all__ = ["Inflater"]

_WINDOW = 15
"""A superset of the 12 bits that QEMU writes."""
_MAX_FRAMES = 1 << 16
_ZSTD_WINDOW_MAX = 1 << 23
"""What the zstd format asks every decoder to accept."""


class Inflater:
    """Inflates clusters of `cluster_size` bytes, one after the other: one thread's own."""

    def __init__(self, cluster_size: int, compression: CompressionType) -> None:
        """Make ready for one method of compression."""
        self._cluster_size = cluster_size
        self._zstd = (
            zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
            if compression is CompressionType.ZSTD
            else None
        )

    def inflate(self, packed: bytes) -> bytes:
        """Return the cluster that `packed` begins with; bytes after the stream are ignored.

        Follows qcow2_zlib_decompress and qcow2_zstd_decompress. Raises FormatError where the stream is damaged or
        holds less than a cluster.
        """
        size = self._cluster_size
        try:
            if self._zstd is not None:
                data = _inflate_zstd(self._zstd, packed, size)
            else:
                data = isal_zlib.decompressobj(wbits=-_WINDOW).decompress(packed, size)
        except (IsalError, zstandard.ZstdError) as error:  # type: ignore[misc] # isal declares its class as an instance
            raise FormatError(f"the compressed data are damaged: {error}") from error
        if len(data) != size:
            raise FormatError(f"the compressed data hold {len(data)} bytes, expected {size}, a whole cluster")
        return bytes(data)


def _inflate_zstd(decompressor: zstandard.ZstdDecompressor, packed: bytes, cluster_size: int) -> bytes:
    """Inflate one frame, or several; as in QEMU one must end with the cluster.

    A read ends with its frame, or after a byte more than is missing: that bounds it, as `max_output_size` would not,
    which a frame header overrules.
    """
    parts: list[bytes] = []
    missing = cluster_size
    with decompressor.stream_reader(packed, read_across_frames=False) as reader:
        for _ in range(_MAX_FRAMES):
            parts.append(reader.read(missing + 1))
            missing -= len(parts[-1])
            if missing <= 0:
                break
    return b"".join(parts)
