"""Chains of VDIs as VirtualBox keeps them, mounted: the same disks in every view, or refused by name."""

import errno
import json
import random
from pathlib import Path
from uuid import UUID

import pytest

from tests.mount.foreign import Refused, prove_delta, prove_full_and_raw
from tests.mount.mounting import SOON_S, Mounts, eventually
from tests.support import oracle
from tests.support.vdi import Name, Vdi, name
from tests.support.written_disks import Write, writes, written

KIB, MIB = 1 << 10, 1 << 20
SIZE = 6 * MIB
BASE, OTHER = "base.vdi", "other.vdi"
is_refused = Refused(errno.EIO, errno.ELOOP, errno.ESTALE)


def called(number: int) -> str:
    return f"Snapshots/{{{name(number).uuid}}}.vdi"


ONE, TWO = called(2), called(3)


def image(number: int, disk: bytes, wrote: list[Write], parent: Name | None = None, size: int = SIZE) -> Vdi:
    made = Vdi(size, MIB if number == 1 else 512 * KIB, parent, name(number))
    for each in wrote:
        made.put(each.offset, each.data, disk)
    return made


@pytest.fixture
def source(mounts: Mounts) -> Path:
    source = mounts.scratch / "src"
    (source / "Snapshots").mkdir(parents=True)
    return source


@pytest.fixture
def disks(source: Path) -> dict[str, bytes]:
    """A base, its children in a folder of their own, a static image, and a qcow2 on the base: the disk of each."""
    rng, below, found = random.Random(7), b"", dict[str, bytes]()
    for number, path in enumerate((BASE, ONE, TWO), 1):
        wrote = writes(rng, SIZE, most=5)
        made = image(number, below, wrote, name(number - 1) if number > 1 else None)
        below = written(below, SIZE, wrote)
        if number == 3:
            made.zero = {4}
            made.blocks.pop(4, None)
            below = written(below, SIZE, [Write(2 * MIB, bytes(512 * KIB))])
        made.write(source / path)
        found[path] = below
    static = image(1, b"", [Write(0, found[BASE])])
    static.static, static.name, static.extra = True, name(99), 512
    static.write(source / OTHER)
    found[OTHER] = found[BASE]
    oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", BASE, "-F", "vdi", source / "top.qcow2", str(SIZE))
    oracle.qemu_io(source / "top.qcow2", ["write -P 9 1M 64k"])
    found["top.qcow2"] = written(found[BASE], SIZE, [Write(MIB, b"\x09" * (64 * KIB))])
    return found


def test_they_are_the_same_disks_in_every_view(
    mounts: Mounts, source: Path, disks: dict[str, bytes], tmp_path: Path
) -> None:
    shown = mounts(source)
    for path, disk in disks.items():
        prove_full_and_raw(shown, path, disk, tmp_path)
    assert oracle.materialize(source / BASE, tmp_path / "disk.raw", format="vdi").read_bytes() == disks[BASE]
    oracle.compare(source / "top.qcow2", shown / "full/top.qcow2")
    for path in (ONE, TWO, "top.qcow2"):
        prove_delta(shown, BASE, path, disks[path], tmp_path)
    prove_delta(shown, ONE, TWO, disks[TWO], tmp_path)
    assert json.loads((shown / ".vdifs/status.json").read_text())["problems"] == []
    told = json.loads((shown / f".vdifs/info/{TWO}.json").read_text())
    assert (told["format"], told["virtual-size"]) == ("vdi", SIZE)


def test_a_child_without_its_parent_is_refused_and_all_others_are_served(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    Vdi(SIZE, parent=name(50), name=name(5)).write(source / "orphan.vdi")
    Vdi(SIZE, parent=name(6), name=name(6)).write(source / "own-parent.vdi")
    Vdi(SIZE, entries={2: 0}, blocks={0: b"\1" * MIB}, name=name(8)).write(source / "broken.vdi")
    shown = mounts(source)
    shown.allow_log("")
    is_refused.prove(shown, "orphan.vdi", str(name(50).uuid), told_within=SOON_S)
    is_refused.prove(shown, "own-parent.vdi", "it is in its own chain", told_within=SOON_S)
    is_refused.prove(shown, "broken.vdi", "lie at the same place", told_within=SOON_S)
    for path, disk in disks.items():
        assert (shown / f"raw/{path}.raw").read_bytes() == disk


@pytest.mark.parametrize("other", [Name(UUID(int=77), name(1).modification), Name(name(1).uuid, UUID(int=78))])
def test_another_image_or_another_state_in_the_place_of_the_parent_is_none(
    mounts: Mounts, source: Path, disks: dict[str, bytes], other: Name
) -> None:
    shown = mounts(source)
    shown.allow_log("")
    child = shown / f"raw/{ONE}.raw"
    assert child.read_bytes() == disks[ONE]
    (source / BASE).rename(mounts.scratch / "kept")
    replaced = image(1, b"", [Write(0, b"\xee" * 512)])
    replaced.name = other
    replaced.write(source / BASE)
    is_refused.prove(shown, ONE, str(name(1).uuid), told_within=SOON_S)
    is_refused.prove(shown, TWO, str(name(1).uuid), told_within=SOON_S)
    (mounts.scratch / "kept").replace(source / "elsewhere.vdi")  # by whatever name
    eventually(lambda: not is_refused(child), SOON_S)
    assert child.read_bytes() == disks[ONE]


def test_of_two_images_with_the_uuid_only_the_one_in_the_state_that_was_told_is_the_parent(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    """As where a copy of the base was written to, nearer to the child than the base."""
    copied = image(1, b"", [Write(0, b"\xee" * SIZE)])
    copied.name = Name(name(1).uuid, UUID(int=78))
    copied.write(source / "Snapshots/a.vdi")
    shown = mounts(source)
    for path, disk in disks.items():
        assert (shown / f"raw/{path}.raw").read_bytes() == disk
