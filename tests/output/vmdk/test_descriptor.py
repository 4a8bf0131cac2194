"""The descriptor of a synthetic VMDK, and the CID in it: what it follows from, and what it does not."""

import os
import re
import shutil
from pathlib import Path

import pytest

import vdifs
from tests.output.vmdk.model import text_of
from tests.support import oracle, vmdk
from tests.support.builder import make
from tests.support.units import KIB, MIB
from vdifs.formats.vmdk.descriptor import Descriptor


def text(path: Path, snapshot: str | None = None) -> bytes:
    with vdifs.open(path, view="vmdk", snapshot=snapshot) as image:
        return text_of(image.read_at(0, 64 * KIB))


def cid(path: Path, snapshot: str | None = None) -> bytes:
    (found,) = re.findall(rb"^CID=([0-9a-f]{8})$", text(path, snapshot), re.MULTILINE)
    assert isinstance(found, bytes)
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    make(tmp_path / "a.qcow2", 70 * MIB)
    oracle.qemu_io(tmp_path / "a.qcow2", ["write -P 1 0 1M", "write -P 2 40M 64k"])
    return tmp_path / "a.qcow2"


def test_it_is_what_readers_expect(image: Path) -> None:
    found = text(image)
    parsed = Descriptor.parse(found, embedded=True)
    assert parsed.cid == cid(image).decode()
    assert not parsed.has_parent
    assert parsed.create_type == b"streamOptimized"
    assert found.startswith(b"# Disk DescriptorFile\nversion=1\n")
    assert f'RW {70 * MIB // 512} SPARSE "disk.vmdk"\n'.encode() in found
    assert b'ddb.geometry.cylinders = "8"\n' in found


def test_copies_of_the_sources_give_the_same_file(image: Path, tmp_path: Path) -> None:
    """Whatever their time stamps and inode numbers are."""
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other/a.qcow2"
    shutil.copyfile(image, copy)
    os.utime(copy, (1, 1))
    with vdifs.open(image, view="vmdk") as first, vdifs.open(copy, view="vmdk") as second:
        assert first.read_at(0, first.size) == second.read_at(0, second.size)
        assert first.etag != second.etag


def test_another_disk_has_another_cid(image: Path, tmp_path: Path) -> None:
    cids = [cid(image)]
    shutil.copyfile(image, tmp_path / "b.qcow2")
    cids.append(cid(tmp_path / "b.qcow2"))
    oracle.qemu_io(image, ["write -P 3 60M 64k"])
    cids.append(cid(image))
    oracle.qemu_img("resize", "-q", image, "71M")
    cids.append(cid(image))
    oracle.qemu_img("snapshot", "-c", "s", image)
    cids += [cid(image), cid(image, "s")]
    assert len(set(cids)) == len(cids)


def test_what_a_foreign_image_calls_itself_counts(tmp_path: Path) -> None:
    """A VMDK has another CID whenever it was written to, if nothing else about it changed."""
    cids = set()
    for number in (1, 2):
        line = 'RW 128 FLAT "a-flat.vmdk" 0'
        vmdk.write(tmp_path, "a-flat.vmdk", vmdk.grain_of(number))
        content = vmdk.descriptor(line, cid=f"0000000{number}").replace(b"custom", b"monolithicFlat")
        cids.add(cid(vmdk.write(tmp_path, "a.vmdk", content)))
    assert len(cids) == 2
