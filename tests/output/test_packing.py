"""Packed clusters by window, and what is known of their bytes without asking."""

import tracemalloc
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest

import vdifs
from tests.support.builder import make
from tests.support.packing import put
from tests.support.qcow2 import COMPRESSED
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB, SECTOR
from vdifs.output.packing import PackedBlocks, packed_runs

CLUSTER = 64 * KIB


def blocks_at(*blocks: int) -> PackedBlocks:
    """Return blocks of a sector each, that lie apart in one file."""
    index = np.array(blocks, np.int64)
    one = np.ones_like(index)
    return PackedBlocks(index, np.zeros(len(index), np.int16), index * 0 + np.arange(len(index)) * MIB, one)


@pytest.mark.parametrize("cuts", [0, 3])
def test_what_windows_have_is_counted_by_window(cuts: int) -> None:
    runs = packed_runs(blocks_at(0, 1, 7, 8, 30, 31, 32), 8, cuts)
    wanted = [[cuts, 1, 3], [cuts + 1, 1, 1], [cuts + 3, 1, 2], [cuts + 4, 1, 1]]
    assert runs.blocks.tolist() == runs.sectors.tolist() == wanted


def test_windows_of_a_disk_of_nearly_nothing_take_no_memory() -> None:
    """Two packed clusters at both ends of 2**60 bytes, in clusters of 2 MiB."""
    blocks = blocks_at(0, 1 << 39)
    tracemalloc.start()
    try:
        runs = packed_runs(blocks, 8192, 0)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert runs.blocks.tolist() == [[0, 1, 1], [1 << 26, 1, 1]]


def test_a_cluster_that_begins_before_that_before_it_in_one_sector_is_read_in_any_pieces(tmp_path: Path) -> None:
    """It states a sector more than it takes: that before it, which lies behind it, is not in its way."""
    image = make(tmp_path / "image.qcow2", 8 * CLUSTER, "write -c -P 1 0 64k")
    first, second = deflated(b"\1" * CLUSTER), deflated(b"\2" * CLUSTER)
    at = image.append(bytes(2 * SECTOR))
    put(image, first, at=at + 200, cluster=2)
    put(image, second, at=at, sectors=2, cluster=3)
    with vdifs.open(image.path) as opened:
        start = opened.size - CLUSTER
        whole = opened.read_at(start, CLUSTER)
        assert second in whole
        assert whole.index(first) < whole.index(second)
        for size in (1, 50, 99):
            pieces = [opened.read_at(start + at, size) for at in range(0, 4 * SECTOR, size)]
            assert b"".join(pieces) == whole[: sum(map(len, pieces))]


@pytest.mark.parametrize("before", range(28, 35))
def test_what_is_known_of_clusters_that_overlap_in_the_source_is_what_is_read(before: int, tmp_path: Path) -> None:
    """One begins in the last sector of that before it, and ends there before it does: `before` others lie before both.

    No tool writes that.
    """
    image = make(tmp_path / "image.qcow2", 40 * CLUSTER)
    (tmp_path / "data").write_bytes(stamped(0, 40 * CLUSTER, 1))
    image.io(f"write -c -s {tmp_path / 'data'} 0 {40 * CLUSTER}")
    inner = deflated(bytes(CLUSTER))
    tail = (b"\xaa" * 900 + inner).ljust(1300, b"\xbb")
    head = deflated(bytes(CLUSTER - len(tail)), end=False)
    outer = head + b"\1" + len(tail).to_bytes(2, "little") + (~len(tail) & 0xFFFF).to_bytes(2, "little") + tail
    at = image.append(b"") + SECTOR - len(outer) % SECTOR - 1  # it ends with the last byte but one of a sector
    put(image, outer, at=at, cluster=before)
    inside = at + outer.index(inner)
    assert inside // SECTOR == (at + len(outer) - 1) // SECTOR
    image.set_l2(before + 1, COMPRESSED | inside)
    with vdifs.open(image.path) as opened:
        whole = opened.read_at(0, opened.size)
        assert outer in whole
        assert told(opened) == whole


def test_the_ends_of_long_packed_clusters_are_found_in_little_memory(tmp_path: Path) -> None:
    """Of as many clusters of 2 MiB as one is told of together, which hardly shrink."""
    image = make(tmp_path / "image.qcow2", 80 * MIB, "write -c -P 1 0 2M", cluster_size=2 * MIB)
    packed = deflated(Random(1).randbytes(1900 * KIB).ljust(2 * MIB, b"\0"))
    at = image.append(packed)
    for cluster in range(40):
        image.set_l2(cluster, COMPRESSED | -(-len(packed) // SECTOR) - 1 << 62 - (21 - 8) | at)
    with vdifs.open(image.path) as opened:
        assert opened.packed > 40 * len(packed)
        opened.read_at(0, 1)
        tracemalloc.start()
        try:
            assert opened.known(opened.size - opened.packed, wait=True) is not None
            assert tracemalloc.get_traced_memory()[1] < 24 * MIB
        finally:
            tracemalloc.stop()


def deflated(data: bytes, *, end: bool = True) -> bytes:
    packer = zlib.compressobj(wbits=-12)
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)


def told(image: vdifs.Image) -> bytes:
    """Return the bytes of an image as one reads them who is told where they come from, and asks for the others."""
    parts: list[bytes] = []
    at = 0
    while at < image.size:
        region = image.known(at, wait=True)
        if region is None or region.pieces is None:
            parts.append(image.read_at(at, SECTOR))
            at += SECTOR
            continue
        pieces = region.pieces
        held = bytearray(region.stop - region.start)
        for out, stop, file, host in zip(pieces.out, pieces.stop, pieces.file, pieces.host, strict=True):
            assert 0 <= out < stop <= len(held)
            held[out:stop] = image.chain.data_files[file].read_at(int(host), int(stop - out))
        parts.append(bytes(held[at - region.start :]))
        at = region.stop
    return b"".join(parts)
