"""Children of VHDXs, opened as their users open them: over the parent whose data they were made for, or not at all."""

import errno
import random
import re
import shutil
from pathlib import Path
from uuid import UUID

import pytest

import vdifs
from tests.catalog.test_catalog import scanned
from tests.support import oracle
from tests.support.agreement import contents, refused
from tests.support.hand_made_chain import read
from tests.support.units import MIB
from tests.support.vhdx import BAT_AT, PAGE, Draft, LogEntry, linked
from vdifs.errors import ChainError
from vdifs.formats.vhdx.format import VHDX

SIZE = 4 * MIB
BELOW = random.Random(1).randbytes(SIZE)
WHOLE = BELOW[:MIB] + b"c" * 512 + BELOW[MIB + 512 :]


def base(number: int = 1, sector: int = 512) -> Draft:
    made = Draft(SIZE, sector=sector, number=number)
    made.write(0, BELOW)
    return made


def child(guid: UUID, name: str, **more: str) -> Draft:
    made = Draft(SIZE, 2 * MIB, parent=linked(guid, name) | more, number=2)
    made.write(MIB, b"c" * 512)
    return made


def data_guid(path: Path) -> UUID:
    with read(VHDX, path) as (_, metadata):
        (identity,) = metadata.identities
        return UUID(identity)


def refuse(path: Path, tried: str) -> None:
    """Expect that an image is refused, and that it and what was tried are named: in each view."""
    for view in ("raw", "qcow2"):
        with (
            refused(ChainError, errno.EIO, rf"{re.escape(str(path))}: its parent .* with the identity .*{tried}"),
            vdifs.open(path, view=view),
        ):
            pass


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("b.vhdx", "b.vhdx"),
        ("..\\vms\\b.vhdx", "b.vhdx"),
        ("disks\\b.vhdx", "disks/b.vhdx"),
        ("C:\\Users\\Public\\b.vhdx", "b.vhdx"),
        ("gone\\b.vhdx", "b.vhdx"),
        ("B.VHDX", "b.vhdx"),
    ],
)
def test_the_parent_is_where_a_name_leads(tmp_path: Path, name: str, place: str) -> None:
    path = tmp_path / "vms" / place
    path.parent.mkdir(parents=True)
    made = base()
    made.save(path)
    top = child(made.guid, name)
    assert contents(top.save(tmp_path / "vms/c.avhdx"), trusted=[tmp_path]) == WHOLE


def test_of_two_names_the_one_counts_that_leads_to_the_data(tmp_path: Path) -> None:
    base(number=7).save(tmp_path / "b.vhdx")
    made = base()
    made.save(tmp_path / "moved.vhdx")
    top = child(made.guid, "b.vhdx", absolute_win32_path="D:\\moved.vhdx").save(tmp_path / "c.avhdx")
    assert contents(top) == WHOLE


def test_a_parent_that_is_missing_or_another_is_refused_by_name(tmp_path: Path) -> None:
    top = child(base().guid, "b.vhdx").save(tmp_path / "c.avhdx")
    refuse(top, r"tried b\.vhdx \(it is not there\)")
    base(number=7).save(tmp_path / "b.vhdx")
    refuse(top, r"tried b\.vhdx \(it has another identity\)")
    (tmp_path / "b.vhdx").write_bytes(bytes(SIZE))
    refuse(top, r"tried b\.vhdx \(it has another identity\)")
    broken = base()
    broken.heads[0].signature = broken.heads[1].signature = b"daeh"
    broken.save(tmp_path / "b.vhdx")
    refuse(top, r"tried b\.vhdx \(neither of its two headers is intact\)")
    base().save(tmp_path / "b.vhdx")
    assert contents(top) == WHOLE


