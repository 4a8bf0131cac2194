"""The recipes of docs/migration.md, for images that other hypervisors have left, run as they stand there."""

import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.mount.conftest import require_fuse
from tests.readme.examples import examples, run
from tests.support import oracle
from tests.support.vhd import Vhd
from tests.support.written_disks import Write, writes, written

SIZE = 8 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require_fuse()
    for name in ("mnt", "new"):
        (tmp_path / name).mkdir()
    return tmp_path


def drawn(seed: int, count: int) -> Iterator[tuple[list[Write], bytes]]:
    """Yield what is written to each of the images of a chain, base first, and the disk that it then shows."""
    rng, disk = random.Random(seed), b""
    for _ in range(count):
        wrote = writes(rng, SIZE, most=12)
        disk = written(disk, SIZE, wrote)
        yield wrote, disk


def same(image: Path, disk: bytes, raw: Path) -> None:
    """Prove that a copied qcow2 is sound, and the disk."""
    oracle.check(image)
    assert oracle.materialize(image, raw).read_bytes() == disk


def storage_repository(folder: Path) -> list[bytes]:
    """Make the folder of UUID.vhd of the recipe: the base is hidden, as what was snapshotted is, and a leaf beside."""
    names = ["9d1c2f7e-8a30-4f59-b8d5-27c0a2f1e6b4", "3b5e9a42-0c1f-4c65-9f3e-5f0f3a3c7d10"]
    assert all(f"{name}.vhd" in examples()["xcp-ng-chain"][1] for name in names)
    folder.mkdir()
    disks = []
    for level, (wrote, disk) in enumerate(drawn(1, 2)):
        image = Vhd(SIZE, 2 << 20, UUID(names[0]) if level else None, UUID(names[level]))
        image.footer_fields = {"creator": b"tap\0", "hidden": 1 - level}
        if level:
            image.name = f"{names[0]}.vhd"
            image.locators = [(b"MacX", f"file://./{image.name}".encode())]
            image.locators.append((b"W2ku", f"C:\\{image.name}".encode("utf-16-le")))
            image.locators.append((b"W2ru", f".\\{image.name}".encode("utf-16-le")))
        for each in wrote:
            image.put(each.offset, each.data)
        image.write(folder / f"{names[level]}.vhd")
        disks.append(disk)
    return disks


def test_xcp_ng(folder: Path) -> None:
    base, leaf = storage_repository(folder / "sr")
    listed = run("xcp-ng", folder).splitlines()
    assert [("9d1c2f7e" in line, "hidden" in line) for line in listed] == [(True, True), (False, False)]
    same(folder / "new/disk.qcow2", leaf, folder / "disk.raw")
    run("xcp-ng-chain", folder)
    for name, disk in zip(sorted((folder / "new").glob("*.vhd.qcow2"), reverse=True), (base, leaf), strict=True):
        same(name, disk, folder / "disk.raw")
