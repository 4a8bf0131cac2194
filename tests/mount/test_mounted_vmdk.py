"""A folder of VMware's and of QEMU's, mounted: each disk as it was written, in every view, or refused by name."""

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.foreign import Refused, prove_delta, prove_full_and_raw, shown_as
from tests.mount.mounting import SOON_S, Mounts, eventually
from tests.support import oracle, vmdk
from tests.support.vmdk import SECTOR, grain_of
from tests.support.written_disks import Write, writes, written

KIB, MIB = 1 << 10, 1 << 20
SIZE = 6 * MIB
SECTORS = SIZE // SECTOR
CHAIN = ("vm.vmdk", "vm-000001.vmdk", "snapshots/vm-000002.vmdk")
is_refused = Refused(errno.EIO, errno.EACCES, errno.EOPNOTSUPP, errno.ESTALE)


@pytest.fixture
def source(mounts: Mounts) -> Path:
    source = mounts.scratch / "src"
    (source / "snapshots").mkdir(parents=True)
    return source


@pytest.fixture
def disks(source: Path) -> dict[str, bytes]:
    """A disk of ESX with two snapshots, seSparse and COWD; a split and a packed image; a qcow2 on the base."""
    rng = random.Random(8)
    base = written(b"", SIZE, writes(rng, SIZE, most=12))
    vmdk.write(source, "vm-flat.vmdk", base)
    describe(source, CHAIN[0], "a", f'RW {SECTORS} VMFS "vm-flat.vmdk"')
    grains: dict[int, Any] = {3: grain_of(1, 8), 4: "zero", 900: "unmapped", 1535: grain_of(2, 8)}
    vmdk.write(source, "vm-000001-sesparse.vmdk", vmdk.sesparse(SECTORS, grains))
    describe(source, CHAIN[1], "b", f'RW {SECTORS} SESPARSE "vm-000001-sesparse.vmdk"', "a", "vm.vmdk")
    one = vmdk.disk(SECTORS, grains, 8, base)
    packed = {0: grain_of(3, 1), 24: grain_of(4, 1), SECTORS - 1: grain_of(5, 1)}
    vmdk.write(source, "snapshots/vm-000002-delta.vmdk", vmdk.cowd(SECTORS, packed))
    hint = "/vmfs/volumes/5f/vm/vm-000001.vmdk"
    describe(source, CHAIN[2], "c", f'RW {SECTORS} VMFSSPARSE "vm-000002-delta.vmdk"', "b", hint)
    (source / "snapshots/vm-000001.vmdk").write_bytes(split_in_lines(source, one))
    found = {CHAIN[0]: base, CHAIN[1]: one, CHAIN[2]: vmdk.disk(SECTORS, packed, 1, one)}
    found["snapshots/vm-000001.vmdk"] = one
    text = vmdk.descriptor().replace(b"custom", b"streamOptimized")
    (source / "packed.vmdk").write_bytes(vmdk.stream(SECTORS, {1: grain_of(6), 95: grain_of(7)}, text))
    found["packed.vmdk"] = vmdk.disk(SECTORS, {1: grain_of(6), 95: grain_of(7)})
    oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", "packed.vmdk", "-F", "vmdk", source / "top.qcow2", str(SIZE))
    oracle.qemu_io(source / "top.qcow2", ["write -P 9 1M 64k"])
    found["top.qcow2"] = written(found["packed.vmdk"], SIZE, [Write(MIB, b"\x09" * (64 * KIB))])
    return found


def describe(source: Path, name: str, cid: str, line: str, parent_cid: str = "ffffffff", hint: str = "") -> None:
    text = vmdk.descriptor(line, cid=cid, parent_cid=parent_cid, hint=hint)
    (source / name).write_bytes(text.replace(b"custom", b"vmfs"))


