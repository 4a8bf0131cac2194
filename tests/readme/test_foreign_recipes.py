"""The recipes of docs/migration.md, from other hypervisors and to them, run as they stand there."""

import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree

import pytest

from tests.mount.conftest import require_fuse
from tests.readme.examples import examples, run
from tests.support import oracle, vdi, vmdk
from tests.support.builder import make
from tests.support.vdi import Vdi
from tests.support.vhd import Vhd
from tests.support.vhdx import Draft, linked
from tests.support.written_disks import Write, writes, written

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require_fuse()
    for name in ("mnt", "new"):
        (tmp_path / name).mkdir()
    return tmp_path


def drawn(seed: int, count: int) -> Iterator[tuple[list[Write], bytes]]:
    """Yield what is written to each of the images of a chain, base first, and the disk that it then shows."""
    rng, disk = random.Random(seed), b""
    for _ in range(count):
        wrote = writes(rng, SIZE, most=12)
        disk = written(disk, SIZE, wrote)
        yield wrote, disk


def same(image: Path, disk: bytes, raw: Path) -> None:
    """Prove that a copied qcow2 is sound, and the disk."""
    oracle.check(image)
    assert oracle.materialize(image, raw).read_bytes() == disk


def storage_repository(folder: Path) -> list[bytes]:
    """Make the folder of UUID.vhd of the recipe: the base is hidden, as what was snapshotted is, and a leaf beside."""
    names = ["9d1c2f7e-8a30-4f59-b8d5-27c0a2f1e6b4", "3b5e9a42-0c1f-4c65-9f3e-5f0f3a3c7d10"]
    assert all(f"{name}.vhd" in examples()["xcp-ng-chain"][1] for name in names)
    folder.mkdir()
    disks = []
    for level, (wrote, disk) in enumerate(drawn(1, 2)):
        image = Vhd(SIZE, 2 << 20, UUID(names[0]) if level else None, UUID(names[level]))
        image.footer_fields = {"creator": b"tap\0", "hidden": 1 - level}
        if level:
            image.name = f"{names[0]}.vhd"
            image.locators = [(b"MacX", f"file://./{image.name}".encode())]
            image.locators.append((b"W2ku", f"C:\\{image.name}".encode("utf-16-le")))
            image.locators.append((b"W2ru", f".\\{image.name}".encode("utf-16-le")))
        for each in wrote:
            image.put(each.offset, each.data)
        image.write(folder / f"{names[level]}.vhd")
        disks.append(disk)
    return disks


def test_xcp_ng(folder: Path) -> None:
    base, leaf = storage_repository(folder / "sr")
    listed = run("xcp-ng", folder).splitlines()
    assert [("9d1c2f7e" in line, "hidden" in line) for line in listed] == [(True, True), (False, False)]
    same(folder / "new/disk.qcow2", leaf, folder / "disk.raw")
    run("xcp-ng-chain", folder)
    for name, disk in zip(sorted((folder / "new").glob("*.vhd.qcow2"), reverse=True), (base, leaf), strict=True):
        same(name, disk, folder / "disk.raw")


def test_vmware(folder: Path) -> None:
    """A machine of ESX: a flat base, one snapshot as VMFS 5 has them, and one as VMFS 6 has them."""
    (machine := folder / "vm").mkdir()
    sectors = SIZE // vmdk.SECTOR
    base = written(b"", SIZE, writes(random.Random(3), SIZE, most=12))
    grains = {3: vmdk.grain_of(1, 1), 900: vmdk.grain_of(2, 1)}
    later = {1: vmdk.grain_of(3, 8), 100: vmdk.grain_of(4, 8)}
    parts = [
        ("web", "flat", "VMFS", base, ""),
        ("web-000001", "delta", "VMFSSPARSE", vmdk.cowd(sectors, grains), "web.vmdk"),
        ("web-000002", "sesparse", "SESPARSE", vmdk.sesparse(sectors, later), "web-000001.vmdk"),
    ]
    for cid, (name, part, kind, content, hint) in enumerate(parts, 10):
        vmdk.write(machine, f"{name}-{part}.vmdk", content)
        line, parent = f'RW {sectors} {kind} "{name}-{part}.vmdk"', f"{cid - 1:08x}" if hint else "ffffffff"
        text = vmdk.descriptor(line, cid=f"{cid:08x}", parent_cid=parent, hint=hint)
        (machine / f"{name}.vmdk").write_bytes(text.replace(b"custom", b"vmfs"))
    (machine / "web.vmx").write_text('scsi0:0.fileName = "web-000002.vmdk"\n')
    said = run("vmware", folder)
    assert [name in said for name in ("web-000001.vmdk", "-flat", "-delta", "-sesparse")] == [True, False, False, False]
    disk = vmdk.disk(sectors, later, 8, vmdk.disk(sectors, grains, 1, base))
    same(folder / "new/web.qcow2", disk, folder / "disk.raw")
    same(folder / "new/web-before.qcow2", base, folder / "disk.raw")


