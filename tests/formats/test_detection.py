"""What a file is whose beginning, end and name tell different things: never what a guest has written into its disk.

See docs/formats.md, Detection. The small images that a guest may hold are QEMU's.
"""

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

import vdifs
from tests.support import oracle, vhd
from vdifs.errors import FormatError, VdifsError
from vdifs.formats.image_format import Front
from vdifs.formats.registry import probed
from vdifs.storage.host_file import HostFile

MIB = 1 << 20
DISK = 5 * MIB
"""No power of two, and larger than the small images."""
REFUSED, NONE = "refused", "none"
DESCRIPTOR = (
    b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 1 FLAT "x" 0\n'
)


@cache
def small(kind: str) -> bytes:
    """Return an image as QEMU makes it, of one of the formats that have their mark at the start."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / "image"
        oracle.qemu_img("create", "-q", "-f", kind, made, "1M")
        return made.read_bytes()[:DISK]


def disk_with(start: bytes) -> bytes:
    """Return a guest's disk that begins like that."""
    return start + bytes(DISK - len(start))


def footer(length: int = 512, size: int = DISK) -> bytes:
    return vhd.fixed(b"", size)[:length]


class File(NamedTuple):
    """A file, and what it is read as. disk: what its raw view must be, if it is read as raw or a fixed VHD."""

    name: str
    content: bytes
    found: str
    disk: bytes | None = None


def holding(kind: str, start: bytes, suffixes: list[str], found: str) -> list[File]:
    """Return fixed VHDs whose guest has written an image of another format to the start of its disk.

    suffixes: of that format, which has the name `found`.
    """
    disk = disk_with(start)
    content = disk + footer()
    return [
        *(File(f"{kind}{suffix}", content, "vpc", disk) for suffix in (".vhd", ".avhd", ".VHD", ".vud")),
        *(File(f"{kind}{suffix}", content, found) for suffix in suffixes),
        File(f"{kind}.raw", content, "qcow2" if kind == "qcow2" else "raw", None if kind == "qcow2" else content),
        File(kind, content, REFUSED),
        File(f"{kind}.vhd.bak", content, REFUSED),
    ]


FILES = [
    *holding("qcow2", small("qcow2"), [".qcow2", ".QCOW2"], "qcow2"),
    *holding("vhdx", small("vhdx"), [".vhdx", ".avhdx"], "vhdx"),
    *holding("vmdk", small("vmdk"), [".vmdk"], "vmdk"),
    *holding("vdi", small("vdi"), [".vdi"], "vdi"),
    *(
        File(f"dynamic{suffix}", disk_with(small("vpc")) + footer(), "vpc", disk_with(small("vpc")))
        for suffix in (".vhd", "", ".qcow2", ".vmdk")
    ),
    *(
        File(f"descriptor{suffix}", disk_with(DESCRIPTOR) + footer(), "vpc", disk_with(DESCRIPTOR))
        for suffix in (".vhd", "", ".vmdk")
    ),
    *(File(f"blank{suffix}", disk_with(b"") + footer(), "vpc", disk_with(b"")) for suffix in (".vhd", "", ".qcow2")),
    *(File(f"disk{s}", disk_with(b"") + footer(), "raw", disk_with(b"") + footer()) for s in (".raw", ".img")),
    File("disk.IMG", disk_with(b"") + footer(), NONE),
    # The end of any other image is its guest's: a footer there makes it no VHD.
    *(
        File(
            f"end-of-{kind}{suffix}",
            small(kind) + footer(size=len(small(kind)) // 512 * 512),
            kind if suffix else REFUSED,
        )
        for kind in ("qcow2", "vhdx", "vmdk", "vdi")
        for suffix in (f".{kind}", "")
    ),
    File("guest-of-raw.raw", disk_with(small("vdi")), "raw", disk_with(small("vdi"))),
    File("guest-of-raw.img", disk_with(DESCRIPTOR), "raw", disk_with(DESCRIPTOR)),
    # Footers of 511 bytes, which old Virtual PCs wrote; cut ones, and two of them.
    File("short.vhd", disk_with(b"") + footer(511), "vpc", disk_with(b"")),
    File("short", disk_with(small("qcow2")) + footer(511), REFUSED),
    File("cut.vhd", disk_with(b"") + footer(510), NONE),
    File("cut.raw", disk_with(b"") + footer(510), "raw", disk_with(b"") + footer(510) + bytes(2)),
    File("cut", disk_with(small("qcow2")) + footer(510), "qcow2"),
    File("doubled.vhd", disk_with(b"") + footer() + footer(), "vpc", disk_with(b"")),
    File("too-long.qcow2", disk_with(small("qcow2")) + footer(size=DISK + 512), "qcow2"),
    File("dynamic-only.vhd", small("vpc"), "vpc"),
    File("dynamic-only.img", small("vpc"), "raw", small("vpc")),
    # Text that names files, in the first sector of a disk.
    File("text", disk_with(DESCRIPTOR), NONE),
    File("text.vmdk", disk_with(DESCRIPTOR), NONE),
    File("text.qcow2", DESCRIPTOR, "vmdk"),
]


def found_in(path: Path) -> str:
    file = HostFile.open(os.fspath(path), lambda flags: os.open(path, flags))
    try:
        found = probed(Front(file))
    except FormatError as error:
        assert "a guest may have written either: call it *." in str(error), error
        return REFUSED
    finally:
        file.close()
    return NONE if found is None else found.name


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 60
    assert len({each.name for each in FILES}) == len(FILES)


@pytest.mark.parametrize("file", FILES, ids=[each.name for each in FILES])
def test_a_guest_does_not_choose_how_its_disk_is_read(file: File, tmp_path: Path) -> None:
    path = tmp_path / file.name
    path.write_bytes(file.content)
    if file.found == "raw":
        assert found_in(path) == NONE
    else:
        assert found_in(path) == file.found
    if file.disk is not None:
        with vdifs.open(path, view="raw") as image:
            assert image.read_at(0, image.size) == file.disk
    elif file.found in (REFUSED, NONE):
        with pytest.raises(VdifsError, match=f"{file.name}: "):
            vdifs.open(path, view="raw")
