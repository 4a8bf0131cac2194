"""Clusters that stay packed, in a mount: as the library has them, unless told otherwise, and served without Python."""

import errno
import os
import random
from pathlib import Path
from typing import Literal

import pytest

import vdifs
from tests.mount import direct
from tests.mount.direct import PAGE
from tests.mount.mounting import Mounted, Mounts
from tests.mount.serving.served import require_local_disk
from tests.support import oracle
from tests.support.builder import CLUSTER, make
from tests.support.image_file import Image
from tests.support.packing import METHODS, put
from tests.support.stamps import stamped
from tests.support.units import MIB

SIZE = 8 * MIB


@pytest.fixture(params=METHODS)
def image(mounts: Mounts, request: pytest.FixtureRequest) -> Image:
    """An image that is compressed all through, below an overlay of little, in a folder of their own."""
    folder = mounts.scratch / "src"
    folder.mkdir()
    data = mounts.scratch / "data"
    data.write_bytes(stamped(0, SIZE, 1))
    image = make(folder / "base.qcow2", SIZE, compression_type=request.param).io(f"write -c -s {data} 0 {SIZE}")
    make(folder / "top.qcow2", SIZE, "write -P 7 1M 1k", "write -z 2M 64k", backing=("base.qcow2", "qcow2"))
    require_local_disk(image.path)
    return image


def test_a_copy_is_small_and_holds_the_disk(mounts: Mounts, image: Image) -> None:
    kept, expanded = mounts(image.path.parent), mounts(image.path.parent, packed="expand")
    views: tuple[tuple[Mounted, Literal["keep", "expand"]], ...] = ((kept, "keep"), (expanded, "expand"))
    for mounted, packed in views:
        with vdifs.open(image.path.parent / "top.qcow2", packed=packed) as opened:
            file = mounted / "full/top.qcow2"
            assert file.read_bytes() == opened.read_at(0, opened.size)
            assert int(os.getxattr(file, "user.vdifs.packed")) == opened.packed
            assert os.getxattr(file, "user.vdifs.etag").decode() == opened.etag
            assert file.stat().st_blocks * 512 == file.stat().st_size
    assert (kept / "full/top.qcow2").stat().st_size < (expanded / "full/top.qcow2").stat().st_size / 4
    assert (kept / "full/top.qcow2").stat().st_ino != (expanded / "full/top.qcow2").stat().st_ino
    assert (kept / "raw/top.qcow2.raw").read_bytes() == (expanded / "raw/top.qcow2.raw").read_bytes()
    copy = mounts.scratch / "copy.qcow2"
    copy.write_bytes((kept / "full/top.qcow2").read_bytes())
    oracle.check(copy)
    oracle.compare(copy, image.path.with_name("top.qcow2"))


def test_warm_reads_of_packed_clusters_never_wake_python(mounts: Mounts, image: Image, rng: random.Random) -> None:
    mounted = mounts(image.path.parent)
    with direct.opened(mounted / "full/base.qcow2") as file:
        size = os.fstat(file).st_size
        pages = size // PAGE
        places = [(rng.randrange(pages) * PAGE, rng.choice([PAGE, 4 * PAGE])) for _ in range(10)]
        for at, length in places:
            direct.warmed(file, mounted.pid, at, length)
        slept = direct.sleeps(mounted.pid)
        for at, length in 40 * places:
            os.pread(file, length, at)
        slept = direct.sleeps(mounted.pid) - slept
    assert slept < 200


def test_a_reader_in_order_finds_packed_clusters_unpacked_ahead(mounts: Mounts, image: Image) -> None:
    """The plane has answered a good part of the reads: what Python resolves is ahead of the reader."""
    mounted = mounts(image.path.parent)
    with direct.opened(mounted / "full/base.qcow2") as file, vdifs.open(image.path) as opened:
        read = b"".join(os.pread(file, PAGE, at) for at in range(0, opened.size, PAGE))
        assert read == opened.read_at(0, opened.size)
        again = direct.sleeps(mounted.pid)
        for at in range(0, opened.size, PAGE):
            os.pread(file, PAGE, at)
        assert direct.sleeps(mounted.pid) - again < opened.size // PAGE // 2


def test_a_damaged_packed_cluster_is_eio_and_the_rest_is_read(mounts: Mounts, image: Image) -> None:
    put(image, b"\xff" * 1000, cluster=100)
    mounted = mounts(image.path.parent)
    mounted.expect_log("compressed cluster at .*: the compressed data are damaged")
    failed = unreadable(mounted / "full/base.qcow2")
    assert 0 < len(failed) <= 3, "pages"
    assert failed == unreadable(mounted / "full/base.qcow2"), "the same when it is known"
    with (mounted / "raw/base.qcow2.raw").open("rb") as file:
        assert file.read(CLUSTER) == stamped(0, CLUSTER, 1)


def unreadable(path: Path) -> list[int]:
    """Return the offsets of the pages that end with EIO."""
    failed = []
    with direct.opened(path) as file:
        for at in range(0, os.fstat(file).st_size, PAGE):
            try:
                os.pread(file, PAGE, at)
            except OSError as error:
                assert error.errno == errno.EIO
                failed.append(at)
    return failed


def test_a_source_that_changes_is_stale_also_where_its_packed_ends_are_known(mounts: Mounts, image: Image) -> None:
    mounted = mounts(image.path.parent)
    with direct.opened(mounted / "full/base.qcow2") as file:
        for at in range(0, os.fstat(file).st_size, PAGE):
            os.pread(file, PAGE, at)
        mounted.expect_log("base.qcow2: changed since it was opened")
        pages = os.fstat(file).st_size // PAGE
        image.write(image.path.stat().st_size, b"more")
        assert all(is_stale(file, page * PAGE) for page in (0, pages // 2, pages - 1))


def is_stale(file: int, at: int) -> bool:
    try:
        os.pread(file, PAGE, at)
    except OSError as error:
        return error.errno == errno.ESTALE
    return False