def test_a_parent_with_sectors_of_another_size_is_refused(tmp_path: Path) -> None:
    top = child(base().guid, "b.vhdx").save(tmp_path / "c.avhdx")
    base(sector=4096).save(tmp_path / "b.vhdx")
    refuse(top, r"tried b\.vhdx \(its sectors have 4096 bytes, those of the image above it 512 bytes\)")
    other = Draft(SIZE, sector=4096, parent=linked(base().guid, "b.vhdx"), number=2).save(tmp_path / "d.avhdx")
    assert contents(other) == BELOW
    base().save(tmp_path / "b.vhdx")
    said = r"\(its sectors have 512 bytes, those of the image above it 4096 bytes\)"
    refuse(other, rf"with sectors of 4096 bytes is not found: tried b\.vhdx {said}")
    with scanned(tmp_path) as catalog, pytest.raises(ChainError, match=said):
        catalog.chain("d.avhdx")


def test_a_parent_that_was_written_to_or_resized_is_refused(tmp_path: Path) -> None:
    """What changes a disk, or its size, gives it another identity."""
    below = tmp_path / "b.vhdx"
    oracle.qemu_img("create", "-q", "-f", "vhdx", below, str(SIZE))
    oracle.qemu_io(below, ["write -P 5 0 4M"], format="vhdx")
    guid = data_guid(below)
    top = child(guid, "b.vhdx").save(tmp_path / "c.avhdx")
    assert contents(top) == b"\5" * MIB + b"c" * 512 + b"\5" * (3 * MIB - 512)
    oracle.qemu_io(below, ["write -P 6 0 512"], format="vhdx")
    refuse(top, r"tried b\.vhdx \(it has another identity\)")
    for size in (SIZE - MIB, SIZE + MIB):
        Draft(size, number=7).save(below)
        refuse(top, r"tried b\.vhdx \(it has another identity\)")


def test_a_parent_is_known_by_either_linkage(tmp_path: Path) -> None:
    made = base()
    made.save(tmp_path / "b.vhdx")
    top = child(UUID(int=77), "b.vhdx", parent_linkage2=f"{{{str(made.guid).upper()}}}").save(tmp_path / "c.avhdx")
    assert contents(top) == WHOLE


def test_the_log_of_a_parent_is_replayed_too(tmp_path: Path) -> None:
    made = base()
    made.bat()
    page = b"".join(made.bat().get(index, 0).to_bytes(8, "little") for index in range(PAGE // 8))
    made.dirty((0, LogEntry(3, 0, [(BAT_AT, page)]).packed()))
    made.patches.append((BAT_AT, bytes(PAGE)))
    made.save(tmp_path / "b.vhdx")
    assert contents(child(made.guid, "b.vhdx").save(tmp_path / "c.avhdx")) == WHOLE


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "C:\\etc\\passwd", "\\\\server\\share\\secret", "..\\..\\secret", "file:///etc/passwd"]
)
def test_a_name_that_leads_out_of_the_source_opens_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "vms").mkdir()
    base().save(tmp_path / "secret")
    top = child(base().guid, "b.vhdx")
    top.item(top.items[-1].guid).data = child(base().guid, name).items[-1].data
    refuse(top.save(tmp_path / "vms/c.avhdx"), r"is not found: tried ")


def test_one_that_is_its_own_parent_is_refused(tmp_path: Path) -> None:
    made = child(UUID(int=2 << 64 | 0xDA7A), "c.avhdx")
    assert made.guid == UUID(int=2 << 64 | 0xDA7A)
    with refused(ChainError, errno.ELOOP, "it is in its own chain"):
        contents(made.save(tmp_path / "c.avhdx"))


def test_it_is_the_backing_file_of_a_qcow2_by_the_name_that_qemu_has_for_it(tmp_path: Path) -> None:
    made = base()
    below = made.save(tmp_path / "b.vhdx")
    child(made.guid, "b.vhdx").save(tmp_path / "c.avhdx")
    for name, disk in (("b.vhdx", BELOW), ("c.avhdx", WHOLE)):
        oracle.qemu_img(
            "create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "vhdx", tmp_path / "top.qcow2", str(SIZE + MIB)
        )
        assert contents(tmp_path / "top.qcow2") == disk + bytes(MIB)
    shutil.copy(below, tmp_path / "c.avhdx")
    assert contents(tmp_path / "top.qcow2") == BELOW + bytes(MIB), "QEMU knows its backing files by name alone"
