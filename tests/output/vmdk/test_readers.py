"""Synthetic VMDKs as other programs read them: QEMU, libvmdk, 7-Zip, and vdifs itself."""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

import vdifs
from tests.support import oracle
from tests.support.chains import Shape, make_chain
from tests.support.copying import copy_in_pieces
from tests.support.seven_zip import by_7zip
from tests.support.stamps import stamped
from tests.support.units import GIB, KIB, MIB, SECTOR
from tests.support.vmdk_reading import by_libvmdk, chain_of, disk_of

TABLE = 32 * MIB
"""Bytes of disk that a grain table maps."""


def export(source: Path, target: Path, rng: Random, trusted: Iterable[Path] = ()) -> Path:
    with vdifs.open(source, view="vmdk", trusted=list(trusted)) as image:
        copy_in_pieces(image, target, rng)
    assert oracle.info(target, "vmdk")["format-specific"]["data"]["create-type"] == "streamOptimized"
    oracle.qemu_img("check", "-q", "-f", "vmdk", target)
    return target


def raw_of(path: Path, size: int, *starts: int) -> Path:
    """Write a raw disk that has 4 KiB of data, or what is left of the disk, from each of `starts` on."""
    with path.open("wb") as file:
        for start in starts:
            file.seek(start)
            file.write(stamped(start, 4096, 1)[: size - start])
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("size", "starts"),
    [
        (SECTOR, [0]),
        (SECTOR, []),
        (64 * KIB, [0, 60 * KIB]),
        (64 * KIB + SECTOR, [64 * KIB]),
        (5 * MIB + 3 * SECTOR, [0, 64 * KIB, 200 * KIB, 5 * MIB]),
        (TABLE - SECTOR, [TABLE - 4096]),
        (3 * TABLE + SECTOR, [4096, TABLE - 4096, TABLE, 3 * TABLE]),
        (3 * TABLE, []),
    ],
)
def test_every_reader_sees_the_same_disk(tmp_path: Path, size: int, starts: list[int]) -> None:
    disk = raw_of(tmp_path / "a.raw", size, *starts)
    file = export(disk, tmp_path / "b.vmdk", Random(size))
    contents = disk.read_bytes()
    oracle.compare(file, disk, left_format="vmdk", right_format="raw")
    assert oracle.materialize(file, tmp_path / "b.raw", format="vmdk").read_bytes() == contents
    assert by_libvmdk(file) == contents
    assert by_7zip(file, "vmdk") == contents
    assert disk_of(file) == contents


def test_a_disk_of_nothing_is_one_of_a_sector(tmp_path: Path) -> None:
    """QEMU and libvmdk read none of no sectors, not even the one that qemu-img makes."""
    disk = raw_of(tmp_path / "a.raw", 0)
    file = export(disk, tmp_path / "b.vmdk", Random(0))
    assert oracle.virtual_size(file, "vmdk") == SECTOR
    oracle.qemu_img("compare", "-q", "-f", "vmdk", "-F", "raw", file, disk)
    assert by_libvmdk(file) == by_7zip(file, "vmdk") == disk_of(file) == bytes(SECTOR)


LARGE = {"2 GiB": 2 * GIB, "127 GiB": 127 * GIB + 5 * SECTOR}


@pytest.mark.parametrize("size", LARGE.values(), ids=LARGE)
def test_large_disks(tmp_path: Path, size: int) -> None:
    last = (size - 1) // (64 * KIB) * 64 * KIB
    starts = [0, TABLE - 4096, TABLE, size // 2 // 4096 * 4096, last]
    disk = raw_of(tmp_path / "a.raw", size, *starts)
    file = export(disk, tmp_path / "b.vmdk", Random(size))
    oracle.compare(file, disk, left_format="vmdk", right_format="raw")
    prove_places(file, disk, starts)


def prove_places(file: Path, disk: Path, starts: list[int]) -> None:
    """Prove what libvmdk reads, and vdifs, around each of `starts`."""
    handle = importlib.import_module("pyvmdk").handle()
    handle.open(os.fspath(file))
    handle.open_extent_data_files()
    size = disk.stat().st_size
    assert handle.get_media_size() == size
    with disk.open("rb") as opened, vdifs.open(file, view="raw") as image:
        assert image.size == size
        for start in starts:
            at = max(0, start - 64 * KIB)
            wanted = os.pread(opened.fileno(), 256 * KIB, at)
            assert handle.read_buffer_at_offset(len(wanted), at) == wanted
            assert image.read_at(at, 256 * KIB) == wanted


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_sparse_disk_of_2040_gib(tmp_path: Path) -> None:
    size = 2040 * GIB
    starts = [0, TABLE, 1024 * GIB, size - 4096]
    disk = raw_of(tmp_path / "a.raw", size, *starts)
    file = export(disk, tmp_path / "b.vmdk", Random(7))
    prove_places(file, disk, starts)
    oracle.qemu_img("compare", "-q", "-f", "vmdk", "-F", "raw", file, disk, timeout=1500)


@pytest.mark.seeds(10, long=100)
@pytest.mark.timeout(600)
def test_random_chains(tmp_path: Path, seed: int, rng: Random) -> None:
    shape = Shape(depth=range(1, 5), largest_disk=24 * MIB, compressed=True, extended_l2=True)
    chain = make_chain(tmp_path / "source", seed, shape)
    with chain.explained():
        top = chain.images[0]
        if not chain.standalone(0):
            return
        contents = oracle.materialize(top.path, tmp_path / "disk.raw", format=top.format).read_bytes()
        file = export(top.path, tmp_path / "disk.vmdk", rng, [chain.folder])
        oracle.qemu_img("compare", "-q", "-f", "vmdk", "-F", top.format, file, top.path)
        contents = contents or bytes(SECTOR)
        assert oracle.virtual_size(file, "vmdk") == len(contents)
        assert by_libvmdk(file) == contents
        assert by_7zip(file, "vmdk") == contents
        assert disk_of(file) == contents


def test_a_vmdk_of_a_vmdk_is_the_same_but_for_its_cid(tmp_path: Path) -> None:
    """It is read back as packed grains, all of which stay as they are."""
    disk = raw_of(tmp_path / "a.raw", 3 * TABLE, 0, 100 * KIB, TABLE)
    first = export(disk, tmp_path / "b.vmdk", Random(1))
    second = export(first, tmp_path / "c.vmdk", Random(2))
    one, other = first.read_bytes(), second.read_bytes()
    assert one[64 * KIB :] == other[64 * KIB :]
    with chain_of(first) as chain:
        assert chain.members[0].layer.compressed is not None