def test_hyper_v(folder: Path) -> None:
    (folder / "disks").mkdir()
    names = ["web.vhdx", "web_1B6F4E0C-9C5D-4D0B-8F0E-3A1D5B7C2E90.avhdx"]
    parent, disk = None, b""
    for level, (wrote, shown) in enumerate(drawn(4, 2)):
        image = Draft(SIZE, 2 * MIB, parent=parent, number=level + 1)
        for each in wrote:
            image.write(each.offset, each.data)
        image.save(folder / "disks" / names[level])
        parent, disk = linked(image.guid, names[0]) | {"absolute_win32_path": f"C:\\VMs\\{names[0]}"}, shown
    run("hyper-v", folder)
    same(folder / "new/web.qcow2", disk, folder / "disk.raw")


def test_virtualbox(folder: Path) -> None:
    (folder / "web/Snapshots").mkdir(parents=True)
    name = "web/Snapshots/{6c2a8e10-52cf-4e0a-9a3d-c7e0f5d1b284}.vdi"
    disks = []
    for level, (wrote, disk) in enumerate(drawn(2, 2)):
        image = Vdi(SIZE, parent=vdi.name(1) if level else None, name=vdi.name(level + 1))
        for each in wrote:
            start, stop = each.offset >> 20 << 20, each.offset + len(each.data)
            image.blocks |= {at >> 20: disk[at : at + MIB] for at in range(start, stop, MIB)}
        image.write(folder / (name if level else "web/web.vdi"))
        disks.append(disk)
    assert "web.vdi" in run("virtualbox", folder)
    same(folder / "new/web.qcow2", disks[1], folder / "disk.raw")


OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"


def test_ova(folder: Path) -> None:
    (folder / "vms").mkdir()
    (wrote, _), (more, disk) = drawn(5, 2)
    make(folder / "vms/base.qcow2", SIZE)
    make(folder / "vms/web.qcow2", SIZE, backing=("base.qcow2", "qcow2"))
    for name, each in (("base", wrote), ("web", more)):
        write_all(folder / f"vms/{name}.qcow2", each)
    assert "Images are identical" in run("ova", folder)
    with tarfile.open(folder / "new/web.ova") as ova:
        description, shown = ova.getmembers()
        assert (description.name, shown.name) == ("web.ovf", "web.qcow2.vmdk")
        read = ova.extractfile(description)
        assert read is not None
        root = ElementTree.fromstring(read.read())
    (file,), (stated,) = root.iter(f"{OVF}File"), root.iter(f"{OVF}Disk")
    assert file.attrib == {f"{OVF}id": "file1", f"{OVF}href": shown.name, f"{OVF}size": str(shown.size)}
    assert (stated.get(f"{OVF}fileRef"), stated.get(f"{OVF}capacity")) == ("file1", str(SIZE))
    raw = oracle.materialize(folder / "new/web" / shown.name, folder / "disk.raw", format="vmdk")
    assert raw.read_bytes() == disk
    inside = f"driver=vmdk,file.driver=raw,file.offset={shown.offset_data},file.size={shown.size}"
    inside += f",file.file.driver=file,file.file.filename={folder / 'new/web.ova'}"
    oracle.qemu_img("compare", "--image-opts", inside, f"driver=raw,file.driver=file,file.filename={raw}")


def write_all(image: Path, wrote: list[Write]) -> None:
    """Write to a qcow2 what a disk is to hold."""
    for number, each in enumerate(wrote):
        content = image.with_name(f"{number}.bin")
        content.write_bytes(each.data)
        oracle.qemu_io(image, [f"write -q -s {content} {each.offset} {len(each.data)}"])
        content.unlink()
