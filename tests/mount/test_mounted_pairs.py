"""Deltas between states that share a past, in a mount: those of snapshots are listed, the others are found by name."""

import errno
import os
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

import vdifs
from tests.conftest import require_tool
from tests.mount.mounting import Mounted, Mounts, eventually
from tests.support import oracle
from tests.support.builder import make
from tests.support.units import KIB, MIB

SIZE = 8 * MIB


@pytest.fixture
def source(mounts: Mounts) -> Path:
    """Siblings on one base, one of them in a folder; a file with three snapshots; a raw file with two overlays."""
    folder = mounts.scratch / "src"
    (folder / "vms").mkdir(parents=True)
    make(folder / "base.qcow2", SIZE, "write -P 1 0 4M")
    make(folder / "a.qcow2", SIZE, "write -P 2 1M 64k", "write -z 2M 64k", backing=("base.qcow2", "qcow2"))
    make(folder / "vms/b.qcow2", SIZE, "write -P 3 1M 64k", backing=("../base.qcow2", "qcow2"))
    disk = make(folder / "disk.qcow2", SIZE, "write -P 1 0 4M")
    for number, name in enumerate(("mon", "tue", "wed")):
        oracle.qemu_img("snapshot", "-c", name, disk.path)
        disk.io(f"write -P {number + 2} {number}M 64k", f"discard {number + 1}M 64k")
    make(folder / "stranger.qcow2", SIZE, "write -P 1 0 64k")
    return folder


PAIRS = [
    ("disk.qcow2@mon", "disk.qcow2@tue", True),
    ("disk.qcow2@mon", "disk.qcow2@wed", True),
    ("disk.qcow2@mon", "disk.qcow2", True),
    ("disk.qcow2@wed", "disk.qcow2", True),
    ("disk.qcow2@wed", "disk.qcow2@mon", False),
    ("disk.qcow2", "disk.qcow2@mon", False),
    ("a.qcow2", "vms/b.qcow2", False),
    ("vms/b.qcow2", "a.qcow2", False),
    ("a.qcow2", "base.qcow2", False),
]


def test_every_pair_that_shares_a_file_reads_on_its_base_as_its_image(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for base, image, listed in PAIRS:
        path = mounted / "delta" / base / image
        oracle.compare(path, mounted / "full" / image)
        oracle.check(path)
        assert (path.name in os.listdir(path.parent)) == listed, (base, image)
        file, _, snapshot = image.partition("@")
        with vdifs.open(
            source / file, snapshot=snapshot or None, base=source / base, backing_name=stated(path), trusted=[source]
        ) as opened:
            assert path.read_bytes() == opened.read_at(0, opened.size)
        assert os.getxattr(path, "user.vdifs.base") == os.fsencode(base)
        assert path.stat().st_size < (mounted / "full" / image).stat().st_size


def stated(path: Path) -> str:
    return str(oracle.info(path)["backing-filename"])


def test_what_shares_nothing_is_not_there(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for path in (
        "a.qcow2/stranger.qcow2",
        "stranger.qcow2/a.qcow2",
        "a.qcow2/gone",
        "a.qcow2/vm",
        "stranger.qcow2/vms",
    ):
        with pytest.raises(FileNotFoundError):
            (mounted / "delta" / path).stat()
    assert os.listdir(mounted / "delta/a.qcow2/vms") == [], "it is there for those who know what is in it"


def test_a_chain_of_snapshot_deltas_opens_from_another_folder(mounts: Mounts, source: Path) -> None:
    """Each is a copy from the folder of the one before; a snapshot in between is pruned by a rebase of QEMU's."""
    mounted, backup = mounts(source), mounts.scratch / "backup"
    backup.mkdir()
    names = ["disk.qcow2@mon", "disk.qcow2@tue", "disk.qcow2@wed", "disk.qcow2"]
    shutil.copy(mounted / "delta" / names[0] / names[0], backup)
    for base, image in pairwise(names):
        shutil.copy(mounted / "delta" / base / image, backup)
    for image in names:
        oracle.compare(backup / image, mounted / "full" / image)
    oracle.qemu_img("rebase", "-f", "qcow2", "-b", names[0], "-F", "qcow2", names[2], cwd=backup)
    (backup / names[1]).unlink()
    oracle.compare(backup / names[3], mounted / "full" / names[3])


def test_a_delta_is_stale_when_either_of_its_chains_has_changed(mounts: Mounts, source: Path) -> None:
    for changed in ("a.qcow2", "vms/b.qcow2"):
        mounted = mounts(source)
        mounted.expect_log("changed since it was opened")
        path = mounted / "delta/a.qcow2/vms/b.qcow2"
        before = path.stat().st_ino
        with path.open("rb", buffering=0) as file:
            file.read(512)
            oracle.qemu_io(source / changed, ["write -P 9 6M 64k"])
            assert is_stale(file.fileno())
        eventually(partial(has_another_number, path, before))
        oracle.compare(path, mounted / "full/vms/b.qcow2")


def has_another_number(path: Path, before: int) -> bool:
    return path.stat().st_ino != before


def is_stale(file: int) -> bool:
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(file, 64 * KIB, 0)
    except OSError as error:
        return error.errno == errno.ESTALE
    return False


@pytest.mark.usefixtures("root_only")
def test_no_user_reads_a_delta_who_may_not_read_its_base(mounts: Mounts, source: Path) -> None:
    (source / "a.qcow2").chmod(0o600)
    mounted = mounts(source, allow_other=True)
    assert mode(mounted, "delta/a.qcow2/vms/b.qcow2") & 0o044 == 0
    assert mode(mounted, "delta/vms/b.qcow2/a.qcow2") & 0o044 == 0
    assert mode(mounted, "delta/base.qcow2/vms/b.qcow2") & 0o444 == 0o444
    file = str(mounted / "delta/a.qcow2/vms/b.qcow2")
    with pytest.raises(oracle.OracleError, match="Permission denied"):
        oracle.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", require_tool("cat"), file)


def mode(mounted: Mounted, path: str) -> int:
    return (mounted / path).stat().st_mode
