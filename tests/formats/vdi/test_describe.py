"""What is told of a VDI: beside what `qemu-img info` says of it, every field, and what is not as it should be."""

import json
from pathlib import Path

import pytest

from tests.support import oracle, vdi
from tests.support.hand_made_chain import chain_of, read
from tests.support.vdi import MIB, Name, Vdi, name
from vdifs.extents import MapKind
from vdifs.formats.problems import Problem, Severity
from vdifs.formats.vdi.format import VDI


@pytest.mark.parametrize("static", ["on", "off"])
@pytest.mark.parametrize("size", ["9M", "3G"])
def test_qemu_says_the_same_of_its_own_images(tmp_path: Path, static: str, size: str) -> None:
    path = tmp_path / "x.vdi"
    oracle.qemu_img("create", "-q", "-f", "vdi", "-o", f"static={static}", path, size)
    oracle.qemu_io(path, ["write -P 3 64k 1M"], format="vdi")
    with read(VDI, path) as (file, metadata):
        told = metadata.describe(file, None)
        info = oracle.info(path, "vdi")
        assert told.virtual_size == metadata.virtual_size == info["virtual-size"]
        assert told.as_qemu()["cluster-size"] == info["cluster-size"]
        assert told.warnings() == []
        assert told.fields(None)["image type"] == ("2 (static)" if static == "on" else "1 (dynamic)")
        audit = metadata.audit(file, "x", has_overlay=False)
        assert [*audit.problems, *audit.of_state(metadata.layer(file, [file], None), "x")] == []


def child() -> Vdi:
    more = {"comment": b"of \xc3\xbc\0rest", "flags": 0x100, "cylinders": 3, "logical_cylinders": 5}
    made = Vdi(3 * MIB - 7, parent=name(9), name=name(8), extra=512, fields=more)
    made.put(MIB, b"\1" * MIB)
    return made


def test_every_field_is_told(tmp_path: Path) -> None:
    with read(VDI, child().write(tmp_path / "c.vdi")) as (file, metadata):
        told = metadata.describe(file, None)
        fields, value = told.fields(None), told.all_fields()
    assert fields["image type"] == "4 (differencing)"
    assert fields["version"] == "1.1, <<< a disk of the tests >>>"
    assert fields["comment"] == "of \u00fc"
    assert fields["extra data"] == "512 bytes in front of each block"
    assert fields["block map"] == "3 entries, 12 B at 0x200"
    assert fields["data"] == "at 0x400, 1 block by its header"
    assert fields["size in header"] == "3 MiB (3145721 bytes)"
    assert fields["geometry"] == "3 cylinders, 0 heads, 0 sectors"
    assert fields["logical geometry"] == "5 cylinders, 0 heads, 0 sectors"
    assert (fields["UUID"], fields["modification UUID"]) == (name(8).uuid, name(8).modification)
    assert fields["parent UUID"] == name(9).uuid
    assert fields["parent modification UUID"] == name(9).modification
    assert value is not None
    assert json.loads(json.dumps(value)) == value
    assert (value["uuid"], value["parent_uuid"]) == (str(name(8).uuid), str(name(9).uuid))
    assert (value["disk_size"], value["logical_geometry"]) == (3 * MIB - 7, [5, 0, 0, 512])
    in_one = {"cylinders", "heads", "sectors"}
    in_another = {each for each in vdi.FIELDS if each.startswith("logical_")}
    assert {*vdi.FIELDS} - {*value} == {"signature"} | in_one | in_another


def test_what_is_not_there_is_told_so(tmp_path: Path) -> None:
    made = Vdi(MIB, parent=Name(name(9).uuid), fields={"header_size": 0x180, "text": b""})
    with read(VDI, made.write(tmp_path / "c.vdi")) as (file, metadata):
        told = metadata.describe(file, None)
    fields, value = told.fields(None), told.all_fields()
    assert value is not None
    assert (fields["logical geometry"], value["logical_geometry"]) == ("none", None)
    assert fields["parent modification UUID"] == "not stated"
    assert (fields["version"], fields["comment"], fields["extra data"]) == ("1.1, no text", "none", "none")
    with read(VDI, Vdi(MIB).write(tmp_path / "b.vdi")) as (file, metadata):
        assert not any(each.startswith("parent") for each in metadata.describe(file, None).fields(None))


def problems_of(made: Vdi, folder: Path) -> list[Problem]:
    with read(VDI, made.write(folder / "x.vdi")) as (file, metadata):
        audit = metadata.audit(file, "p", has_overlay=True)
        return [*audit.problems, *audit.of_state(metadata.layer(file, [file], None), "p")]


def test_another_count_of_blocks_is_a_note(tmp_path: Path) -> None:
    made = child()
    assert problems_of(made, tmp_path) == []
    made.fields["allocated_blocks"] = 9
    (problem,) = problems_of(made, tmp_path)
    assert (problem.severity, problem.kind, problem.path) == (Severity.NOTE, "block-count", "p")
    assert problem.what == "its header counts 9 blocks in the file, its block map has 1: ignored"


def test_a_map_tells_what_has_a_place_and_no_data(tmp_path: Path) -> None:
    made = Vdi(4 * MIB, blocks={1: b"", 2: b"\1" * MIB}, zero={3}, behind_map=4096 - 1024)
    with chain_of(VDI, made.write(tmp_path / "x.vdi")) as chain:
        found = chain.members[0].layer.details(0, 4 * MIB)
    assert found.kind.tolist() == [MapKind.ZERO, MapKind.DATA_HOLE, MapKind.DATA, MapKind.ZERO]
    assert found.host.tolist() == [0, made.host_of(1), made.host_of(2), 0]
