"""Chains of VHDs, mounted beside a qcow2 and broken ones: as 7-Zip reads them, in every view, or refused by name."""

import errno
import json
import random
from pathlib import Path
from uuid import UUID

import pytest

from tests.mount.foreign import Refused, prove_delta, prove_full_and_raw
from tests.mount.mounting import SOON_S, Mounts, eventually
from tests.support import oracle, vhd
from tests.support.seven_zip import by_7zip
from tests.support.vhd import Vhd
from tests.support.written_disks import Write, writes, written

KIB, MIB = 1 << 10, 1 << 20
SIZE = 6 * MIB
NAMES = ("base.vhd", "snapshots/one.avhd", "snapshots/two.avhd")
PARENTS = ("", "..\\base.vhd", ".\\one.avhd")
is_refused = Refused(errno.EIO, errno.EACCES, errno.ESTALE)


def image(level: int, wrote: list[Write], parent: str = "") -> Vhd:
    made = Vhd(SIZE, 512 * KIB, UUID(int=level) if level else None, UUID(int=level + 1))
    if parent:
        made.locators, made.name = [(b"W2ru", parent.encode("utf-16-le"))], "C:\\vms\\" + parent.rpartition("\\")[2]
    for each in wrote:
        made.put(each.offset, each.data)
    return made


@pytest.fixture
def source(mounts: Mounts) -> Path:
    source = mounts.scratch / "src"
    (source / "snapshots").mkdir(parents=True)
    return source


@pytest.fixture
def disks(source: Path) -> dict[str, bytes]:
    """A chain in two folders as Hyper-V has it, a fixed image, and a qcow2 on the base: the disk of each."""
    rng, below, found = random.Random(7), b"", dict[str, bytes]()
    for level, (name, parent) in enumerate(zip(NAMES, PARENTS, strict=True)):
        wrote = writes(rng, SIZE, most=12)
        below = found[name] = written(below, SIZE, wrote)
        image(level, wrote, parent).write(source / name)
    (source / "fixed.vhd").write_bytes(vhd.fixed(found["base.vhd"], uuid=UUID(int=99).bytes))
    found["fixed.vhd"] = found["base.vhd"]
    oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", "base.vhd", "-F", "vpc", source / "top.qcow2", str(SIZE))
    oracle.qemu_io(source / "top.qcow2", ["write -P 9 1M 64k"])
    found["top.qcow2"] = written(found["base.vhd"], SIZE, [Write(MIB, b"\x09" * (64 * KIB))])
    return found


def test_they_are_the_same_disks_in_every_view(
    mounts: Mounts, source: Path, disks: dict[str, bytes], tmp_path: Path
) -> None:
    shown = mounts(source)
    for name, disk in disks.items():
        prove_full_and_raw(shown, name, disk, tmp_path)
    assert by_7zip(source / "base.vhd", "vhd") == disks["base.vhd"]
    for name in (*NAMES[1:], "top.qcow2"):
        prove_delta(shown, "base.vhd", name, disks[name], tmp_path)
    prove_delta(shown, NAMES[1], NAMES[2], disks[NAMES[2]], tmp_path)
    assert json.loads((shown / ".vdifs/status.json").read_text())["problems"] == []
    told = json.loads((shown / ".vdifs/info/snapshots/two.avhd.json").read_text())
    assert (told["format"], told["virtual-size"]) == ("vpc", SIZE)


def test_a_child_without_its_parent_is_refused_and_all_others_are_served(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    image(5, [], ".\\gone.vhd").write(source / "orphan.vhd")
    foot = bytearray((source / "fixed.vhd").read_bytes())
    foot[-100] ^= 1
    (source / "broken.vhd").write_bytes(foot)
    shown = mounts(source)
    shown.allow_log("")
    is_refused.prove(shown, "orphan.vhd", "gone.vhd")
    is_refused.prove(shown, "broken.vhd", "checksum")
    for name, disk in disks.items():
        assert (shown / f"raw/{name}.raw").read_bytes() == disk


def test_another_image_in_the_place_of_the_parent_is_none(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    shown = mounts(source)
    shown.allow_log("")
    child = shown / "raw/snapshots/one.avhd.raw"
    assert child.read_bytes() == disks[NAMES[1]]
    (source / "base.vhd").rename(mounts.scratch / "kept")
    other = image(0, [Write(0, b"\xee" * 512)])
    other.uuid = UUID(int=77)
    other.write(source / "base.vhd")
    is_refused.prove(shown, "snapshots/one.avhd", "base.vhd")
    is_refused.prove(shown, "snapshots/two.avhd", "base.vhd")
    (mounts.scratch / "kept").replace(source / "base.vhd")
    eventually(lambda: not is_refused(child), SOON_S)
    assert child.read_bytes() == disks[NAMES[1]]
