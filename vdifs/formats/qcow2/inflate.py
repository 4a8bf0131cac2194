"""One compressed cluster to bytes, bounded by the cluster size: 2 KiB of a hostile image may hold megabytes.

A zstd frame (RFC 8878, 3.1.1) must end where QEMU wants it to, which its blocks tell:

    header | 3 bytes, block | 3 bytes, block | ... | 3 bytes, last block | checksum, if the header says so
"""

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

from vdifs.errors import FormatError
from vdifs.formats.qcow2.header import CompressionType

__all__ = ["Inflater"]

_WINDOW = 15
"""A superset of the 12 bits that QEMU writes."""
_MOST_CLUSTERS = 16
"""So many of them a stream may hold that stays packed."""
_MAX_BLOCKS = 1 << 16
"""In all frames of a cluster; a compressor makes one of 128 KiB."""
_LONGEST_HEADER = 18
_SKIPPABLE = 0x184D2A50
_RLE = 1
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
        return self._inflated(packed)[0]

    def measure(self, packed: bytes) -> int:
        """Return how many bytes the cluster takes that `packed` begins with: the whole stream, if it holds more.

        Raises FormatError where `inflate` does, and where the stream does not end: what would have to be passed on of
        it is not known then.
        """
        end = self._inflated(packed)[1]
        if end is None:
            end = self._end_of_more(packed)
        return end

    def _end_of_more(self, packed: bytes) -> int:
        """Return where a deflate stream ends that holds more than a cluster, of which QEMU takes the first bytes."""
        stream = isal_zlib.decompressobj(wbits=-_WINDOW)
        try:
            data = stream.decompress(packed, self._cluster_size)
            for _ in range(_MOST_CLUSTERS):
                if stream.eof or not data:
                    break
                data = stream.decompress(stream.unconsumed_tail, self._cluster_size)
        except IsalError as error:  # type: ignore[misc] # isal declares its class as an instance
            raise FormatError(f"the compressed data are damaged behind the cluster: {error}") from error
        if not stream.eof:
            what = "the compressed data go on behind the cluster, and cannot stay packed"
            raise FormatError(what, remedy="have it unpacked, with --packed expand")
        return len(packed) - len(stream.unused_data)

    def _inflated(self, packed: bytes) -> tuple[bytes, int | None]:
        """Return the cluster, and where its stream ends in `packed`: None where it goes on behind the cluster."""
        size = self._cluster_size
        end: int | None
        try:
            if self._zstd is not None:
                data, end = _inflate_zstd(self._zstd, packed, size)
            else:
                data, end = _inflate_deflate(packed, size)
        except (IsalError, zstandard.ZstdError) as error:  # type: ignore[misc] # isal declares its class as an instance
            raise FormatError(f"the compressed data are damaged: {error}") from error
        if len(data) != size:
            raise FormatError(f"the compressed data hold {len(data)} bytes, expected {size}, a whole cluster")
        return data, end


def _inflate_deflate(packed: bytes, cluster_size: int) -> tuple[bytes, int | None]:
    """Inflate one stream up to the size of a cluster, and return where it ends; None where that is not seen."""
    stream = isal_zlib.decompressobj(wbits=-_WINDOW)
    data = stream.decompress(packed, cluster_size)
    return data, len(packed) - len(stream.unused_data) if stream.eof else None


def _inflate_zstd(decompressor: zstandard.ZstdDecompressor, packed: bytes, cluster_size: int) -> tuple[bytes, int]:
    """Inflate one frame, or several, and return where they end; as in QEMU one must end with the cluster.

    A read ends with its frame, or after a byte more than is missing: that bounds it, as `max_output_size` would not,
    which a frame header overrules.
    """
    parts: list[bytes] = []
    missing, blocks = cluster_size, _MAX_BLOCKS
    at = 0
    while missing > 0 and at < len(packed) and blocks > 0:
        end, in_frame = _frame_end(packed, at, blocks)
        if end > len(packed):
            raise FormatError("the compressed data are damaged: a zstd frame is cut short")
        with decompressor.stream_reader(memoryview(packed)[at:end], read_across_frames=False) as reader:
            parts.append(reader.read(missing + 1))
        missing -= len(parts[-1])
        blocks -= in_frame
        at = end
    return b"".join(parts), at


def _frame_end(packed: bytes, start: int, most: int) -> tuple[int, int]:
    """Return where the zstd frame at `start` ends, beyond the end of `packed` if it does, and how many blocks it has.

    most: to look at so many blocks, and to take a frame of more for one without end.
    """
    head = packed[start : start + _LONGEST_HEADER]
    if int.from_bytes(head[:4], "little") & ~0xF == _SKIPPABLE:
        return start + 8 + int.from_bytes(head[4:8].ljust(4, b"\xff"), "little"), 1
    at = start + zstandard.frame_header_size(head)
    for blocks in range(1, most + 1):
        if at + 3 > len(packed):
            break
        block = int.from_bytes(packed[at : at + 3], "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == _RLE else size)
        if last:
            return at + (4 if zstandard.get_frame_parameters(head).has_checksum else 0), blocks
    return len(packed) + 1, most
