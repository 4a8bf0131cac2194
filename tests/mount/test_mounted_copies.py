"""Copies out of a mount are images that QEMU accepts as its own, wherever they are taken."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.mounting import Mounts
from tests.support import oracle

NAMES = ("base.qcow2", "monday.qcow2", "tuesday.qcow2")


def cp(*arguments: str | Path) -> None:
    subprocess.run([require_tool("cp"), *arguments], check=True, timeout=60)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every synthetic file of a mount."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".vdifs" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def inodes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*")}


def test_every_file_is_valid_and_holds_what_its_image_holds(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for path in [*(mounted / "full").iterdir(), *(mounted / "delta").glob("*/*")]:
        oracle.check(path)
    for name in NAMES:
        oracle.compare(mounted / f"full/{name}", source / name)
        oracle.compare(mounted / f"raw/{name}.raw", source / name, left_format="raw")


def test_a_delta_opens_where_it_stands(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for base, name in (("base", "monday"), ("base", "tuesday"), ("monday", "tuesday")):
        oracle.compare(mounted / f"full/{name}.qcow2", mounted / f"delta/{base}.qcow2/{name}.qcow2")


def test_a_full_image_copied_elsewhere_stands_alone(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    backup = mounts.scratch / "backup"
    backup.mkdir()
    cp(mounted / "full/tuesday.qcow2", backup)
    assert "backing-filename" not in oracle.info(backup / "tuesday.qcow2")
    oracle.check(backup / "tuesday.qcow2")
    oracle.compare(backup / "tuesday.qcow2", source / "tuesday.qcow2")


def test_an_incremental_chain_copied_elsewhere_is_a_working_chain(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    backup = mounts.scratch / "backup"
    backup.mkdir()
    delta = mounted / "delta"
    cp(delta / "base.qcow2/base.qcow2", delta / "base.qcow2/monday.qcow2", delta / "monday.qcow2/tuesday.qcow2", backup)
    assert mounted.umount().status == 0
    shutil.move(source, mounts.scratch / "moved away")
    for name in NAMES:
        oracle.check(backup / name)
        oracle.compare(backup / name, mounts.scratch / "moved away" / name)
    assert oracle.info(backup / "tuesday.qcow2")["backing-filename"] == "monday.qcow2"


def test_a_copied_chain_mounted_again_is_the_same(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    backup = mounts.scratch / "backup"
    backup.mkdir()
    delta = mounted / "delta"
    cp(delta / "base.qcow2/base.qcow2", delta / "base.qcow2/monday.qcow2", delta / "monday.qcow2/tuesday.qcow2", backup)
    again = mounts(backup)
    assert (again / "full/tuesday.qcow2").read_bytes() == (mounted / "full/tuesday.qcow2").read_bytes()


def test_plain_cp_keeps_a_raw_view_sparse(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    copy = mounts.scratch / "copy.raw"
    cp(mounted / "raw/base.qcow2.raw", copy)
    assert copy.stat().st_size == images.SIZE
    assert copy.stat().st_blocks * 512 < images.SIZE // 2
    oracle.compare(copy, source / "base.qcow2", left_format="raw")


def test_cp_of_everything_keeps_hard_links_and_times(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    copy = mounts.scratch / "copy"
    cp("-a", mounted.path, copy)
    assert os.path.samefile(copy / "full/base.qcow2", copy / "delta/base.qcow2/base.qcow2")
    assert (copy / "full/base.qcow2").stat().st_mtime_ns == (source / "base.qcow2").stat().st_mtime_ns
    oracle.compare(copy / "delta/base.qcow2/tuesday.qcow2", source / "tuesday.qcow2")


def test_rsync_copies_everything_and_a_second_time_nothing(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    copy = mounts.scratch / "copy"
    command = [require_tool("rsync"), "-aHS", "--exclude=.vdifs", "--itemize-changes", f"{mounted.path}/", str(copy)]
    subprocess.run(command, check=True, timeout=60)
    assert digests(copy) == digests(mounted.path)
    assert mounted.umount().status == 0
    again = mounts(source, mounted.path)
    second = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert not [line for line in second.stdout.splitlines() if line.startswith(">")]
    assert again.status()["counters"]["reads"] == 0


def test_two_mounts_and_a_restart_give_the_same_bytes(mounts: Mounts, source: Path) -> None:
    first, second = mounts(source), mounts(source)
    wanted, numbers = digests(first.path), inodes(first.path)
    assert len(wanted) == 15
    assert digests(second.path) == wanted
    assert inodes(second.path) == numbers
    assert first.umount().status == 0
    restarted = mounts(source, first.path)
    assert digests(restarted.path) == wanted
    assert inodes(restarted.path) == numbers


def test_a_source_copied_to_another_folder_gives_the_same_bytes(mounts: Mounts, source: Path) -> None:
    images.raw_based(source / "below")
    elsewhere = mounts.scratch / "elsewhere"
    cp("-a", "--sparse=auto", source, elsewhere)
    assert digests(mounts(elsewhere).path) == digests(mounts(source).path)
