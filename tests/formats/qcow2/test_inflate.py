"""One compressed cluster: exactly a cluster comes out, or a FormatError; and never more memory than that."""

import tracemalloc
import zlib
from itertools import pairwise
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from vdifs.errors import FormatError
from vdifs.formats.qcow2.header import CompressionType
from vdifs.formats.qcow2.inflate import Inflater

SIZE = 4096
DEFLATE, ZSTD = CompressionType.DEFLATE, CompressionType.ZSTD
KINDS = [DEFLATE, ZSTD]
CLUSTER = bytes(range(256)) * (SIZE // 256)


def inflate(packed: bytes, cluster_size: int, kind: CompressionType) -> bytes:
    return Inflater(cluster_size, kind).inflate(packed)


def packed(data: bytes, kind: CompressionType, window_bits: int = 12) -> bytes:
    if kind is ZSTD:
        return zstandard.ZstdCompressor().compress(data)
    stream = zlib.compressobj(wbits=-window_bits)
    return stream.compress(data) + stream.flush()


@given(st.binary(max_size=600), st.sampled_from(KINDS), st.integers(9, 12))
def test_a_cluster_comes_back_as_it_was(start: bytes, kind: CompressionType, bits: int) -> None:
    data = start.ljust(1 << bits, b"\x5a")[: 1 << bits]
    assert inflate(packed(data, kind), 1 << bits, kind) == data


@pytest.mark.parametrize("bits", range(9, 22))
@pytest.mark.parametrize("kind", KINDS)
def test_every_cluster_size_comes_back(bits: int, kind: CompressionType) -> None:
    data = Random(bits).randbytes(256) * (2 << bits >> 9)
    data = data[: 1 << bits]
    assert inflate(packed(data, kind), 1 << bits, kind) == data


@given(st.binary(min_size=1, max_size=512), st.sampled_from(KINDS))
def test_bytes_behind_the_stream_mean_nothing(rest: bytes, kind: CompressionType) -> None:
    assert inflate(packed(CLUSTER, kind) + rest, SIZE, kind) == CLUSTER


@pytest.mark.parametrize("window_bits", [9, 12, 15])
def test_deflate_streams_of_any_window_are_read(window_bits: int) -> None:
    data = Random(1).randbytes(30000) * 2 + bytes(5536)
    assert inflate(packed(data, DEFLATE, window_bits), 65536, DEFLATE) == data


@given(st.lists(st.integers(0, SIZE), max_size=4))
def test_several_zstd_frames_make_one_cluster(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), SIZE]
    parts = [CLUSTER[low:high] for low, high in pairwise(edges)]
    assert inflate(b"".join(packed(part, ZSTD) for part in parts), SIZE, ZSTD) == CLUSTER


def test_a_skippable_zstd_frame_is_skipped() -> None:
    skippable = bytes.fromhex("502a4d18 04000000") + b"note"
    assert inflate(skippable + packed(CLUSTER, ZSTD), SIZE, ZSTD) == CLUSTER


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [1, 512, SIZE])
def test_less_than_a_cluster_is_refused(kind: CompressionType, missing: int) -> None:
    with pytest.raises(FormatError):
        inflate(packed(CLUSTER[missing:], kind), SIZE, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_cut_short_is_refused(kind: CompressionType) -> None:
    whole = packed(Random(2).randbytes(SIZE), kind)
    for length in (0, 1, 5, 100, len(whole) - 300):
        with pytest.raises(FormatError):
            inflate(whole[:length], SIZE, kind)


@given(st.binary(max_size=700), st.sampled_from(KINDS))
def test_any_bytes_give_a_cluster_or_a_format_error(data: bytes, kind: CompressionType) -> None:
    try:
        assert len(inflate(data, 512, kind)) == 512
    except FormatError as error:
        assert str(error).isprintable()


@given(st.data(), st.sampled_from(KINDS))
def test_a_damaged_stream_gives_a_cluster_or_a_format_error(data: st.DataObject, kind: CompressionType) -> None:
    stream = bytearray(packed(Random(3).randbytes(200) + CLUSTER[200:], kind))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    try:
        assert len(inflate(bytes(stream), SIZE, kind)) == SIZE
    except FormatError:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_defused(kind: CompressionType) -> None:
    """64 MiB of zeros in a few kilobytes take no more memory than a cluster and the decompressor's window."""
    bomb = packed(bytes(64 << 20), kind)
    tracemalloc.start()
    try:
        try:
            inflate(bomb, SIZE, kind)
        except FormatError:
            pass  # a stream that goes on behind the cluster may be refused as well
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def frame_of_blocks(count: int) -> bytes:
    """Return a zstd frame of a cluster in so many blocks, of which all but the last are empty (RFC 8878, 3.1.1)."""
    descriptor, window = b"\0", b"\x10"  # its size is not stated; a window of 4 KiB
    last = (SIZE << 3 | 1).to_bytes(3, "little")
    return zstandard.FRAME_HEADER + descriptor + window + bytes(3 * (count - 1)) + last + CLUSTER


@pytest.mark.parametrize("blocks", [1, 2, 1 << 16])
def test_a_zstd_frame_may_have_many_blocks(blocks: int) -> None:
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame_of_blocks(blocks)) == CLUSTER
    assert inflate(frame_of_blocks(blocks), SIZE, ZSTD) == CLUSTER


def test_a_zstd_frame_of_more_blocks_than_any_compressor_makes_is_refused() -> None:
    """They cost three bytes each, and as much work as one with data."""
    with pytest.raises(FormatError, match="a zstd frame is cut short"):
        inflate(frame_of_blocks((1 << 16) + 1), SIZE, ZSTD)


def test_a_zstd_window_above_8_mib_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(CLUSTER) + stream.flush()
    with pytest.raises(FormatError):
        inflate(data, SIZE, ZSTD)
