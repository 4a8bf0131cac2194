"""Copies of a whole mount, `.vdifs` included, by programs that leave out holes: what was there comes out again.

They go by st_blocks: GNU tar takes a file with none for one hole, and does not read it.
"""

import json
import math
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounted, Mounts
from tests.support import oracle
from tests.support.builder import make
from tests.support.units import MIB

STATUS = ".vdifs/status.json"


@pytest.fixture
def mounted(mounts: Mounts, source: Path) -> Mounted:
    """Images with and without holes, with nothing in them, with data in a part of a sector."""
    images.raw_based(source / "below")
    make(source / "nothing.qcow2", 8 * MIB)
    make(source / "nothing-on-base.qcow2", images.SIZE, backing=("base.qcow2", "qcow2"))
    oracle.qemu_img("snapshot", "-c", "old", source / "monday.qcow2")
    (source / "one-byte.raw").write_bytes(b"x")
    (source / "dense.raw").write_bytes(b"d" * (MIB + 100))
    (source / "empty.raw").touch()
    with (source / "late.raw").open("wb") as file:
        file.truncate(3 * MIB)
        file.seek(0, os.SEEK_END)
        file.write(b"tail")
    return mounts(source)


def files_of(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if stat.S_ISREG(path.lstat().st_mode):
            yield str(path.relative_to(folder))


def assert_the_same(mounted: Mounted, copy: Path) -> None:
    names = list(files_of(mounted.path))
    assert list(files_of(copy)) == names
    for name in names:
        if name != STATUS:
            assert (copy / name).read_bytes() == (mounted / name).read_bytes(), name
    copied, now = json.loads((copy / STATUS).read_bytes()), mounted.status()
    for key in ("pid", "source", "images", "problems"):
        assert copied[key] == now[key]


def sectors_with_data(contents: bytes) -> int:
    return sum(any(contents[start : start + 512]) for start in range(0, len(contents), 512))


def test_blocks_are_never_fewer_than_hold_data(mounted: Mounted) -> None:
    for name in files_of(mounted.path):
        status, contents = (mounted / name).stat(), (mounted / name).read_bytes()
        whole = math.ceil(status.st_size / 512)
        if name == STATUS:
            assert status.st_blocks == whole > 0
            continue
        assert len(contents) == status.st_size, name
        assert sectors_with_data(contents) <= status.st_blocks <= whole, name
        if not name.startswith("raw/") and not name.endswith(".raw"):
            assert status.st_blocks == whole > 0, name
    assert (mounted / "raw/nothing.qcow2.raw").stat().st_blocks == 0
    assert (mounted / "raw/late.raw.raw").stat().st_blocks < 3 * MIB // 512
    assert (mounted / "raw/base.qcow2.raw").stat().st_blocks == 4 * MIB // 512


def test_an_image_that_is_not_served_has_none(mounts: Mounts, source: Path) -> None:
    shutil.copy(source / "base.qcow2", source / "bad.qcow2")
    images.damage_l2(source / "bad.qcow2")
    mounted = mounts(source)
    mounted.allow_log("bad.qcow2")
    for name in ("full/bad.qcow2", "raw/bad.qcow2.raw", ".vdifs/map/bad.qcow2.json"):
        status = (mounted / name).stat()
        assert (status.st_size, status.st_blocks) == (0, 0), name


def test_du_counts_what_is_there(mounted: Mounted) -> None:
    words = [require_tool("du"), "--block-size=512", "-s"]
    shown = subprocess.run([*words, mounted / ".vdifs"], check=True, capture_output=True, text=True).stdout
    blocks = sum((mounted / name).stat().st_blocks for name in files_of(mounted.path) if name.startswith(".vdifs/"))
    assert abs(int(shown.split()[0]) - blocks) < 16, "the status file may have grown"


@pytest.mark.parametrize("options", [["-S"], ["-S", "--hole-detection=raw"]])
def test_tar(mounts: Mounts, mounted: Mounted, options: list[str]) -> None:
    archive, copy = mounts.scratch / "archive.tar", mounts.scratch / "copy"
    copy.mkdir()
    tar = require_tool("tar")
    done = subprocess.run([tar, "-C", mounted.path, *options, "-cf", archive, "."], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run([tar, "-C", copy, "-xf", archive], check=True)
    assert_the_same(mounted, copy)
    whole = sum((mounted / name).stat().st_size for name in files_of(mounted.path))
    assert archive.stat().st_size < whole - 8 * MIB, "of the disk with nothing in it, nothing is there"


@pytest.mark.parametrize("sparse", ["auto", "always"])
def test_cp(mounts: Mounts, mounted: Mounted, sparse: str) -> None:
    copy = mounts.scratch / "copy"
    subprocess.run([require_tool("cp"), "-a", f"--sparse={sparse}", mounted.path, copy], check=True, timeout=100)
    assert_the_same(mounted, copy)
    assert (copy / "raw/nothing.qcow2.raw").stat().st_blocks * 512 < MIB


def test_rsync(mounts: Mounts, mounted: Mounted) -> None:
    copy = mounts.scratch / "copy"
    subprocess.run([require_tool("rsync"), "-aHS", f"{mounted.path}/", copy], check=True, timeout=100)
    assert_the_same(mounted, copy)


def test_the_size_of_the_status_file_is_what_is_read(mounted: Mounted) -> None:
    path = mounted / STATUS
    for number in range(20):
        size = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            assert os.fstat(file.fileno()).st_size == size
            (mounted / f"full/{('base', 'monday', 'tuesday')[number % 3]}.qcow2").read_bytes()
            contents = file.read(size)
            assert len(contents) == size
            assert file.read(100) == b""
            assert os.fstat(file.fileno()).st_size == size, "what tar takes for a change while it reads"
        assert json.loads(contents)["schema"] == 1
    assert mounted.status()["counters"]["reads"] > 0, "who opens it without a look at the size has the present state"
