"""QCOW2.md, 'Bitmaps': read as QEMU tells them, valid only with autoclear bit 0, and never in the way of the data."""

from pathlib import Path

import pytest

from tests.qemu import oracle
from tests.rules.images import CLUSTER, MIB, Image, both_read, contents, format_error, make, pattern, qemu_contents
from vdifs.qcow2.bitmaps import Bitmap, BitmapFlag
from vdifs.source.hostfile import HostFile
from vdifs.source.members import read_bitmaps, read_header

WRITTEN = pattern(1) + bytes(MIB - CLUSTER)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """With two bitmaps, one of them recording."""
    image = make(tmp_path / "image.qcow2", MIB)
    oracle.qemu_img("bitmap", "--add", "--enable", "-g", "64k", image.path, "recording")
    oracle.qemu_img("bitmap", "--add", "--disable", "-g", "128k", image.path, "größe")
    return image.io("write -P 1 0 64k")


def bitmaps_of(image: Image) -> tuple[Bitmap, ...]:
    with image.path.open("rb") as opened:
        file = HostFile(opened.fileno(), image.path.name)
        header = read_header(file)
        assert header is not None
        return read_bitmaps(file, header)


def directory(image: Image) -> int:
    """Return where the bitmap directory is: the last word of its extension."""
    head = image.path.read_bytes()[: image.cluster_size]
    return int.from_bytes(head[head.index(b"\x23\x85\x28\x75") + 24 :][:8], "big")


def test_directory_entries_say_name_granularity_and_flags(image: Image) -> None:
    found = {bitmap.name: (bitmap.granularity, bitmap.flags) for bitmap in bitmaps_of(image)}
    assert found == {"recording": (CLUSTER, BitmapFlag.AUTO), "größe": (2 * CLUSTER, BitmapFlag(0))}
    by_qemu = oracle.info(image.path)["format-specific"]["data"]["bitmaps"]
    assert {each["name"]: each["granularity"] for each in by_qemu} == {
        name: granularity for name, (granularity, _) in found.items()
    }
    assert both_read(image) == WRITTEN


def test_directory_flag_0_says_in_use(image: Image) -> None:
    flags = directory(image) + 12
    image.write(flags + 3, bytes([image.path.read_bytes()[flags + 3] | 1]))
    assert BitmapFlag.IN_USE in bitmaps_of(image)[0].flags
    assert contents(image) == qemu_contents(image) == WRITTEN


def test_bitmaps_without_autoclear_bit_0_are_not_valid(image: Image) -> None:
    image.set(autoclear_features=0)
    assert bitmaps_of(image) == ()
    assert "bitmaps" not in oracle.info(image.path)["format-specific"]["data"]
    assert both_read(image) == WRITTEN


def test_a_damaged_directory_does_not_keep_the_data_from_being_read(image: Image) -> None:
    """The type of the first entry is unknown: the bitmaps are refused, not the disk."""
    image.write(directory(image) + 16, b"\7")
    with format_error("bitmap 0 has the type 7"):
        bitmaps_of(image)
    assert contents(image) == WRITTEN
