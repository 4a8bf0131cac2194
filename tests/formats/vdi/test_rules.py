"""Each rule of docs/formats.md, VDI: a file that breaks it, and the error that it gives; or what is ignored."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.agreement import format_error, unsupported
from tests.support.hand_made_chain import chain_of, disk_of, opened, read
from tests.support.vdi import FREE, MIB, NO_UUID, SECTOR, ZERO, Name, Vdi, header, name
from vdifs.extents import Kind, MapKind
from vdifs.formats.image_format import Front, Metadata
from vdifs.formats.vdi.format import VDI

KIB = 1 << 10
PARENT = name(7)


def image(**more: object) -> Vdi:
    """Return a disk of 9.5 MiB with data in three of its blocks, and a zero one; the last in the file is block 9."""
    made = Vdi(9 * MIB + 512 * KIB, **more)  # type: ignore[arg-type] # passed on
    made.put(MIB + SECTOR, b"\1" * SECTOR)
    made.put(5 * MIB, b"\2" * SECTOR)
    made.put(9 * MIB, b"\3" * 512 * KIB)
    made.zero = {2}
    return made


def wanted() -> bytes:
    disk = bytearray(9 * MIB + 512 * KIB)
    disk[MIB + SECTOR : MIB + 2 * SECTOR] = b"\1" * SECTOR
    disk[5 * MIB : 5 * MIB + SECTOR] = b"\2" * SECTOR
    disk[9 * MIB :] = b"\3" * 512 * KIB
    return bytes(disk)


def fields(**values: object) -> Vdi:
    return image(fields=values)


BROKEN: list[tuple[str, Vdi, str]] = [
    ("header size", fields(header_size=0x17F), r"x\.vdi: its header claims 383 bytes, expected at least 384"),
    ("type 0", fields(image_type=0), r"its type is 0, expected 1 \(dynamic\), 2 \(static\) or 4 \(differencing\)"),
    ("type 3", fields(image_type=3), r"its type is 3, expected"),
    ("type 5", fields(image_type=5), r"its type is 5, expected"),
    ("map in header", fields(map_offset=471), r"its block map is at 0x1d7, within its header, which ends at 0x1d8"),
    ("map in long header", fields(header_size=0x200), r"is at 0x200, within its header, which ends at 0x248"),
    (
        "map on data",
        fields(data_offset=512 + 39),
        r"its block map ends at 0x228, behind the start of its data at 0x227",
    ),
    ("data in front", fields(data_offset=0), r"its block map ends at 0x228, behind the start of its data at 0x0"),
    (
        "map beyond",
        fields(map_offset=1 << 30, data_offset=1 << 31),
        r"its block map ends at 0x40000028, beyond the end of the file at 0x300400: the file was cut short",
    ),
    ("sector size", fields(sector_size=4096), r"its sectors have 4096 bytes, expected 512"),
    ("no size", fields(disk_size=0), r"its disk has 0 bytes"),
    ("block size 0", fields(block_size=0), r"its blocks have 0 bytes, expected a power of two from 128 KiB to 128 MiB"),
    ("block size 64 KiB", fields(block_size=64 * KIB), r"its blocks have 65536 bytes, expected"),
    ("block size 256 MiB", fields(block_size=256 * MIB), r"its blocks have 268435456 bytes, expected"),
    ("block size 3 MiB", fields(block_size=3 * MIB), r"its blocks have 3145728 bytes, expected"),
    ("extra", fields(block_extra=3 * SECTOR), r"its blocks have 1536 bytes of extra data, expected none or a power of"),
    ("too few blocks", fields(blocks=9), r"its 9 blocks of 1048576 bytes are too few for a disk of 9961472 bytes"),
    (
        "huge disk",
        fields(disk_size=(1 << 64) - 1),
        r"its 10 blocks of 1048576 bytes are too few for a disk of 18446744",
    ),
    (
        "too many blocks",
        fields(blocks=(16 << 20) + 1),
        r"its block map has 16777217 entries, expected at most 16777216",
    ),
    ("same block twice", image(entries={4: 1}), r"its blocks 4 and 5 lie at the same place, 1 in its block map"),
    ("same block twice, apart", image(entries={9: 0}), r"its blocks 1 and 9 lie at the same place, 0 in its block map"),
    ("same block thrice", image(entries={1: 1, 9: 1}), r"its blocks 1 and 5 lie at the same place, 1 in its block map"),
    (
        "beyond the end",
        image(entries={4: 3}),
        r"block 4 at 0x300400 would end at 0x400400, beyond the end of the file at 0x300400: the file was cut short",
    ),
    (
        "far beyond the end",
        image(entries={1: ZERO - 1}),
        r"block 1 at 0xfffffffd00400 would end at 0xfffffffe00400, beyond",
    ),
    ("last block beyond", image(entries={9: 3}), r"block 9 at 0x300400 would end at 0x380400, beyond the end"),
    ("cut in the last block", image(cut=512 * KIB + 1), r"block 9 at 0x200400 would end at 0x280400, beyond the end"),
    ("cut in another", image(order=[1, 9, 5], cut=1), r"block 5 at 0x200400 would end at 0x300400, beyond the end"),
    ("data beyond", fields(data_offset=1 << 30), r"block 1 at 0x40000000 would end at 0x40100000, beyond the end"),
    ("extra beyond", image(entries={1: 3}, extra=1 << 20), r"block 1 at 0x700400 would end at 0x800400, beyond the"),
    ("child without parent", fields(image_type=4), r"it is a differencing image, and the UUID of its parent is all"),
    (
        "parent of a base",
        fields(parent_uuid=PARENT.uuid.bytes_le),
        r"it names the parent 00000000-0000-0007-0000-000000000007, and its type is 1, expected 4",
    ),
    ("static child", image(parent=PARENT, fields={"image_type": 2}), r"and its type is 2, expected 4"),
]


@pytest.mark.parametrize(("made", "match"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN])
def test_a_broken_rule_is_refused_by_name(tmp_path: Path, made: Vdi, match: str) -> None:
    path = made.write(tmp_path / "x.vdi")
    with format_error(match):
        disk_of(VDI, path)


@pytest.mark.parametrize(("version", "shown"), [(0x10000, "1.0"), (2, "0.2"), (1, "0.1"), (0x10002, "1.2")])
def test_another_version_is_refused_by_name(tmp_path: Path, version: int, shown: str) -> None:
    path = fields(version=version).write(tmp_path / "x.vdi")
    with unsupported(rf"x\.vdi: its header has the version {shown}: only 1\.1 is read: convert it with 'VBoxManage"):
        disk_of(VDI, path)


@pytest.mark.parametrize("length", [68, 72, 455])
def test_a_file_that_ends_in_its_header_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.vdi"
    path.write_bytes(header()[:length])
    with format_error(rf"its header has at least 456 bytes, the file only {length}: the file was cut short"):
        disk_of(VDI, path)


def test_the_mark_is_the_signature_whatever_is_in_front_of_it(tmp_path: Path) -> None:
    made = fields(text=b"\xff" * 64, signature=0xBEDA107F)
    for changed, marked in ((made, True), (fields(signature=0xBEDA107E), False)):
        with opened(changed.write(tmp_path / "x")) as file:
            assert VDI.probe(Front(file)) == marked
            if not marked:
                with format_error("x: it has no VDI signature at byte 64"):
                    VDI.read(Front(file))
    (tmp_path / "x").write_bytes(b"")
    with opened(tmp_path / "x") as file:
        assert not VDI.probe(Front(file))


IGNORED: list[tuple[str, Vdi]] = [
    ("nothing", image()),
    ("text", fields(text=b"\xff\0\1")),
    ("header without geometry", fields(header_size=0x180)),
    ("longer header", fields(header_size=512 - 72)),
    ("flags", fields(flags=0xFFFFFFFF)),
    ("comment", fields(comment=b"\xff" * 256)),
    ("geometry", fields(cylinders=9, heads=9, sectors=9, logical_cylinders=9, logical_sector_size=9)),
    ("unused", fields(unused=7)),
    ("allocated blocks", fields(allocated_blocks=0xFFFFFFFF)),
    ("zero UUID", image(name=Name(NO_UUID))),
    ("parent's modification without a parent", fields(parent_modification_uuid=PARENT.modification.bytes_le)),
    ("more blocks", image(blocks_more=3)),
    ("entries behind the disk", image(blocks_more=3, entries={10: 0, 11: 1 << 30, 12: 0})),
    ("static", image(static=True)),
    ("order", image(order=[9, 1, 5])),
    ("places without a block", image(order=[None, 9, None, 1, 5])),
    ("map and data apart", image(behind_map=100)),
    ("last block cut at the end of the disk", image(cut=512 * KIB)),
    *[(f"extra {extra}", image(extra=extra)) for extra in (1, 2, 256, 512, 4096, 1 << 20)],
    ("extra, cut", image(extra=512, cut=512 * KIB)),
]


@pytest.mark.parametrize("made", [each[1] for each in IGNORED], ids=[each[0] for each in IGNORED])
def test_what_means_nothing_changes_nothing(tmp_path: Path, made: Vdi) -> None:
    assert disk_of(VDI, made.write(tmp_path / "x.vdi")) == wanted()


def test_data_beyond_the_end_are_nothing_where_no_block_is_in_the_file(tmp_path: Path) -> None:
    path = Vdi(3 * MIB, fields={"data_offset": 2 * MIB}).write(tmp_path / "x.vdi")
    assert disk_of(VDI, path) == bytes(3 * MIB)


@pytest.mark.parametrize("size", [MIB, MIB + 1, MIB + 511, MIB + 512, 2 * MIB - 1])
def test_the_last_sector_of_the_disk_counts_whole(tmp_path: Path, size: int) -> None:
    made = Vdi(size)
    whole = -(-size // SECTOR) * SECTOR
    made.put(0, b"\5" * whole)
    path = made.write(tmp_path / "x.vdi")
    assert disk_of(VDI, path) == b"\5" * whole
    os.truncate(path, made.host_of((size - 1) // MIB) + (whole - 1) % MIB)
    with format_error("would end at"):
        disk_of(VDI, path)


@pytest.mark.parametrize("size", [128 * KIB, 512 * KIB, 2 * MIB, 128 * MIB])
def test_the_least_and_the_greatest_blocks(tmp_path: Path, size: int) -> None:
    made = Vdi(3 * size, size)
    made.blocks = {2: b"", 0: b""}
    path = made.write(tmp_path / "x.vdi")
    with path.open("r+b") as file:
        for number in (2, 0):
            file.seek(made.host_of(number) + size - SECTOR)
            file.write(bytes([number + 1]) * SECTOR)
    with chain_of(VDI, path) as chain:
        for number, kind in ((0, Kind.DATA), (1, Kind.ZERO), (2, Kind.DATA)):
            found = chain.extents((number + 1) * size - SECTOR, (number + 1) * size)
            assert found.kind.tolist() == [kind]
            if kind == Kind.DATA:
                assert chain.data_files[0].read_at(int(found.host[0]), SECTOR) == bytes([number + 1]) * SECTOR


def test_the_place_of_a_block_of_qemus(tmp_path: Path) -> None:
    """Guest 8 MiB at 1,024 + 1 MiB: docs/formats.md, VDI."""
    made = Vdi(9 * MIB, blocks={0: b"\1" * MIB, 8: b"\2" * MIB})
    assert (made.map_offset, made.data_offset) == (512, 1024)
    with chain_of(VDI, made.write(tmp_path / "x.vdi")) as chain:
        assert chain.extents(8 * MIB, 9 * MIB).host.tolist() == [1024 + MIB]


@pytest.mark.parametrize(
    ("entry", "in_base", "in_child"),
    [(FREE, Kind.ZERO, Kind.UNALLOCATED), (ZERO, Kind.ZERO, Kind.ZERO), (0, Kind.DATA, Kind.DATA)],
)
def test_what_an_entry_means(tmp_path: Path, entry: int, in_base: Kind, in_child: Kind) -> None:
    base = Vdi(2 * MIB, name=PARENT)
    base.put(0, b"\3" * 2 * MIB)
    below = base.write(tmp_path / "a.vdi")
    shown = {Kind.ZERO: bytes(MIB), Kind.UNALLOCATED: b"\3" * MIB, Kind.DATA: b"\4" * MIB}
    for parent, kind, chain in ((None, in_base, []), (PARENT, in_child, [below])):
        made = Vdi(2 * MIB, parent=parent, blocks={1: b"\4" * MIB}, entries={1: FREE, 0: entry})
        path = made.write(tmp_path / "b.vdi")
        assert disk_of(VDI, path, *chain)[:MIB] == shown[kind]
        with read(VDI, path) as (file, metadata):
            layer = metadata.layer(file, [file], None)
            assert layer.extents(0, MIB).kind.tolist() == [kind]
            assert layer.details(0, MIB).kind.tolist() == [int(kind)]
            assert layer.has_backing == (parent is not None)


def test_a_shorter_parent_reads_as_zeros_behind_its_end_and_hides_those_below(tmp_path: Path) -> None:
    base = Vdi(9 * MIB, name=name(1))
    base.put(0, b"\3" * 9 * MIB)
    paths = [
        Vdi(9 * MIB, parent=name(2), name=name(3)).write(tmp_path / "c.vdi"),
        Vdi(4 * MIB - SECTOR, 128 * KIB, parent=name(1), name=name(2)).write(tmp_path / "b.vdi"),
        base.write(tmp_path / "a.vdi"),
    ]
    assert disk_of(VDI, *paths) == b"\3" * (4 * MIB - SECTOR) + bytes(5 * MIB + SECTOR)


@pytest.mark.parametrize("extra", [0, 512, 256])
def test_data_in_holes_of_the_file_are_zeros_and_hide_those_of_the_parent(tmp_path: Path, extra: int) -> None:
    base = Vdi(4 * MIB, name=PARENT)
    base.put(0, b"\3" * 4 * MIB)
    child = Vdi(4 * MIB, parent=PARENT, blocks={1: b"\4" * MIB, 2: b"", 0: b"\5" * MIB}, extra=extra)
    path = child.write(tmp_path / "c.vdi")
    assert path.stat().st_blocks * 512 < 3 * MIB, "it has a hole"
    shown = b"\5" * MIB + b"\4" * MIB + bytes(MIB) + b"\3" * MIB
    assert disk_of(VDI, path, base.write(tmp_path / "a.vdi")) == shown
    with read(VDI, path) as (file, metadata):
        layer = metadata.layer(file, [file], None)
        kinds, shown_kinds = layer.extents(0, 4 * MIB).kind.tolist(), layer.details(0, 4 * MIB).kind.tolist()
        assert kinds[-1] == shown_kinds[-1] == Kind.UNALLOCATED
        assert (Kind.ZERO in kinds, MapKind.DATA_HOLE in shown_kinds) == (extra != 256, extra != 256)


def test_blocks_that_begin_within_sectors_are_zeros_where_they_lie_whole_in_holes(tmp_path: Path) -> None:
    """What begins elsewhere than at a sector of the file would have holes that end within sectors of the disk."""
    made = Vdi(4 * MIB, blocks={0: b"\1" * MIB, 1: b"", 2: b""}, behind_map=100)
    with read(VDI, made.write(tmp_path / "x.vdi")) as (file, metadata):
        layer = metadata.layer(file, [file], None)
        found, details = layer.extents(0, 4 * MIB), layer.details(0, 4 * MIB)
    assert found.kind.tolist() == [Kind.DATA, Kind.ZERO]
    assert found.start.tolist() == [0, 2 * MIB], "the second begins in the page with the end of the first"
    assert details.kind.tolist() == [Kind.DATA, MapKind.DATA_HOLE, Kind.ZERO]
    assert details.host.tolist() == [made.host_of(0), made.host_of(2), 0]


def test_a_block_that_begins_within_a_sector_is_data_where_any_of_it_is(tmp_path: Path) -> None:
    made = Vdi(3 * MIB, blocks={0: b"", 1: b"", 2: b""}, behind_map=100)
    path = made.write(tmp_path / "x.vdi")
    with path.open("r+b") as file:
        file.seek(made.host_of(1) + MIB - SECTOR)
        file.write(b"\1" * SECTOR)
    assert disk_of(VDI, path) == bytes(2 * MIB - SECTOR) + b"\1" * SECTOR + bytes(MIB)


@pytest.mark.parametrize("size", [3 * MIB, 3 * MIB - SECTOR, 2 * MIB + 1])
def test_nothing_is_populated_behind_the_end_of_the_disk(tmp_path: Path, size: int) -> None:
    made = Vdi(size, blocks={2: b"\1" * MIB})
    with read(VDI, made.write(tmp_path / "x.vdi")) as (file, metadata):
        layer = metadata.layer(file, [file], None)
        assert layer.populated().tolist() == [[2 * MIB, metadata.virtual_size]]


def metadata_of(made: Vdi, folder: Path) -> Metadata:
    with read(VDI, made.write(folder / "x.vdi")) as (_, metadata):
        return metadata


def fits(child: Vdi, parent: Vdi, folder: Path) -> bool:
    named = metadata_of(child, folder).parent
    assert named is not None
    assert (named.names, named.format) == ((), "vdi")
    return not named.identities.isdisjoint(metadata_of(parent, folder).identities)


def test_a_parent_has_the_uuid_and_where_it_is_told_the_modification(tmp_path: Path) -> None:
    parent = name(7)
    modified, other = Name(parent.uuid, UUID(int=99)), Name(UUID(int=98), parent.modification)
    unknown = Name(parent.uuid)
    for told, is_it in ((parent, True), (modified, False), (other, False), (unknown, True)):
        assert fits(Vdi(MIB, parent=told), Vdi(MIB, name=parent), tmp_path) == is_it
    assert not fits(Vdi(MIB, parent=parent), Vdi(MIB, name=unknown), tmp_path)
    assert fits(Vdi(MIB, parent=unknown), Vdi(MIB, name=unknown), tmp_path)


def test_an_image_without_a_uuid_is_no_parent(tmp_path: Path) -> None:
    assert metadata_of(Vdi(MIB, name=Name(NO_UUID, UUID(int=5))), tmp_path).identities == frozenset()
    assert metadata_of(Vdi(MIB), tmp_path).parent is None


def test_identities_are_as_virtualbox_writes_them(tmp_path: Path) -> None:
    """So does it call the files: Snapshots/{UUID}.vdi."""
    made = fields(uuid=bytes(range(16)), modification_uuid=bytes(16))
    assert metadata_of(made, tmp_path).identities == {"03020100-0504-0706-0809-0a0b0c0d0e0f"}
