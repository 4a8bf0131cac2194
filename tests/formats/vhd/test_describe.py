"""What is told of a VHD: beside what `qemu-img info` says of it, every field, and what is not as it should be."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import oracle, vhd
from tests.support.hand_made_chain import disk_of, read
from tests.support.vhd import SECTOR, Vhd
from vdifs.extents import MapKind
from vdifs.formats.image_format import Metadata
from vdifs.formats.problems import Problem, Severity
from vdifs.formats.vhd.format import VHD
from vdifs.storage.host_file import HostFile

MIB = 1 << 20
PARENT = UUID("12345678-9abc-def0-1122-334455667788")


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize("size", ["9M", "40M", "3G"])
@pytest.mark.parametrize("exact", ["on", "off"])
def test_qemu_says_the_same_of_its_own_images(tmp_path: Path, subformat: str, size: str, exact: str) -> None:
    path = tmp_path / "x.vhd"
    options = f"subformat={subformat},force_size={exact}"
    oracle.qemu_img("create", "-q", "-f", "vpc", "-o", options, path, size)
    oracle.qemu_io(path, ["write -P 3 64k 1M"], format="vpc")
    with read(VHD, path) as (file, metadata):
        told = metadata.describe(file, None)
        info = oracle.info(path, "vpc")
        assert told.virtual_size == metadata.virtual_size == info["virtual-size"]
        assert told.as_qemu().get("cluster-size") == info.get("cluster-size")
        assert told.warnings() == []
        assert metadata.audit(file, "x", has_overlay=False).problems == ()
    if size != "3G":
        assert disk_of(VHD, path) == oracle.materialize(path, tmp_path / "raw", format="vpc").read_bytes()


def child() -> Vhd:
    made = Vhd(
        3 * MIB,
        parent=PARENT,
        uuid=UUID(int=7),
        name=r"C:\b.vhd",
        locators=[(b"W2ru", ".\\b.vhd".encode("utf-16-le")), (b"MacX", b"\xff")],
        footer_fields={"creator": b"tap\0", "hidden": 1, "current_size": 3 * MIB},
        batmap=vhd.batmap_header(),
    )
    made.put(0, b"\1" * SECTOR)
    return made


def test_every_field_is_told(tmp_path: Path) -> None:
    made = child()
    with read(VHD, made.write(tmp_path / "c.vhd")) as (file, metadata):
        told = metadata.describe(file, None)
        fields, value = told.fields(None), told.all_fields()
    assert fields["disk type"] == "4 (differencing)"
    assert fields["creator"] == "'tap' 10.0, host OS Wi2k"
    assert fields["created"] == "2022-04-30 14:11:12 UTC"  # 0x2A000000 s after the beginning of 2000
    assert fields["hidden"] == "yes, XCP-ng's mark"
    assert fields["sized by"] == "current size"
    assert fields["UUID"] == UUID(int=7)
    assert fields["parent UUID"] == PARENT
    assert (fields["parent name"], fields["parent locator 1"]) == (r"C:\b.vhd", r"W2ru: .\b.vhd")
    assert value is not None
    assert json.loads(json.dumps(value)) == value
    assert (value["uuid"], value["current_size"], value["hidden"]) == (str(UUID(int=7)), 3 * MIB, 1)
    assert value["header"]["parent_uuid"] == str(PARENT)
    assert value["header"]["parent_locator_names"] == [{"code": "W2ru", "name": r".\b.vhd"}]
    assert [each["code"] for each in value["header"]["parent_locators"]] == ["W2ru", "MacX"]
    assert {*vhd.FOOTER_FIELDS} - {*value} == {"cookie"}
    assert {*vhd.HEADER_FIELDS} - {*value["header"]} == {"cookie", "name", "parent_time", "reserved"}


def test_a_fixed_image_has_no_blocks_to_tell_of(tmp_path: Path) -> None:
    (tmp_path / "x.vhd").write_bytes(vhd.fixed(bytes(MIB), creator=b"vpc ", cylinders=10, heads=4, sectors=17))
    with read(VHD, tmp_path / "x.vhd") as (file, metadata):
        told = metadata.describe(file, None)
        assert "cluster-size" not in told.as_qemu()
        assert told.fields(None)["sized by"] == "geometry"
        assert told.virtual_size == 10 * 4 * 17 * SECTOR
        value = told.all_fields()
        assert value is not None
        assert value["header_offset"] is None
        assert metadata.audit(file, "x", has_overlay=False).of_state(metadata.layer(file, [file], None), "x") == []


def problems_of(file: HostFile, metadata: Metadata, *, has_overlay: bool = True) -> list[Problem]:
    audit = metadata.audit(file, "p", has_overlay=has_overlay)
    return [*audit.problems, *audit.of_state(metadata.layer(file, [file], None), "p")]


def test_a_missing_or_another_copy_of_the_footer_is_a_warning(tmp_path: Path) -> None:
    for made, words in ((Vhd(MIB, end=False), "no footer at its end"), (Vhd(MIB, copy=False), "another than the one")):
        with read(VHD, made.write(tmp_path / "x.vhd")) as (file, metadata):
            (problem,) = problems_of(file, metadata)
            assert (problem.severity, problem.kind) == (Severity.WARNING, "footer")
            assert words in problem.what
            assert metadata.describe(file, None).warnings() == [problem.what]


def test_a_hidden_image_without_an_overlay_is_a_note_and_so_is_a_locator_that_is_no_name(tmp_path: Path) -> None:
    with read(VHD, child().write(tmp_path / "c.vhd")) as (file, metadata):
        told = [(each.severity, each.kind) for each in problems_of(file, metadata, has_overlay=False)]
        assert told == [(Severity.NOTE, "hidden"), (Severity.NOTE, "locator")]
        (locator,) = problems_of(file, metadata)
        assert locator.what == "its parent locator 2 has an unknown code or is no text: ignored"


@pytest.mark.parametrize("names", ["locator", "batmap"])
def test_blocks_over_names_of_the_parent_or_the_batmap_are_a_warning(tmp_path: Path, names: str) -> None:
    made = child()
    made.locators = made.locators[:1] if names == "locator" else []
    made.batmap = made.batmap if names == "batmap" else b""
    place = made.first_block() // SECTOR - 1
    made.bat = {0: place}
    with read(VHD, made.write(tmp_path / "c.vhd")) as (file, metadata):
        (problem,) = problems_of(file, metadata)
    assert (problem.severity, problem.kind) == (Severity.WARNING, "overlap")
    assert problem.what == f"block 0 at {place * SECTOR:#x} lies on the names of its parent or its batmap"


def test_a_map_tells_what_has_a_place_and_no_data(tmp_path: Path) -> None:
    for parent, clear, absent in (
        (None, MapKind.ZERO_ALLOC, MapKind.ZERO),
        (PARENT, MapKind.UNALLOCATED_ALLOC, MapKind.UNALLOCATED),
    ):
        made = Vhd(4 * MIB, parent=parent)
        made.put(SECTOR, b"\1" * SECTOR)
        place = made.places()[0] + SECTOR
        with read(VHD, made.write(tmp_path / "x.vhd")) as (file, metadata):
            found = metadata.layer(file, [file], None).details(0, 4 * MIB)
        assert found.kind.tolist() == [clear, MapKind.DATA, clear, absent]
        assert found.start.tolist() == [0, SECTOR, 2 * SECTOR, 2 * MIB]
        assert found.host.tolist() == [place, place + SECTOR, place + 2 * SECTOR, 0]
