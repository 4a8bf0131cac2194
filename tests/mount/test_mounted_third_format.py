"""A format that only the registry knows is found, mounted, read, told of, and takes part in chains."""

import json
from pathlib import Path

import pytest

from tests.mount.mounting import Mounted, Mounts
from tests.support import boxed, oracle, surgery
from tests.support.builder import make

BLOCK = 64 << 10
DISK = bytes([1]) * BLOCK + bytes(6 * BLOCK) + bytes([2]) * BLOCK
ABOVE = DISK[:BLOCK] + bytes([3]) * BLOCK + DISK[2 * BLOCK :]


@pytest.fixture
def shown(mounts: Mounts) -> Mounted:
    """A mount of a base in that format, and of an overlay that names it and states no format."""
    source = mounts.scratch / "src"
    source.mkdir()
    boxed.write(source / "base.boxed", DISK)
    make(source / "top.qcow2", len(DISK), f"write -P 3 {BLOCK} {BLOCK}", backing=("base.boxed", "raw"))
    surgery.forget_backing_format(source / "top.qcow2")
    return mounts(source, module=["tests.mount.boxed_driver"])


def disk_of(path: Path, scratch: Path) -> bytes:
    return oracle.materialize(path, scratch / "disk.raw").read_bytes()


def test_its_images_are_shown_and_read_in_every_view(shown: Mounted, tmp_path: Path) -> None:
    assert (shown / "raw/base.boxed.raw").read_bytes() == DISK
    assert (shown / "raw/top.qcow2.raw").read_bytes() == ABOVE
    for name, disk in (("base.boxed.qcow2", DISK), ("top.qcow2", ABOVE)):
        oracle.check(shown / "full" / name)
        assert disk_of(shown / "full" / name, tmp_path) == disk


def test_a_delta_against_it_names_its_full_image_beside_it(shown: Mounted, tmp_path: Path) -> None:
    folder = shown / "delta/base.boxed"
    assert sorted(path.name for path in folder.iterdir()) == [
        "base.boxed.qcow2", "base.boxed.qcow2..base.boxed.qcow2", "top.qcow2",
    ]  # fmt: skip
    said = oracle.info(folder / "top.qcow2")
    assert (said["backing-filename"], said["backing-filename-format"]) == ("base.boxed.qcow2", "qcow2")
    assert [extent.depth for extent in oracle.map_of(folder / "top.qcow2") if extent.data] == [1, 0, 1]
    assert disk_of(folder / "top.qcow2", tmp_path) == ABOVE
    assert (folder / "base.boxed.qcow2").stat().st_ino == (shown / "full/base.boxed.qcow2").stat().st_ino


def test_it_is_told_of_under_its_name(shown: Mounted) -> None:
    status = json.loads((shown / ".vdifs/status.json").read_text())
    assert {each["name"]: each["format"] for each in status["images"]} == {"base.boxed": "boxed", "top.qcow2": "qcow2"}
    assert status["problems"] == []
    runs = json.loads((shown / ".vdifs/map/top.qcow2.json").read_text())
    assert [(run["depth"], run["data"], run.get("offset")) for run in runs if run["data"]] == [
        (1, True, boxed.START), (0, True, runs[1]["offset"]), (1, True, boxed.START + 7 * BLOCK),
    ]  # fmt: skip
