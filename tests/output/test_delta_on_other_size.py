"""Deltas whose base is a larger or smaller disk on its own than below the images above it: VHDs sized by geometry."""

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

import vdifs
from tests.support import oracle
from tests.support.vhd import Vhd

KIB, MIB, SECTOR = 1 << 10, 1 << 20, 512
SIZE = 4 * MIB
W2RU = b"W2ru"


def image(path: Path, number: int, cylinders: int, written: Mapping[int, bytes], parent: str = "") -> None:
    """Write a VHD whose size on its own its geometry says."""
    geometry = {"creator": b"vpc ", "cylinders": cylinders, "heads": 4, "sectors": 16}
    made = Vhd(SIZE, 512 * KIB, uuid=UUID(int=number), blocks_more=2, footer_fields=dict(geometry))
    if parent:
        made.parent, made.locators = UUID(int=number - 1), [(W2RU, parent.encode("utf-16-le"))]
    for at, data in written.items():
        made.put(at, data)
    made.write(path)


def of_cylinders(count: int) -> int:
    return count * 4 * 16 * SECTOR


@pytest.mark.parametrize("cylinders", [100, 99, 1, 140])
@pytest.mark.parametrize("cluster_size", [512, 64 * KIB, 2 * MIB])
def test_a_delta_holds_what_its_base_does_not_show_alone(tmp_path: Path, cylinders: int, cluster_size: int) -> None:
    low, high, beyond = b"\x11" * (8 * KIB), b"\x22" * (100 * KIB), b"\x33" * (4 * KIB)
    edge = of_cylinders(min(cylinders, 120)) - 2 * SECTOR
    across = b"\x44" * (4 * SECTOR)
    last = SIZE - 150 * KIB
    held = {0: low, last: high, edge: across, SIZE + 4 * KIB: beyond}
    image(tmp_path / "base.vhd", 1, cylinders, held)
    image(tmp_path / "child.vhd", 2, 120, {1024: b"\x55" * SECTOR}, ".\\base.vhd")
    image(tmp_path / "top.vhd", 3, 128, {}, ".\\child.vhd")
    disk = bytearray(SIZE)
    for at, data in {0: low, last: high, edge: across, 1024: b"\x55" * SECTOR}.items():
        disk[at : at + len(data)] = data

    def raw(path: Path) -> bytes:
        with vdifs.open(path, view="raw") as opened:
            return opened.read_at(0, opened.size)

    assert raw(tmp_path / "child.vhd") == disk[: of_cylinders(120)]
    for name, base in (("child.vhd", "base.vhd"), ("top.vhd", "base.vhd"), ("top.vhd", "child.vhd")):
        folder = tmp_path / f"{base}-{name}"
        folder.mkdir()
        for each, below in ((base, None), (name, tmp_path / base)):
            with vdifs.open(tmp_path / each, base=below, cluster_size=cluster_size) as opened:
                (folder / f"{each}.qcow2").write_bytes(opened.read_at(0, opened.size))
        oracle.check(folder / f"{name}.qcow2")
        assert oracle.materialize(folder / f"{name}.qcow2", tmp_path / "disk.raw").read_bytes() == raw(tmp_path / name)
