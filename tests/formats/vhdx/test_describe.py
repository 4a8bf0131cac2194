"""What is told of a VHDX: beside what `qemu-img info` says of it, every field, what is not right, and a map."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import oracle
from tests.support.hand_made_chain import disk_of, read
from tests.support.units import MIB
from tests.support.vhdx import BAT_AT, FIXED, PAGE, Draft, LogEntry, linked
from vdifs.extents import Kind, MapKind
from vdifs.formats.problems import Severity
from vdifs.formats.vhdx.format import VHDX

BASE = UUID("12345678-9abc-def0-1122-334455667788")


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
@pytest.mark.parametrize(("size", "block"), [("9M", "1M"), ("40M", "16M"), ("3G", "0")])
def test_qemu_says_the_same_of_its_own_images(tmp_path: Path, subformat: str, size: str, block: str) -> None:
    path = tmp_path / "x.vhdx"
    oracle.qemu_img("create", "-q", "-f", "vhdx", "-o", f"subformat={subformat},block_size={block}", path, size)
    oracle.qemu_io(path, ["write -P 3 64k 1M"], format="vhdx")
    with read(VHDX, path) as (file, metadata):
        told = metadata.describe(file, None)
        info = oracle.info(path, "vhdx")
        assert told.virtual_size == metadata.virtual_size == info["virtual-size"]
        assert told.as_qemu()["cluster-size"] == info["cluster-size"]
        assert told.fields(None)["kind"] == subformat
        assert str(told.fields(None)["creator"]).startswith("QEMU v")
        assert told.warnings() == []
        assert metadata.audit(file, "x", has_overlay=False).problems == ()
    if size != "3G":
        assert disk_of(VHDX, path) == oracle.materialize(path, tmp_path / "raw", format="vhdx").read_bytes()


def test_every_field_is_told(tmp_path: Path) -> None:
    made = Draft(3 * MIB, 2 * MIB, 4096, linked(BASE, "b.vhdx") | {"absolute_win32_path": "C:\\b.vhdx"})
    with read(VHDX, made.save(tmp_path / "c.vhdx")) as (file, metadata):
        told = metadata.describe(file, None)
        fields, value = told.fields(None), told.all_fields()
        assert metadata.parent is not None
        assert metadata.parent.said == ".\\b.vhdx"
    assert {name: str(each) for name, each in fields.items()} == {
        "kind": "differencing",
        "creator": "tests",
        "version": "1",
        "sequence number": "5",
        "file write GUID": str(made.heads[1].file_guid),
        "data write GUID": str(made.guid),
        "log": "1 MiB (1048576 bytes) at 0x100000, nothing to replay",
        "block size": "2 MiB (2097152 bytes)",
        "logical sector size": "4096",
        "physical sector size": "4096",
        "disk GUID": str(UUID(int=99)),
        "BAT": "16385 entries at 0x300000",
        "metadata": "6 items at 0x200000",
        "parent parent_linkage": f"{{{BASE}}}",
        "parent relative_path": ".\\b.vhdx",
        "parent absolute_win32_path": "C:\\b.vhdx",
    }
    assert value is not None
    assert json.loads(json.dumps(value)) == value
    assert told.as_qemu()["format-specific"] == {"type": "vhdx", "data": value}
    assert (value["log_guid"], value["log_offset"], value["log_length"]) == (str(UUID(int=0)), MIB, MIB)
    assert value["virtual_disk_id"] == str(UUID(int=99))
    assert value["has_parent"]
    assert not value["leave_blocks_allocated"]
    assert value["parent_locator"]["absolute_win32_path"] == "C:\\b.vhdx"
    assert [each["meaning"] for each in value["metadata_items"]] == [
        "file parameters",
        "disk size",
        "logical sector size",
        "physical sector size",
        "disk guid",
        "parent locator",
    ]
    assert [each["name"] for each in value["regions"]] == ["header section", "log", "metadata region", "BAT region"]


def test_a_fixed_image_is_told_as_one(tmp_path: Path) -> None:
    with read(VHDX, Draft(flags=FIXED).save(tmp_path / "c.vhdx")) as (file, metadata):
        assert metadata.describe(file, None).fields(None)["kind"] == "fixed"
        assert metadata.parent is None


def test_an_unclean_log_is_a_warning_that_says_how_much_is_replayed(tmp_path: Path) -> None:
    made = Draft()
    entries = [LogEntry(number, 0, [(BAT_AT + PAGE, bytes(PAGE))]) for number in (1, 2)]
    made.dirty((0, entries[0].packed()), (2 * PAGE, entries[1].packed()))
    with read(VHDX, made.save(tmp_path / "c.vhdx")) as (file, metadata):
        told = metadata.describe(file, None)
        (problem,) = metadata.audit(file, "c", has_overlay=False).problems
        assert told.as_qemu()["dirty-flag"]
        assert str(told.fields(None)["log"]).endswith(", 2 entries replayed in memory")
    assert (problem.severity, problem.kind) == (Severity.WARNING, "unclean-log")
    assert problem.what == "it was not closed cleanly: 2 entries of its log are replayed in memory"
    assert told.warnings() == [problem.what]


def test_a_map_tells_of_sectors_that_have_a_place_but_are_below(tmp_path: Path) -> None:
    made = Draft(4 * MIB, parent=linked(BASE, "b.vhdx"))
    made.write(512, b"\1" * 512)
    made.leave(2, 3)
    with read(VHDX, made.save(tmp_path / "x.vhdx")) as (file, metadata):
        layer = metadata.layer(file, [file], None)
        found, read_as = layer.details(0, 4 * MIB), layer.extents(0, 4 * MIB)
    place, clear = made.places[0] * MIB, MapKind.UNALLOCATED_ALLOC
    assert (found.start.tolist(), found.kind.tolist(), found.host.tolist()) == (
        [0, 512, 1024, MIB, 2 * MIB, 3 * MIB],
        [clear, MapKind.DATA, clear, MapKind.UNALLOCATED, MapKind.ZERO, MapKind.UNALLOCATED],
        [place, place + 512, place + 1024, 0, 0, 0],
    )
    below, here, zero = Kind.UNALLOCATED, Kind.DATA, Kind.ZERO
    assert (read_as.start.tolist(), read_as.kind.tolist(), read_as.host.tolist()) == (
        [0, 512, 1024, 2 * MIB, 3 * MIB],
        [below, here, below, zero, below],
        [0, place + 512, 0, 0, 0],
    )
