"""SEEK_DATA and SEEK_HOLE of a raw view, against `qemu-img map` of the same image."""

import errno
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

import vdifs
from tests.support import oracle
from tests.support.builder import make, make_raw, pattern
from tests.support.chains import Shape, make_chain
from tests.support.proofs import reads_zero
from tests.support.units import GIB, KIB, MIB
from vdifs.ranges import Ranges

Maker = Callable[[Path], Path]


def data_by_qemu(image: Path, format: str = "qcow2") -> Ranges:  # noqa: A002 - QEMU's word
    """Return where the disk has data that are not known to be zeros."""
    data = [(each.start, each.end) for each in oracle.map_of(image, format) if each.data and not each.zero]
    joined: list[tuple[int, int]] = []
    for start, end in data:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return Ranges.of(joined)


def seek(image: vdifs.Image, offset: int, whence: int) -> int | None:
    """Return what the image answers, None for ENXIO."""
    try:
        return image.seek(offset, whence)
    except vdifs.VdifsError as error:
        assert error.errno == errno.ENXIO
        return None


def data_by_walking(image: vdifs.Image) -> Ranges:
    found: list[tuple[int, int]] = []
    at = 0
    while (start := seek(image, at, os.SEEK_DATA)) is not None:
        assert start >= at
        at = image.seek(start, os.SEEK_HOLE)
        assert start < at
        found.append((start, at))
    return Ranges.of(found)


