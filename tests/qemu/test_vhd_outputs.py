"""Programs that never heard of vdifs read its VHDs as the same disk: QEMU, libvhdi, 7-Zip; and vdifs itself does.

Random chains; disks of no bytes, one sector, and as large as a VHD holds.
"""

import importlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

import vdifs
from tests.conftest import cannot_be_tried, require_tool
from tests.support import oracle
from tests.support.builder import make, make_raw
from tests.support.chains import Shape, make_chain
from tests.support.command_line import answer, export
from tests.support.seven_zip import by_7zip
from tests.support.units import GIB, KIB, MIB
from vdifs.output.view import View

BOTH: list[View] = ["vhd", "vhd-fixed"]
SECTOR = 512


def disk_size(view: View, virtual_size: int) -> int:
    """Return how large the disk of a VHD is that shows one of `virtual_size` bytes."""
    return max(SECTOR, virtual_size) if view == "vhd" else max(MIB, -(-virtual_size // MIB) * MIB)


def by_qemu(path: Path, output: Path) -> bytes:
    oracle.qemu_img("convert", "-f", "vpc", "-O", "raw", path, output)
    return output.read_bytes()


@contextmanager
def opened_by_libvhdi(path: Path) -> Iterator[Any]:
    try:
        file = importlib.import_module("pyvhdi").file()
    except ModuleNotFoundError:
        cannot_be_tried("libvhdi is not installed")
    file.open(str(path))
    try:
        yield file
    finally:
        file.close()


def by_libvhdi(path: Path) -> bytes:
    with opened_by_libvhdi(path) as file:
        contents: bytes = file.read_buffer_at_offset(file.get_media_size(), 0)
        return contents


def by_vdifs(path: Path) -> bytes:
    with vdifs.open(path, view="raw") as image:
        return b"".join(image.stream())


def prove_all(view: View, path: Path, disk: bytes, scratch: Path) -> None:
    """Prove that every reader sees `disk`, and zeros up to what a VHD rounds it up to."""
    wanted = disk.ljust(disk_size(view, len(disk)), b"\0")
    assert oracle.virtual_size(path, "vpc") == len(wanted)
    assert by_qemu(path, scratch / "by-qemu.raw") == wanted
    assert by_7zip(path, "vhd") == wanted
    assert by_libvhdi(path) == wanted
    assert by_vdifs(path) == wanted


@pytest.mark.seeds(10, long=100)
@pytest.mark.timeout(600)
def test_a_random_chain_is_the_same_disk_to_all(tmp_path: Path, seed: int, rng: Random) -> None:
    shape = Shape(depth=range(2, 6), largest_disk=24 * MIB, compressed=True, extended_l2=True)
    chain = make_chain(tmp_path / "source", seed, shape)
    with chain.explained():
        image = rng.choice([each for each in range(len(chain.images)) if chain.standalone(each)])
        source = chain.images[image]
        disk = oracle.materialize(source.path, tmp_path / "disk.raw", format=source.format).read_bytes()
        for view in BOTH:
            words = ("--format", view, "--trust", chain.folder)
            path = export(source.path, tmp_path / f"{view}.vhd", *words)
            assert path.stat().st_size == answer("measure", source.path, *words)["required"]
            prove_all(view, path, disk, tmp_path)


@pytest.mark.parametrize("view", BOTH)
@pytest.mark.parametrize("size", [0, SECTOR, 17 * KIB, MIB, 2 * MIB + SECTOR])
def test_small_disks(tmp_path: Path, view: View, size: int) -> None:
    disk = Random(size).randbytes(size)
    source = make_raw(tmp_path / "disk.raw", disk)
    prove_all(view, export(source, tmp_path / "disk.vhd", "--format", view), disk, tmp_path)


@pytest.mark.parametrize("view", BOTH)
@pytest.mark.parametrize("size", [2 * GIB, 127 * GIB, 2040 * GIB])
def test_large_sparse_disks(tmp_path: Path, view: View, size: int) -> None:
    """7-Zip and libvhdi are asked for parts: whole, the disk is too long."""
    places = [0, size // 2 - 64 * KIB, size - 64 * KIB]
    source = make(tmp_path / "disk.qcow2", size, *(f"write -P {byte} {at} 64k" for byte, at in enumerate(places, 1)))
    path = export(source.path, tmp_path / "disk.vhd", "--format", view)
    assert path.stat().st_blocks * SECTOR < 32 * MIB
    by_qemu = oracle.materialize(path, tmp_path / "by-qemu.raw", format="vpc")  # its compare takes minutes, not so this
    oracle.compare(by_qemu, source.path, left_format="raw")
    with opened_by_libvhdi(path) as file, vdifs.open(path, view="raw") as image:
        assert file.get_media_size() == image.size == size
        for byte, at in enumerate(places, 1):
            around = max(0, at - KIB)
            wanted = bytes(at - around) + bytes([byte]) * (64 * KIB) + bytes(min(KIB, size - at - 64 * KIB))
            assert file.read_buffer_at_offset(len(wanted), around) == wanted
            assert image.read_at(around, len(wanted)) == wanted
    said = subprocess.run([require_tool("7z"), "l", "-slt", "-tvhd", path], capture_output=True, text=True, timeout=100)
    assert said.returncode == 0, said.stdout
    assert f"Size = {size}\n" in said.stdout
