"""The folder vmdk/ of a mount: VMDKs as other programs read them, and reads of them that never enter Python."""

import errno
import os
import random
from pathlib import Path
from threading import Thread

import pytest

import vdifs
from tests.mount import direct, images
from tests.mount.mounting import Mounts
from tests.mount.serving.served import require_local_disk
from tests.output.vmdk.model import GRAINS_AT, STORED_SIZE, SUM_AT
from tests.support import oracle
from tests.support.builder import make, make_raw
from tests.support.seven_zip import by_7zip
from tests.support.stamps import stamped
from tests.support.units import KIB, MIB, TIB
from tests.support.vmdk_reading import by_libvmdk


def test_the_vmdks_of_a_mount_are_the_disks_of_their_images(mounts: Mounts, source: Path) -> None:
    images.raw_based(source / "below")
    mounted = mounts(source, views=["vmdk", "raw"])
    assert sorted(os.listdir(mounted.path)) == [".vdifs", "raw", "vmdk"]
    for image in ("tuesday.qcow2", "below/top.qcow2", "below/x.raw"):
        disk, shown = mounted / f"raw/{image}.raw", mounted / f"vmdk/{image}.vmdk"
        with vdifs.open(source / image, view="vmdk") as opened:
            assert shown.read_bytes() == b"".join(opened.stream())
            assert shown.stat().st_size == opened.size
            assert os.getxattr(shown, "user.vdifs.etag").decode() == opened.etag
        oracle.compare(shown, disk, left_format="vmdk", right_format="raw")
        assert by_7zip(shown, "vmdk") == by_libvmdk(shown) == disk.read_bytes()
    assert mounted.status()["problems"] == []


def test_warm_reads_are_answered_by_the_data_plane(mounts: Mounts, rng: random.Random) -> None:
    """Markers and sums too, also where a read begins behind what a sum is of: the thread that runs Python sleeps on."""
    source = mounts.scratch / "src"
    source.mkdir()
    make_raw(source / "disk.raw", stamped(0, 3 * MIB, 1) + bytes(MIB) + stamped(4 * MIB, MIB + 512, 1))
    require_local_disk(source / "disk.raw")
    mounted = mounts(source, views=["vmdk"])
    with (
        direct.opened(mounted / "vmdk/disk.raw.vmdk") as file,
        vdifs.open(source / "disk.raw", view="vmdk") as image,
    ):
        size, sums = image.size, [GRAINS_AT + rank * STORED_SIZE + SUM_AT for rank in (0, 1, 20, 47, 48, 63)]
        places = [(at, length) for at in (0, GRAINS_AT - 4096, GRAINS_AT) for length in (4 * KIB, 128 * KIB)]
        places += [(at // 4096 * 4096, length) for at in sums for length in (4 * KIB, 64 * KIB)]
        places += [(rng.randrange(size // 4096) * 4096, 128 * KIB) for _ in range(10)]
        for at, length in places:
            direct.warmed(file, mounted.pid, at, length)
        before, slept = mounted.status()["counters"]["reads"], direct.sleeps(mounted.pid)
        for at, length in 20 * places:
            assert os.pread(file, length, at) == image.read_at(at, length)
        slept = direct.sleeps(mounted.pid) - slept
        read = mounted.status()["counters"]["reads"] - before
    assert read >= 20 * len(places)
    assert slept < read / 2


def test_several_readers_at_once_see_the_same_bytes(mounts: Mounts, source: Path) -> None:
    """One of them in order, the others anywhere, of a chain with small clusters."""
    mounted = mounts(source, views=["vmdk"])
    shown = mounted / "vmdk/tuesday.qcow2.vmdk"
    with vdifs.open(source / "tuesday.qcow2", view="vmdk") as image:
        whole = image.read_at(0, image.size)
    wrong: list[int] = []

    def read(seed: int) -> None:
        rng = random.Random(seed)
        with direct.opened(shown) as file:
            for number in range(300):
                at = number * 16 * KIB if seed == 0 else rng.randrange(len(whole)) // 4096 * 4096
                length = rng.choice([4 * KIB, 64 * KIB, 256 * KIB])
                if os.pread(file, length, at) != whole[at : at + length]:
                    wrong.append(at)

    readers = [Thread(target=read, args=[seed]) for seed in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_source_that_changes_is_stale_and_no_mix(mounts: Mounts) -> None:
    source = mounts.scratch / "src"
    source.mkdir()
    disk = make_raw(source / "disk.raw", stamped(0, MIB, 1))
    require_local_disk(disk)
    mounted = mounts(source, views=["vmdk"])
    at = (GRAINS_AT + 3 * STORED_SIZE + SUM_AT) // 4096 * 4096
    mounted.expect_log("disk.raw: changed since it was opened")
    with direct.opened(mounted / "vmdk/disk.raw.vmdk") as file:
        direct.warmed(file, mounted.pid, at, 4096)
        with disk.open("r+b") as opened:
            opened.seek(200 * KIB)
            opened.write(b"another")
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            os.pread(file, 4096, at)
    with vdifs.open(disk, view="vmdk") as image:
        assert (mounted / "vmdk/disk.raw.vmdk").read_bytes() == image.read_at(0, image.size)


def test_a_disk_too_large_for_a_vmdk_is_told_and_all_else_is_served(mounts: Mounts, source: Path) -> None:
    make(source / "large.qcow2", 33 * TIB)
    mounted = mounts(source, views=["full", "vmdk"])
    assert not (mounted / "vmdk/large.qcow2.vmdk").exists()
    assert (mounted / "full/large.qcow2").stat().st_size > 0
    (problem,) = mounted.status()["problems"]
    assert (problem["kind"], problem["severity"]) == ("too-large", "warning")
    assert "a vmdk holds disks of 32,768 GiB at most" in problem["message"]
