"""VHDs that are called as raw images are: raw for who asks for them, VHDs below an overlay that states so."""

from pathlib import Path
from uuid import UUID

import pytest

import vdifs
from tests.catalog.test_catalog import scanned
from tests.support import oracle, vhd
from tests.support.agreement import both_read, contents
from tests.support.builder import write_blank
from tests.support.image_file import Image
from tests.support.stamps import stamped
from tests.support.vhd import SECTOR, Vhd
from vdifs.errors import VdifsError

MIB = 1 << 20
DISK = b"\1" * SECTOR + bytes(MIB - 2 * SECTOR) + b"\2" * SECTOR


def overlay(folder: Path, base: str, stated: str) -> Image:
    top = folder / f"on-{base}-{stated}.qcow2"
    oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", stated, top, str(MIB))
    oracle.qemu_io(top, ["write -P 7 4096 512"])
    return Image(top)


def test_a_fixed_image_below_an_overlay_is_what_the_overlay_says(tmp_path: Path) -> None:
    image = tmp_path / "base.img"
    image.write_bytes(vhd.fixed(DISK, creator=b"win "))
    as_vhd, as_raw = overlay(tmp_path, "base.img", "vpc"), overlay(tmp_path, "base.img", "raw")
    assert both_read(as_vhd)[:SECTOR] == DISK[:SECTOR]
    assert both_read(as_raw)[:SECTOR] == DISK[:SECTOR]
    assert contents(image) == image.read_bytes()
    with scanned(tmp_path) as catalog:
        for top, base, size in ((as_vhd, "vpc", MIB), (as_raw, "raw", MIB + SECTOR)):
            chain = catalog.chain(top.path.name)
            assert [(entry.path, entry.format) for entry in chain[1:]] == [("base.img", base)]
            assert chain[1].virtual_size == size
        assert catalog.entries["base.img"].format == "raw"
        assert catalog.overlays("base.img") == (as_raw.path.name,)
        assert not catalog.scan()


@pytest.mark.parametrize("start", [b"", b"QFI\xfb"], ids=["plain", "like a qcow2"])
def test_what_its_guest_wrote_to_its_start_does_not_matter(tmp_path: Path, start: bytes) -> None:
    disk = start + DISK[len(start) :]
    (tmp_path / "base.raw").write_bytes(vhd.fixed(disk, creator=b"win "))
    top = overlay(tmp_path, "base.raw", "vpc")
    assert contents(top) == disk[:4096] + b"\7" * SECTOR + disk[4096 + SECTOR :]
    with scanned(tmp_path) as catalog:
        assert [entry.format for entry in catalog.chain(top.path.name)] == ["qcow2", "vpc"]


def test_a_chain_goes_on_below_it(tmp_path: Path) -> None:
    base, child = Vhd(MIB, uuid=UUID(int=1)), Vhd(MIB, uuid=UUID(int=2), parent=UUID(int=1), name="a.vhd")
    base.put(0, b"\1" * SECTOR)
    child.put(SECTOR, b"\2" * SECTOR)
    base.write(tmp_path / ".a.vhd")
    child.locators = [(b"W2ru", ".a.vhd".encode("utf-16-le"))]
    child.write(tmp_path / "b.img")
    write_blank(tmp_path / "top.qcow2", "b.img", "vpc")
    assert contents(tmp_path / "top.qcow2")[: 2 * SECTOR] == b"\1" * SECTOR + b"\2" * SECTOR
    with scanned(tmp_path) as catalog:
        chain = catalog.chain("top.qcow2")
        assert [(entry.path, entry.format) for entry in chain[1:]] == [("b.img", "vpc"), (".a.vhd", "vpc")]


@pytest.mark.parametrize("stated", ["vpc", "vmdk"])
def test_what_does_not_bear_the_mark_is_refused(tmp_path: Path, stated: str) -> None:
    (tmp_path / "base.img").write_bytes(stamped(0, MIB, 1))
    write_blank(tmp_path / "top.qcow2", "base.img", stated)
    with pytest.raises(VdifsError, match=r"base\.img"):
        vdifs.open(tmp_path / "top.qcow2")
    with scanned(tmp_path) as catalog, pytest.raises(VdifsError, match=r"base\.img"):
        catalog.chain("top.qcow2")
