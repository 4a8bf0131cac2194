"""A mount keeps nothing that is of no use: no descriptor of images that are idle, no space of those that have gone."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.mount.mounting import SOON_S, Mounted, Mounts, eventually, links_of, umount_disk

MIB = 1 << 20
GENERATIONS = 50


def held(mounted: Mounted, folder: Path) -> list[str]:
    """Return which files of a folder the daemon has open, those that were deleted included."""
    return [link for link in links_of(mounted.pid).values() if link.startswith(f"{folder}/")]


def test_an_idle_image_is_closed(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    for path in (mounted / "full").iterdir():
        path.stat()
    (mounted / "raw/tuesday.qcow2.raw").read_bytes()
    eventually(lambda: not held(mounted, source), within=SOON_S)
    assert mounted.status()["images_open"] == 0


def test_an_image_that_is_open_stays_open(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source)
    with (mounted / "raw/tuesday.qcow2.raw").open("rb", buffering=0) as file:
        (mounted / "full/base.qcow2").stat()
        time.sleep(3)
        assert {os.path.basename(link) for link in held(mounted, source)} == {path.name for path in source.iterdir()}
        assert len(file.read(4096)) == 4096


@pytest.mark.parametrize("look", ["ls -l", "cat"])
def test_of_an_image_that_is_replaced_again_and_again_one_generation_is_kept(
    mounts: Mounts, look: str, disk: Path
) -> None:
    """A job that replaces an image every night, and one that looks at the mount, do not fill the disk."""
    image, fresh = disk / "vm.raw", disk / ".fresh"

    def renew(number: int) -> None:
        fresh.write_bytes(number.to_bytes(4, "big") * (MIB // 4))
        os.replace(fresh, image)

    renew(0)
    mounted = mounts(disk)
    first = os.statvfs(disk).f_bfree
    for number in range(1, GENERATIONS):
        renew(number)
        for path in (mounted / "raw").iterdir():
            subprocess.run([*look.split(), path], check=False, capture_output=True)
        assert len([link for link in held(mounted, disk) if link.endswith("(deleted)")]) <= 1
        used = (first - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_frsize
        assert used < 2 * MIB, f"{used} bytes more than at first, after {number} generations"
    image.unlink()
    eventually(lambda: not held(mounted, disk), within=SOON_S)


@pytest.fixture
def disk(mounts: Mounts) -> Iterator[Path]:
    """A file system of its own, mounted; a folder where only root may mount one."""
    folder = mounts.scratch / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        yield folder
        return
    image = mounts.scratch / "disk.img"
    with image.open("wb") as file:
        file.truncate(32 * MIB)
    subprocess.run([require_tool("mkfs.ext4"), "-qF", image], check=True)
    subprocess.run([require_tool("mount"), "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        mounts.end_all()
        umount_disk(folder)


@pytest.mark.usefixtures("root_only")
def test_a_disk_below_the_source_can_be_unmounted_once_its_images_are_idle(
    mounts: Mounts, source: Path, disk: Path
) -> None:
    below = mounts.scratch / "all"
    (below / "disk").mkdir(parents=True)
    for image in source.iterdir():
        shutil.copy(image, disk)
        shutil.copy(image, below)
    subprocess.run([require_tool("mount"), "--bind", disk, below / "disk"], check=True)
    mounted = mounts(below)
    mounted.allow_log("another folder has taken its place")
    try:
        assert (mounted / "raw/disk/tuesday.qcow2.raw").read_bytes()
        assert (mounted / "full/disk/monday.qcow2").stat().st_size
        with (mounted / "full/monday.qcow2").open("rb") as file:  # of another disk
            eventually(lambda: subprocess.run(["umount", below / "disk"], capture_output=True).returncode == 0, SOON_S)
            assert file.read(3) == b"QFI"
        eventually(lambda: subprocess.run(["umount", disk], capture_output=True).returncode == 0)
        subprocess.run(["mount", "-o", "loop", mounts.scratch / "disk.img", disk], check=True)
    finally:
        subprocess.run(["umount", "-l", below / "disk"], capture_output=True)