def split_in_lines(source: Path, disk: bytes) -> bytes:
    """Write a disk in many extents, each a file, of flat and sparse ones; return its descriptor, which has a CID."""
    lines, at, rng = list[str](), 0, random.Random(9)
    while at < SECTORS:
        count = min(SECTORS - at, rng.choice([128, 300, 777]))
        name, content = f"split-s{len(lines) + 1:03}.vmdk", disk[at * SECTOR : (at + count) * SECTOR]
        if len(lines) % 2:
            grains = {n: content[n * 4 * KIB : (n + 1) * 4 * KIB].ljust(4 * KIB, b"\0") for n in range(-(-count // 8))}
            content = vmdk.hosted(count, {n: each for n, each in grains.items() if any(each)}, grain=8)
        vmdk.write(source / "snapshots", name, content)
        lines.append(f'RW {count} {"SPARSE" if len(lines) % 2 else "FLAT"} "{name}"')
        at += count
    return vmdk.descriptor(*lines, cid="b")


def test_they_are_the_same_disks_in_every_view(
    mounts: Mounts, source: Path, disks: dict[str, bytes], tmp_path: Path
) -> None:
    shown = mounts(source)
    names = {path.relative_to(shown / "full").as_posix() for path in (shown / "full").rglob("*.qcow2")}
    assert names == {shown_as(name) for name in disks}, "parts are no images"
    for name, disk in disks.items():
        prove_full_and_raw(shown, name, disk, tmp_path)
    pairs = [
        ("vm.vmdk", "vm-000001.vmdk"), ("snapshots/vm-000001.vmdk", "snapshots/vm-000002.vmdk"),
        ("packed.vmdk", "top.qcow2"),
    ]  # fmt: skip
    for base, name in pairs:
        prove_delta(shown, base, name, disks[name], tmp_path)
    for name in ("vm-000001.vmdk", "packed.vmdk"):  # which QEMU reads right: neither RDONLY nor ZERO lines
        oracle.compare(source / name, shown / f"full/{shown_as(name)}", left_format="vmdk")
    assert json.loads((shown / ".vdifs/status.json").read_text())["problems"] == []
    told = json.loads((shown / ".vdifs/info/vm-000001.vmdk.json").read_text())
    assert (told["format"], told["virtual-size"]) == ("vmdk", SIZE)


def test_broken_ones_are_refused_and_all_others_are_served(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    describe(source, "orphan.vmdk", "d", "RW 1 ZERO", "e", "gone.vmdk")
    describe(source, "rdm.vmdk", "d", f'RW {SECTORS} VMFSRDM "vm-flat.vmdk"')
    describe(source, "outside.vmdk", "d", 'RW 1 FLAT "/etc/passwd" 0')
    describe(source, "short.vmdk", "d", f'RW {SECTORS + 1} FLAT "vm-flat.vmdk" 0')
    (source / "cut.vmdk").write_bytes((source / "packed.vmdk").read_bytes()[:-SECTOR])
    shown = mounts(source)
    shown.allow_log("")
    is_refused.prove(shown, "orphan.vmdk", "gone.vmdk")
    is_refused.prove(shown, "rdm.vmdk", "raw device mapping")
    is_refused.prove(shown, "outside.vmdk", "not beneath a trusted directory")
    assert is_refused(shown / "raw/short.vmdk.raw")
    assert is_refused(shown / "raw/cut.vmdk.raw")
    for name, disk in disks.items():
        assert (shown / f"raw/{name}.raw").read_bytes() == disk


def moved_on(source: Path) -> None:
    describe(source, CHAIN[0], "aa", f'RW {SECTORS} VMFS "vm-flat.vmdk"')


def removed(source: Path) -> None:
    (source / CHAIN[0]).unlink()


def without_its_extent(source: Path) -> None:
    (source / "vm-flat.vmdk").unlink()


@pytest.mark.parametrize("change", [moved_on, removed, without_its_extent])
def test_a_child_whose_parent_is_not_as_it_was_is_refused(
    mounts: Mounts, source: Path, disks: dict[str, bytes], change: Callable[[Path], None]
) -> None:
    shown = mounts(source)
    shown.allow_log("")
    child = shown / f"raw/{CHAIN[1]}.raw"
    assert child.read_bytes() == disks[CHAIN[1]]
    kept = {name: (source / name).read_bytes() for name in (CHAIN[0], "vm-flat.vmdk")}
    change(source)
    is_refused.prove(shown, CHAIN[1], "vm")
    assert (shown / "raw/packed.vmdk.raw").read_bytes() == disks["packed.vmdk"]
    for name, content in kept.items():
        (source / name).write_bytes(content)
    eventually(lambda: not is_refused(child), SOON_S)
    assert child.read_bytes() == disks[CHAIN[1]]
