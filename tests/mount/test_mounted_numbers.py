"""Inode numbers say what a file is, not where its disk lies: the same after a reboot, and in a snapshot elsewhere.

Backup programs that go by them (restic, borg) read nothing again of what has not changed.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.conftest import require_tool
from tests.mount import images
from tests.mount.disks import MIB, disk_mounted, make_disk
from tests.mount.mounting import Mounted, Mounts, eventually
from tests.mount.test_mounted_copies import digests, inodes
from tests.support import oracle
from tests.support.builder import make, write_stamped

T = TypeVar("T")
pytestmark = pytest.mark.usefixtures("root_only")


def etags(mounted: Mounted) -> dict[str, bytes]:
    found = [path for section in ("full", "delta", "raw") for path in (mounted / section).rglob("*") if path.is_file()]
    served = [path for path in found if not path.name.startswith(("broken", "top"))]
    return {str(path.relative_to(mounted.path)): os.getxattr(path, "user.vdifs.etag") for path in served}


@pytest.fixture
def disk(mounts: Mounts) -> Path:
    """A disk, not mounted, with a week in `images`, another beside it, and a base in `templates` that they share."""
    disk = make_disk(mounts.scratch / "disk.img", "ext4", 64 * MIB)
    with disk_mounted(mounts, disk, mounts.scratch / "making") as folder:
        images.week(folder / "images/vms")
        images.raw_based(folder / "images")
        make(folder / "images/broken.qcow2", MIB, backing=("vms/base.qcow2", "qcow2"))
        oracle.qemu_img("rebase", "-u", "-b", "gone.qcow2", "-F", "qcow2", folder / "images/broken.qcow2")
        (folder / "templates").mkdir()
        make(folder / "templates/common.qcow2", MIB)
        backing = ("../templates/common.qcow2", "qcow2")
        make(folder / "images/top.qcow2", MIB, backing=backing)
    return disk


def test_a_disk_mounted_under_another_number_and_a_copy_of_it_have_the_same(mounts: Mounts, disk: Path) -> None:
    copy = mounts.scratch / "copy.img"
    shutil.copy(disk, copy)
    with (
        disk_mounted(mounts, disk, mounts.scratch / "one") as one,
        disk_mounted(mounts, copy, mounts.scratch / "other") as other,
    ):
        assert one.stat().st_dev != other.stat().st_dev
        first, second = (mounts(each / "images") for each in (one, other))
        for mounted in (first, second):
            mounted.allow_log("(its backing file cannot be opened|not beneath a trusted directory)")
        known = inodes(first.path)
        assert len(known) == len(set(known.values())) + 6, "unique, but for the hard links of the six bases"
        assert inodes(second.path) == known
        assert etags(second) == etags(first)
        assert digests(second / "raw/vms") == digests(first / "raw/vms")


def test_what_lies_on_a_trusted_folder_that_is_mounted_elsewhere_has_the_same(mounts: Mounts, disk: Path) -> None:
    copy = mounts.scratch / "copy.img"
    shutil.copy(disk, copy)
    numbers = []
    for number, image in enumerate((disk, copy)):
        with disk_mounted(mounts, image, mounts.scratch / f"night{number}") as folder:
            mounted = mounts(folder / "images", trusted=[str(folder / "templates")])
            mounted.allow_log("broken.qcow2")
            numbers.append({path: (mounted / path).stat().st_ino for path in ("full/top.qcow2", "raw/top.qcow2.raw")})
    assert numbers[0] == numbers[1]


def test_a_snapshot_of_a_btrfs_subvolume_has_the_same(mounts: Mounts) -> None:
    disk = make_disk(mounts.scratch / "disk.img", "btrfs", 200 * MIB)
    btrfs = require_tool("btrfs")
    with disk_mounted(mounts, disk, mounts.scratch / "disk") as folder:
        subprocess.run([btrfs, "subvolume", "create", folder / "images"], check=True, capture_output=True)
        images.week(folder / "images")
        words = ["subvolume", "snapshot", "-r", str(folder / "images"), str(folder / "tonight")]
        subprocess.run([btrfs, *words], check=True, capture_output=True)
        live, snapshot = mounts(folder / "images"), mounts(folder / "tonight")
        assert (folder / "images").stat().st_dev != (folder / "tonight").stat().st_dev
        assert inodes(snapshot.path) == inodes(live.path)
        write_stamped(folder / "images/monday.qcow2", {0: 512}, 9)
        os.utime(folder / "images/monday.qcow2", ns=(0, (folder / "tonight/monday.qcow2").stat().st_mtime_ns))
        before = inodes(snapshot.path / "full")
        changed = {"monday.qcow2", "tuesday.qcow2"}
        eventually(lambda: {name for name, inode in inodes(live / "full").items() if inode != before[name]} == changed)
        assert (live / "full/monday.qcow2").stat().st_ctime_ns > (snapshot / "full/monday.qcow2").stat().st_ctime_ns


def test_two_files_that_look_the_same_on_two_disks_have_numbers_of_their_own(mounts: Mounts, disk: Path) -> None:
    copy = mounts.scratch / "copy.img"
    shutil.copy(disk, copy)
    source = mounts.scratch / "src"
    source.mkdir()
    with disk_mounted(mounts, disk, source / "one"), disk_mounted(mounts, copy, source / "other"):
        mounted = mounts(source)
        mounted.allow_log("its backing file cannot be opened|not beneath a trusted")
        known = inodes(mounted.path)
        files = {path: number for path, number in known.items() if path.startswith(("full/", "raw/"))}
        assert len(set(files.values())) == len(files)
        assert (source / "one/images/x.raw").stat().st_ino == (source / "other/images/x.raw").stat().st_ino


def restic(repository: Path, *words: str | Path) -> list[dict[str, object]]:
    environment = {**os.environ, "RESTIC_PASSWORD": "test", "RESTIC_CACHE_DIR": str(repository.parent / "cache")}
    command = [require_tool("restic"), "-r", repository, "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def borg(repository: Path, *words: str | Path) -> str:
    environment = {**os.environ, "BORG_BASE_DIR": str(repository.parent), "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
    command = [require_tool("borg"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def nights(mounts: Mounts, disk: Path, backup: Callable[[Mounted], T]) -> list[T]:
    """Back the images up on three nights: of a disk, of a copy of it, and of that once an image has changed."""
    copy, mountpoint = mounts.scratch / "copy.img", mounts.scratch / "mnt"
    shutil.copy(disk, copy)
    mountpoint.mkdir()
    found: list[T] = []
    for night, image in enumerate((disk, copy, copy)):
        with disk_mounted(mounts, image, mounts.scratch / f"night{night}") as folder:
            if night == 2:
                write_stamped(folder / "images/vms/monday.qcow2", {0: 512}, 9)
            mounted = mounts(folder / "images/vms", mountpoint)
            found.append(backup(mounted))
    return found


def test_restic_reads_nothing_again(mounts: Mounts, disk: Path) -> None:
    repository = mounts.scratch / "restic/repository"
    restic(repository, "init")

    def backup(mounted: Mounted) -> tuple[object, ...]:
        done = restic(repository, "backup", mounted / "full", mounted / "delta", mounted / "raw")[-1]
        return done["files_new"], done["files_changed"], done["files_unmodified"]

    first, second, third = nights(mounts, disk, backup)
    assert first == (15, 0, 0)
    assert second == (0, 0, 15)
    assert third == (0, 11, 4), "all but the base alone: full, beside its deltas, against itself, raw"


def test_borg_reads_nothing_again(mounts: Mounts, disk: Path) -> None:
    repository = mounts.scratch / "borg/repository"
    repository.parent.mkdir()
    borg(repository, "init", "-e", "none", repository)

    def backup(mounted: Mounted) -> list[str]:
        (mounts.scratch / "newer").touch()  # borg reads the newest of all files again, whatever it is
        archive = f"{repository}::{{now:%s.%f}}"
        listed = borg(
            repository, "create", "--list", archive, mounted / "full", mounted / "raw", mounts.scratch / "newer"
        )
        return sorted(line for line in listed.splitlines() if line.startswith(("A ", "M ", "U ")) and "/mnt/" in line)

    first, second, third = nights(mounts, disk, backup)
    assert {line[0] for line in first} == {"A"}
    assert second == [f"U{line[1:]}" for line in first]
    assert {line[0] for line in third if "base" not in line} == {"M"}
    assert {line[0] for line in third if "base" in line} == {"U"}