def prove_seeks(image: vdifs.Image, data: Ranges) -> None:
    """Prove the answers at each edge of `data`, around it, and in the middle between two."""
    edges = [0, *data.edges.tolist(), image.size]
    places = {edge + by for edge in edges for by in (-513, -512, -511, -1, 0, 1, 511, 512, 513)}
    places |= {(one + other) // 2 for one, other in pairwise(edges)}
    for at in places:
        inside = 0 <= at < image.size
        assert seek(image, at, os.SEEK_DATA) == (data.first_within(at, image.size) if inside else None)
        assert seek(image, at, os.SEEK_HOLE) == (data.first_outside(at) if inside else None)


def plain(folder: Path) -> Path:
    return make(folder / "plain.qcow2", 100 * MIB, "write -P 1 0 64k", "write -P 2 1M 3000k", "write 99M 512").path


def small_clusters(folder: Path) -> Path:
    writes = [f"write -P 3 {at} 512" for at in range(0, MIB, 1536)]
    return make(folder / "small.qcow2", MIB + 512, *writes, f"write {MIB} 512", cluster_size=512).path


def large_clusters(folder: Path) -> Path:
    return make(folder / "large.qcow2", 9 * MIB + 512, "write 3M 1", "write 9M 512", cluster_size="2M").path


def zero_clusters(folder: Path) -> Path:
    make(folder / "base.qcow2", 4 * MIB, "write -P 1 0 4M")
    commands = ["write -z 64k 128k", "write -z -u 1M 1M", "write -P 2 1100k 10k", "discard 3M 64k"]
    return make(folder / "zeros.qcow2", 4 * MIB, *commands, backing=("base.qcow2", "qcow2")).path


def subclusters(folder: Path) -> Path:
    make(folder / "base.qcow2", MIB, "write -P 1 100k 200k")
    commands = ["write -P 2 2k 2k", "write -P 3 130k 6k", "write -z 150k 4k", "write -z 300k 2k", "write 1022k 2k"]
    return make(folder / "sub.qcow2", MIB, *commands, backing=("base.qcow2", "qcow2"), extended_l2="on").path


def compressed(folder: Path) -> Path:
    make(folder / "base.qcow2", 2 * MIB, *[f"write -c -P 1 {at}k 64k" for at in range(0, 640, 64)])
    commands = ["write -c -P 2 64k 64k", "write -c -P 3 1024k 64k", "write -z 256k 64k", "write -P 5 320k 1k"]
    return make(folder / "packed.qcow2", 2 * MIB, *commands, backing=("base.qcow2", "qcow2")).path


def on_a_sparse_raw_file(folder: Path) -> Path:
    with make_raw(folder / "base.raw", pattern(1)).open("r+b") as file:
        for at in (256 * KIB, 500 * KIB, 3 * MIB):
            file.seek(at)
            file.write(pattern(2, 8 * KIB))
        file.truncate(4 * MIB)
    return make(folder / "top.qcow2", 5 * MIB, "write 260k 4k", "write -z 3M 4k", backing=("base.raw", "raw")).path


def on_a_shorter_and_a_longer_one(folder: Path) -> Path:
    make(folder / "base.qcow2", 8 * MIB, "write -P 1 0 8M")
    make(folder / "short.qcow2", MIB + 512, "write -P 2 512k 64k", backing=("base.qcow2", "qcow2"), cluster_size=4096)
    return make(folder / "top.qcow2", 3 * MIB + 1536, "write 3M 1536", backing=("short.qcow2", "qcow2")).path


def holes_in_its_file(folder: Path) -> Path:
    """An image of which whole clusters have a place, and the file holds nothing there, or in a part of them."""
    image = make(folder / "image.qcow2", 4 * MIB, "write -P 1 0 2M").path
    places = [each.offset for each in oracle.map_of(image) if each.data and each.offset is not None]
    for start, length in [(64 * KIB, 64 * KIB), (300 * KIB, 20 * KIB)]:
        oracle.run("fallocate", "-p", "-o", str(places[0] + start), "-l", str(length), image)
    return image


def data_file(folder: Path) -> Path:
    commands, data = ["write -P 1 1M 64k", "write -z 2M 1M"], folder / "image.data"
    return make(folder / "image.qcow2", 3 * MIB + 512, *commands, data_file=data, data_file_raw="on").path


def nothing(folder: Path) -> Path:
    return make(folder / "empty.qcow2", 64 * GIB).path


def in_many_windows(folder: Path) -> Path:
    """Data that begin, end and go on where windows do: these are 4 MiB in clusters of 512 bytes."""
    writes = ["write -P 1 0 4M", "write -P 1 8M 8M", "write -P 1 20479k 2k", "write 28M 1M", "write -z 29M 3M"]
    return make(folder / "windows.qcow2", 40 * MIB, *writes, cluster_size=512).path


@pytest.mark.parametrize(
    "maker",
    [
        plain, small_clusters, large_clusters, zero_clusters, subclusters, compressed, on_a_sparse_raw_file,
        on_a_shorter_and_a_longer_one, holes_in_its_file, data_file, nothing, in_many_windows,
    ],
)  # fmt: skip
def test_the_holes_are_those_that_qemu_maps(maker: Maker, tmp_path: Path) -> None:
    prove_holes(maker(tmp_path), "qcow2", tmp_path / "contents.raw")


@pytest.mark.seeds(6, long=100)
@pytest.mark.timeout(600)
def test_the_holes_of_a_random_chain_are_those_that_qemu_maps(tmp_path: Path, seed: int) -> None:
    shape = Shape(depth=range(1, 5), largest_disk=32 * MIB, compressed=True, extended_l2=True)
    chain = make_chain(tmp_path / "source", seed, shape)
    with chain.explained():
        for number, source in enumerate(chain.images):
            if chain.standalone(number):
                prove_holes(source.path, source.format, tmp_path / f"{number}.raw", trusted=[chain.folder])


def prove_holes(path: Path, format: str, raw: Path, trusted: Sequence[Path] = ()) -> None:  # noqa: A002 - QEMU's word
    """Prove that all that QEMU knows as zeros is in holes, and that what else is in them reads as zeros.

    Where a file has a place for data that were never written, QEMU does not see the zeros. raw: a new file.
    """
    by_qemu = data_by_qemu(path, format)
    oracle.materialize(path, raw, format=format)
    with vdifs.open(path, view="raw", trusted=trusted) as image:
        data = data_by_walking(image)
        prove_seeks(image, data)
    assert data.minus(by_qemu).rows.tolist() == []
    assert all(reads_zero(raw, start, stop - start) for start, stop in by_qemu.minus(data).rows.tolist())
