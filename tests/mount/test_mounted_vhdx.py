"""Chains of VHDXs, mounted beside a qcow2 and broken ones: the same disks in every view, or refused by name."""

import errno
import json
import random
import shutil
from pathlib import Path
from uuid import UUID

import pytest

from tests.mount.foreign import Refused, prove_delta, prove_full_and_raw
from tests.mount.mounting import SOON_S, Mounts, eventually
from tests.support import oracle
from tests.support.seven_zip import by_7zip
from tests.support.units import KIB, MIB
from tests.support.vhdx import BAT_AT, PAGE, Draft, LogEntry, linked
from tests.support.vhdx_readers import by_qemu
from tests.support.written_disks import Write, writes, written

SIZE = 6 * MIB
NAMES = ("base.vhdx", "snapshots/one.avhdx", "snapshots/two.avhdx")
PARENTS = ("", "..\\base.vhdx", "one.avhdx")
is_refused = Refused(errno.EIO, errno.EACCES, errno.ESTALE)


def image(level: int, wrote: list[Write], parent: str = "", below: UUID | None = None) -> Draft:
    said = None if below is None else linked(below, parent) | {"absolute_win32_path": f"C:\\vms\\{parent}"}
    made = Draft(SIZE, (2 if level else 4) * MIB, parent=said, number=level + 1)
    for each in wrote:
        made.write(each.offset, each.data)
    return made


def unclean(disk: bytes) -> Draft:
    """Return an image whose log has the first page of its BAT, which the file lacks."""
    made = Draft(SIZE)
    made.write(0, disk)
    made.bat()
    page = b"".join(made.bat().get(index, 0).to_bytes(8, "little") for index in range(SIZE // MIB)).ljust(PAGE, b"\0")
    made.dirty((0, LogEntry(3, 0, [(BAT_AT, page)]).packed()))
    made.patches.append((BAT_AT, bytes(PAGE)))
    return made


@pytest.fixture
def source(mounts: Mounts) -> Path:
    source = mounts.scratch / "src"
    (source / "snapshots").mkdir(parents=True)
    return source


@pytest.fixture
def disks(source: Path) -> dict[str, bytes]:
    """A chain in two folders as Hyper-V has it, an unclean image, and a qcow2 on the base: the disk of each."""
    rng, disk, below, found = random.Random(7), b"", None, dict[str, bytes]()
    for level, (name, parent) in enumerate(zip(NAMES, PARENTS, strict=True)):
        wrote = writes(rng, SIZE, most=12)
        disk = found[name] = written(disk, SIZE, wrote)
        made = image(level, wrote, parent, below)
        below = made.guid
        made.save(source / name)
    found["unclean.vhdx"] = found["base.vhdx"]
    unclean(found["base.vhdx"]).save(source / "unclean.vhdx")
    oracle.qemu_img("create", "-q", "-f", "qcow2", "-b", "base.vhdx", "-F", "vhdx", source / "top.qcow2", str(SIZE))
    oracle.qemu_io(source / "top.qcow2", ["write -P 9 1M 64k"])
    found["top.qcow2"] = written(found["base.vhdx"], SIZE, [Write(MIB, b"\x09" * (64 * KIB))])
    return found


def test_they_are_the_same_disks_in_every_view(
    mounts: Mounts, source: Path, disks: dict[str, bytes], tmp_path: Path
) -> None:
    before = (source / "unclean.vhdx").read_bytes()
    shown = mounts(source)
    for name, disk in disks.items():
        prove_full_and_raw(shown, name, disk, tmp_path)
    for name in (*NAMES[1:], "top.qcow2"):
        prove_delta(shown, "base.vhdx", name, disks[name], tmp_path)
    prove_delta(shown, NAMES[1], NAMES[2], disks[NAMES[2]], tmp_path)
    told = json.loads((shown / ".vdifs/info/snapshots/two.avhdx.json").read_text())
    assert (told["format"], told["virtual-size"]) == ("vhdx", SIZE)
    assert (source / "unclean.vhdx").read_bytes() == before


def test_they_are_the_disks_that_others_read(source: Path, disks: dict[str, bytes], tmp_path: Path) -> None:
    assert by_7zip(source / "base.vhdx", "vhdx") == disks["base.vhdx"]
    copy = Path(shutil.copy(source / "unclean.vhdx", tmp_path))
    oracle.qemu_img("check", "-q", "-r", "all", "-f", "vhdx", copy)
    assert by_qemu(copy) == disks["unclean.vhdx"]


def test_what_cannot_be_read_right_is_refused_by_name_and_all_others_are_served(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    image(5, [], "gone.vhdx", UUID(int=77)).save(source / "orphan.vhdx")
    torn = unclean(disks["base.vhdx"])
    torn.log = [(0, torn.log[0][1][:-8] + bytes(8))]
    torn.save(source / "torn.vhdx")
    sectors = Draft(SIZE, sector=4096, parent=linked(image(0, []).guid, "base.vhdx"), number=9)
    sectors.save(source / "sectors.vhdx")
    shown = mounts(source)
    shown.allow_log("")
    is_refused.prove(shown, "orphan.vhdx", "gone.vhdx")
    is_refused.prove(shown, "torn.vhdx", "its log is to be replayed, and has no entries that can be")
    is_refused.prove(shown, "sectors.vhdx", "with sectors of 4096 bytes is not found")
    for name, disk in disks.items():
        assert (shown / f"raw/{name}.raw").read_bytes() == disk


def test_another_image_in_the_place_of_the_parent_is_none(
    mounts: Mounts, source: Path, disks: dict[str, bytes]
) -> None:
    shown = mounts(source)
    shown.allow_log("")
    child = shown / "raw/snapshots/one.avhdx.raw"
    assert child.read_bytes() == disks[NAMES[1]]
    (source / "base.vhdx").rename(mounts.scratch / "kept")
    other = image(0, [Write(0, b"\xee" * 512)])
    for head in other.heads:
        head.data_guid = UUID(int=77)
    other.save(source / "base.vhdx")
    is_refused.prove(shown, "snapshots/one.avhdx", "base.vhdx")
    is_refused.prove(shown, "snapshots/two.avhdx", "base.vhdx")
    (mounts.scratch / "kept").replace(source / "base.vhdx")
    eventually(lambda: not is_refused(child), SOON_S)
    assert child.read_bytes() == disks[NAMES[1]]
