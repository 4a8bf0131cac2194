"""Each rule of docs/formats.md, VHD: a file that breaks it, and the error that it gives; or what is ignored."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import vhd
from tests.support.agreement import format_error, unsupported
from tests.support.hand_made_chain import chain_of, disk_of, opened, read
from tests.support.vhd import SECTOR, Vhd
from vdifs.errors import FormatError
from vdifs.extents import Kind, MapKind
from vdifs.formats.image_format import Front
from vdifs.formats.vhd.format import VHD

MIB = 1 << 20
PARENT = UUID(int=0xABCDEF)
SECTOR_OF_ONES = b"\1" * SECTOR


def image(**more: object) -> Vhd:
    """Return a disk of 9 MiB with data in two of its blocks."""
    made = Vhd(9 * MIB, **more)  # type: ignore[arg-type] # passed on
    made.put(SECTOR, SECTOR_OF_ONES)
    made.put(5 * MIB, b"\2" * SECTOR)
    return made


def image_bytes(**more: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return image(**more).write(Path(folder) / "x").read_bytes()


def footer(**fields: object) -> Vhd:
    return image(footer_fields=fields)


def header(**fields: object) -> Vhd:
    return image(header_fields=fields)


def open_it(path: Path) -> bytes:
    return disk_of(VHD, path)


BROKEN_FOOTERS: list[tuple[str, Vhd, str]] = [
    ("checksum", footer(checksum=7), r"x\.vhd: the checksum of its footer is 0x00000007, expected 0x"),
    ("type 0", footer(disk_type=0), r"its disk type is 0, expected 2 .*3 .*or 4"),
    ("type 5", footer(disk_type=5), r"its disk type is 5"),
    ("no size", footer(current_size=511), r"its disk has 511 bytes, expected 512 bytes to 2,040 GiB"),
    ("too large", footer(current_size=(2040 << 30) + 512), r"expected 512 bytes to 2,040 GiB"),
    ("no geometry", footer(creator=b"vpc ", cylinders=0), r"its disk has 9437184 bytes, expected"),
    ("header unaligned", footer(header_offset=513), r"its header would be at 0x201, expected a multiple of 512"),
    ("header behind the end", footer(header_offset=1 << 40), r"its header would be at 0x10000000000"),
    ("no header", footer(header_offset=1536), r"its header does not begin with 'cxsparse'"),
    ("header's checksum", header(checksum=9), r"the checksum of its header is 0x00000009, expected 0x"),
    ("table unaligned", header(bat_offset=1540), r"its block allocation table is at 0x604, no multiple of 512"),
    ("table beyond", header(bat_offset=1 << 30), r"its block allocation table ends at 0x40000014, beyond the end"),
    ("table on header", header(bat_offset=1024), r"its header and its block allocation table overlap"),
    ("table too long", header(bat_entries=(16 << 20) + 1), r"has 16777217 entries, expected at most 16777216"),
    ("too few blocks", header(bat_entries=4), r"its 4 blocks of 2097152 bytes are too few for a disk of 9437184"),
    ("block size 3 MiB", header(block_size=3 * MIB), r"its blocks have 3145728 bytes, expected a power of two"),
    ("block size 2 KiB", header(block_size=2048), r"its blocks have 2048 bytes"),
    ("block size 0", header(block_size=0), r"its blocks have 0 bytes"),
    ("block size 512 MiB", header(block_size=512 * MIB), r"its blocks have 536870912 bytes"),
    ("same block twice", image(bat={2: 5}), r"its blocks 0 and 2 overlap at 0xa00"),
    ("half a block", image(bat={0: 6}), r"overlap at 0x"),
    ("on the copy", image(bat={0: 0}), r"its block 0 at 0x0 overlaps the copy of its footer"),
    ("on the header", image(bat={0: 2}), r"its block 0 at 0x400 overlaps its header"),
    ("on the table", image(bat={0: 3}), r"its block 0 at 0x600 overlaps its block allocation table"),
    ("beyond the end", image(bat={0: 1 << 20}), r"block 0 at 0x20000000 would end at 0x.*\.v01.*cut short"),
    ("on the footer", image(bat={0: 4103}), r"block 0 at 0x200e00 would end at 0x401000, where all end at 0x400c00"),
    (
        "more in use than fit",
        image(bat={0: 5, 2: 5, 3: 5}),
        r"more entries in use than blocks fit into the file; .*\.v01",
    ),
    ("no parent", image(parent=UUID(int=0)), r"it is a differencing image, and the UUID of its parent is all zeros"),
]


@pytest.mark.parametrize(("made", "match"), [each[1:] for each in BROKEN_FOOTERS], ids=[e[0] for e in BROKEN_FOOTERS])
def test_a_broken_rule_is_refused_by_name(tmp_path: Path, made: Vhd, match: str) -> None:
    path = made.write(tmp_path / "x.vhd")
    with format_error(match):
        open_it(path)


def test_a_block_that_reaches_into_the_table_is_refused(tmp_path: Path) -> None:
    """As where a program has written the table behind the blocks."""
    made = image()
    made.header_fields = {"bat_offset": made.places()[0] + 4096}
    path = made.write(tmp_path / "x.vhd")
    with path.open("r+b") as file:
        file.seek(made.places()[0] + 4096)
        file.write(made.table(made.places()))
    with format_error(r"its block 0 at 0x800 overlaps its block allocation table"):
        open_it(path)


NOT_READ: list[tuple[str, Vhd, str]] = [
    ("poisoned", footer(cookie=b"v_poison"), r"x\.vhd: its footer begins with 'v_poison': work of XenServer's"),
    ("footer version", footer(version=0x20000), r"its footer has the version 2\.0: only 1\.x is read"),
    ("header version", header(version=0x10001), r"its header has the version 1\.1: only 1\.0 is read"),
    ("encrypted", image(batmap=vhd.batmap_header(encrypted=1)), r"its blocks are encrypted, says the batmap"),
]


@pytest.mark.parametrize(("made", "match"), [each[1:] for each in NOT_READ], ids=[each[0] for each in NOT_READ])
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, made: Vhd, match: str) -> None:
    path = made.write(tmp_path / "x.vhd")
    with unsupported(match):
        open_it(path)


def test_a_copy_that_is_poisoned_refuses_the_image_whatever_its_end_says(tmp_path: Path) -> None:
    path = image().write(tmp_path / "x.vhd")
    with path.open("r+b") as file:
        file.write(b"v_poison")
    with unsupported("v_poison"):
        open_it(path)


def wanted() -> bytes:
    disk = bytearray(9 * MIB)
    disk[SECTOR : 2 * SECTOR], disk[5 * MIB : 5 * MIB + SECTOR] = SECTOR_OF_ONES, b"\2" * SECTOR
    return bytes(disk)


IGNORED: list[tuple[str, Vhd]] = [
    ("nothing", image()),
    ("features", footer(features=0xFFFFFFFF)),
    ("minor version", footer(version=0x10007)),
    ("creator", footer(creator=b"\xff\0\1x", creator_os=bytes(4))),
    ("original size", footer(original_size=1)),
    ("part of a sector", footer(current_size=9 * MIB + 511)),
    ("saved state", footer(saved_state=1)),
    ("zero UUID", footer(uuid=bytes(16))),
    ("next structure", header(next_offset=5)),
    ("reserved", header(reserved=5)),
    ("more blocks", image(blocks_more=3)),
    ("entries behind the disk", image(blocks_more=3, bat={5: 0, 6: 1 << 30, 7: 3})),
    ("a parent without being a child", header(parent_uuid=PARENT.bytes, name="p".encode("utf-16-be"))),
    ("batmap", image(batmap=vhd.batmap_header())),
    ("aligned", image(align=4096)),
    ("order", image(order=[2, 0])),
    ("511 bytes", image(footer_length=511)),
    ("no footer at the end", image(end=False)),
    ("no copy", image(copy=False)),
]


@pytest.mark.parametrize("made", [each[1] for each in IGNORED], ids=[each[0] for each in IGNORED])
def test_what_means_nothing_changes_nothing(tmp_path: Path, made: Vhd) -> None:
    assert open_it(made.write(tmp_path / "x.vhd")) == wanted()


@pytest.mark.parametrize("version", [0x1, 0x10001])
def test_tapdisk_may_have_marked_an_image_hidden_without_a_new_checksum(tmp_path: Path, version: int) -> None:
    signed = footer(creator=b"tap\0", creator_version=version).footer()
    path = footer(creator=b"tap\0", creator_version=version, hidden=1, checksum=int.from_bytes(signed[64:68], "big"))
    with read(VHD, path.write(tmp_path / "x.vhd")) as (_, metadata):
        assert metadata.hidden
    other = footer(
        creator_version=version,
        hidden=1,
        checksum=int.from_bytes(footer(creator_version=version).footer()[64:68], "big"),
    )
    with format_error("the checksum of its footer"), read(VHD, other.write(tmp_path / "x.vhd")):
        pass


def test_the_hidden_flag_is_told(tmp_path: Path) -> None:
    for flag in (0, 1):
        with read(VHD, footer(creator=b"tap\0", hidden=flag).write(tmp_path / "x.vhd")) as (_, metadata):
            assert metadata.hidden == bool(flag)


CHS = {"cylinders": 100, "heads": 4, "sectors": 17}
CHS_BYTES = 100 * 4 * 17 * SECTOR


@pytest.mark.parametrize("creator", [b"vpc ", b"vs  ", b"qemu"])
def test_some_creators_size_the_disk_by_its_geometry(tmp_path: Path, creator: bytes) -> None:
    path = footer(creator=creator, **CHS).write(tmp_path / "x.vhd")
    assert open_it(path) == wanted()[:CHS_BYTES]


@pytest.mark.parametrize(
    "creator", [b"win ", b"qem2", b"d2v ", b"d2v\0", b"CTXS", b"tap\0", b"Py  ", b"vbox", b"\0\0\0\0"]
)
def test_all_others_size_it_by_the_current_size(tmp_path: Path, creator: bytes) -> None:
    assert open_it(footer(creator=creator, **CHS).write(tmp_path / "x.vhd")) == wanted()


def test_the_greatest_geometry_says_nothing(tmp_path: Path) -> None:
    geometry = {"cylinders": 65535, "heads": 16, "sectors": 255}
    assert open_it(footer(creator=b"vpc ", **geometry).write(tmp_path / "x.vhd")) == wanted()


def test_below_a_child_the_current_size_counts(tmp_path: Path) -> None:
    """A child sees 9 MiB of its parent, which by its geometry is shorter."""
    parent = image(footer_fields={"creator": b"vpc ", **CHS}).write(tmp_path / "p.vhd")
    child = Vhd(10 * MIB, parent=UUID(int=1), uuid=UUID(int=2)).write(tmp_path / "c.vhd")
    assert disk_of(VHD, child, parent) == wanted() + bytes(MIB)
    assert open_it(parent) == wanted()[:CHS_BYTES]
    fixed = tmp_path / "f.vhd"
    fixed.write_bytes(vhd.fixed(wanted(), creator=b"vpc ", **CHS))
    assert open_it(fixed) == wanted()[:CHS_BYTES]
    assert disk_of(VHD, child, fixed) == wanted() + bytes(MIB)


def test_a_shorter_parent_reads_as_zeros_behind_its_end_and_hides_those_below(tmp_path: Path) -> None:
    base = Vhd(9 * MIB)
    base.put(0, b"\3" * 9 * MIB)
    paths = [
        Vhd(9 * MIB, parent=UUID(int=2), uuid=UUID(int=3)).write(tmp_path / "c.vhd"),
        Vhd(4 * MIB, parent=UUID(int=1), uuid=UUID(int=2), block_size=4096).write(tmp_path / "b.vhd"),
        base.write(tmp_path / "a.vhd"),
    ]
    assert disk_of(VHD, *paths) == b"\3" * 4 * MIB + bytes(5 * MIB)


def test_data_under_a_clear_bit_are_zeros_in_a_base_and_the_parents_in_a_child(tmp_path: Path) -> None:
    base = Vhd(2 * MIB)
    base.put(0, b"\3" * 2 * MIB)
    below = base.write(tmp_path / "a.vhd")
    for parent, behind in ((None, bytes(SECTOR)), (UUID(int=1), b"\3" * SECTOR)):
        made = Vhd(2 * MIB, parent=parent, uuid=UUID(int=2))
        made.put(0, b"\4" * 3 * SECTOR)
        path = made.write(tmp_path / "b.vhd")
        with path.open("r+b") as file:
            file.seek(made.places()[0])
            file.write(b"\xa0")  # the first and the third sector
        disk = disk_of(VHD, path, below) if parent else open_it(path)
        assert disk[: 4 * SECTOR] == b"\4" * SECTOR + behind + b"\4" * SECTOR + behind


def test_the_place_that_a_real_windows_child_has_for_a_sector(tmp_path: Path) -> None:
    """Guest sector 134 at BAT entry 159: docs/formats.md, VHD."""
    made = Vhd(2 * MIB, parent=PARENT, bat={0: 159})
    made.blocks[0] = {134: b"\5" * SECTOR}
    path = made.write(tmp_path / "c.vhd")
    with path.open("r+b") as file:
        foot = made.footer()
        file.truncate(81_408 + SECTOR + 2 * MIB)
        file.seek(81_408 + 16)
        file.write(b"\2")
        file.seek(150_528)
        file.write(b"\6" * SECTOR)
        file.seek(0, os.SEEK_END)
        file.write(foot)
    with chain_of(VHD, path) as chain:
        found = chain.extents(134 * SECTOR, 135 * SECTOR)
        assert found.host.tolist() == [150_528]
        assert open_it(path)[134 * SECTOR : 135 * SECTOR] == b"\6" * SECTOR


def test_data_in_holes_of_the_file_are_zeros_and_hide_those_of_the_parent(tmp_path: Path) -> None:
    base = Vhd(4 * MIB)
    base.put(0, b"\3" * 4 * MIB)
    child = Vhd(4 * MIB, parent=UUID(int=1), uuid=UUID(int=2), align=4096)
    child.put(0, b"\4" * 2 * MIB)
    path = child.write(tmp_path / "c.vhd")
    with path.open("r+b") as file:  # the data of the first block become a hole
        at = child.places()[0] + SECTOR
        rest = path.read_bytes()[at + 2 * MIB :]
        file.truncate(at)
        file.truncate(at + 2 * MIB)
        file.seek(at + 2 * MIB)
        file.write(rest)
    assert disk_of(VHD, path, base.write(tmp_path / "a.vhd")) == bytes(2 * MIB) + b"\3" * 2 * MIB
    with chain_of(VHD, path) as chain:
        assert chain.extents(0, 4 * MIB).kind.tolist() == [Kind.ZERO, Kind.UNALLOCATED]
        details = chain.members[0].layer.details(0, 4 * MIB)
        assert details.kind.tolist() == [MapKind.DATA_HOLE, MapKind.UNALLOCATED]


@pytest.mark.parametrize("name", ["x.v01", "x.V12"])
def test_a_further_part_of_a_split_image_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(vhd.fixed(bytes(MIB), 4 * MIB))
    with unsupported(r"a part of a VHD that is split over several files: join its parts .*cat x\.vhd x\.v01"):
        open_it(path)


def test_the_last_part_of_a_split_fixed_image_is_refused_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.vhd").write_bytes(vhd.fixed(bytes(MIB), 4 * MIB))
    with format_error(
        r"its disk has 4194304 bytes, but only 1048576 are before its footer: it was cut, or is the last"
    ):
        open_it(tmp_path / "x.vhd")


def test_the_first_part_of_a_split_dynamic_image_is_refused(tmp_path: Path) -> None:
    path = image().write(tmp_path / "x.vhd")
    for size in (4 * MIB, 3 * MIB):
        os.truncate(path, size)
        with format_error(
            r"the file may be one of several that a disk was split into \(\.vhd, \.v01, \.\.\.\): .* cut short"
        ):
            open_it(path)


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB - SECTOR, 8 * MIB + 3])
@pytest.mark.parametrize("length", [512, 511])
def test_a_fixed_image_is_what_lies_before_its_footer(tmp_path: Path, size: int, length: int) -> None:
    disk = os.urandom(8 * MIB)
    path = tmp_path / "x.vhd"
    path.write_bytes(vhd.fixed(disk, min(size, len(disk)))[: length - SECTOR or None])
    assert open_it(path) == disk[: min(size, len(disk)) // SECTOR * SECTOR]


def test_the_footer_of_a_fixed_image_is_no_part_of_its_disk(tmp_path: Path) -> None:
    (tmp_path / "x.vhd").write_bytes(vhd.fixed(b"\1" * MIB))
    with chain_of(VHD, tmp_path / "x.vhd") as chain:
        assert chain.members[0].layer.populated().tolist() == [[0, MIB]]


@pytest.mark.parametrize(
    ("make", "at_end", "marked"),
    [
        (lambda: vhd.fixed(image_bytes()), True, True),  # its guest has written a whole dynamic image to the start
        (lambda: vhd.fixed(b"QFI\xfb" + bytes(MIB)), True, True),
        (lambda: vhd.fixed(bytes(MIB), 2 * MIB), False, True),  # refused by name, as its disk is not whole
        (lambda: vhd.fixed(bytes(MIB), checksum=1), False, True),
        (image_bytes, False, True),
        (lambda: image_bytes(end=False), False, True),
        (lambda: image_bytes(copy=False), False, True),
        (lambda: vhd.footer(disk_type=2) + bytes(MIB), False, False),  # that of a fixed image, at the start
        (lambda: bytes(MIB), False, False),
        (lambda: b"", False, False),
        (lambda: vhd.fixed(b"")[:510], False, False),
        (lambda: bytes(MIB) + vhd.footer(cookie=b"v_poison"), False, True),
    ],
)
def test_what_is_taken_for_a_vhd(tmp_path: Path, make: Callable[[], bytes], at_end: bool, marked: bool) -> None:
    (tmp_path / "x").write_bytes(make())
    with opened(tmp_path / "x") as file:
        assert (VHD.is_at_end(Front(file)), VHD.probe(Front(file))) == (at_end, marked)
        if not marked:
            with pytest.raises(FormatError, match="it has no VHD footer"):
                VHD.read(Front(file))


def test_a_fixed_image_whose_guest_wrote_a_dynamic_one_is_served_as_the_disk_it_is(tmp_path: Path) -> None:
    inner = image_bytes()
    (tmp_path / "x.vhd").write_bytes(vhd.fixed(inner))
    assert open_it(tmp_path / "x.vhd") == inner[: len(inner) // SECTOR * SECTOR]
