"""Mounts with other views than there are by default: VHDs as other programs read them, and what stat says of them."""

import os
import random
import subprocess
from pathlib import Path

import pytest

import vdifs
from tests.mount import direct, images
from tests.mount.mounting import Mounts
from tests.mount.serving.served import require_local_disk
from tests.support import oracle
from tests.support.builder import make, make_raw
from tests.support.seven_zip import by_7zip
from tests.support.stamps import stamped
from tests.support.units import GIB, KIB, MIB

FOLDERS = ("vhd", "vhd-fixed")


def test_the_vhds_of_a_mount_are_the_disks_of_their_images(mounts: Mounts, source: Path, tmp_path: Path) -> None:
    images.raw_based(source / "below")
    mounted = mounts(source, views=["vhd", "vhd-fixed", "raw"])
    assert sorted(os.listdir(mounted.path)) == [".vdifs", "raw", "vhd", "vhd-fixed"]
    for image in ("tuesday.qcow2", "below/top.qcow2", "below/x.raw"):
        disk = (mounted / f"raw/{image}.raw").read_bytes()
        for folder in FOLDERS:
            shown = mounted / f"{folder}/{image}.vhd"
            with vdifs.open(source / image, view=folder) as opened:  # type: ignore[arg-type] # each is a view
                assert shown.read_bytes() == b"".join(opened.stream())
                assert shown.stat().st_size == opened.size
                assert os.getxattr(shown, "user.vdifs.etag").decode() == opened.etag
            assert by_7zip(shown, "vhd") == disk.ljust(oracle.virtual_size(shown, "vpc"), b"\0")
            by_qemu = oracle.materialize(shown, tmp_path / "disk.raw", format="vpc").read_bytes()
            assert by_qemu.rstrip(b"\0") == disk.rstrip(b"\0")
            assert os.getxattr(shown, "user.vdifs.source") == image.encode()
            assert "user.vdifs.base" not in os.listxattr(shown)
            assert shown.stat().st_nlink == 1
    status = mounted.status()
    assert (status["problems"], status["views"]) == ([], ["vhd", "vhd-fixed", "raw"])


def test_what_was_left_out_is_nowhere(mounts: Mounts, source: Path) -> None:
    mounted = mounts(source, views=["full"])
    assert sorted(os.listdir(mounted.path)) == [".vdifs", "full"]
    for folder in ("raw", "delta", "vhd", "raw/base.qcow2.raw"):
        assert not (mounted / folder).exists()
    assert (mounted / "full/base.qcow2").stat().st_nlink == 1
    default = mounts(source)
    assert sorted(os.listdir(default.path)) == [".vdifs", "delta", "full", "raw"]
    assert (default / "full/base.qcow2").stat().st_nlink == 2
    assert default.status()["views"] == ["full", "delta", "raw"]


def test_a_disk_too_large_for_a_vhd_is_told_and_all_else_is_served(mounts: Mounts, source: Path) -> None:
    make(source / "large.qcow2", 2041 * GIB)
    mounted = mounts(source, views=["full", "vhd"])
    assert not (mounted / "vhd/large.qcow2.vhd").exists()
    assert (mounted / "full/large.qcow2").stat().st_size > 0
    assert (mounted / "vhd/base.qcow2.vhd").stat().st_size > 0
    status = mounted.status()
    (problem,) = status["problems"]
    assert (problem["kind"], problem["severity"], problem["keeps"]) == ("too-large", "warning", [])
    assert "a vhd holds disks of 2,040 GiB at most" in problem["message"]
    assert all(each["served"] for each in status["images"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_warm_reads_are_answered_by_the_data_plane(mounts: Mounts, folder: str, rng: random.Random) -> None:
    """Bitmaps and the gaps before them too: the thread that runs Python sleeps on."""
    source = mounts.scratch / "src"
    source.mkdir()
    disk = stamped(0, 9 * MIB + 512, 1)
    make_raw(source / "disk.raw", disk)
    require_local_disk(source / "disk.raw")
    mounted = mounts(source, views=[folder])
    with (
        direct.opened(mounted / f"{folder}/disk.raw.vhd") as file,
        vdifs.open(
            source / "disk.raw",
            view=folder,  # type: ignore[arg-type] # it is a view
        ) as image,
    ):
        size, bitmap = os.fstat(file).st_size, 4096 + 2 * MIB
        at_bitmap = [number * bitmap + at for number in range(1, 4) for at in (0, 4096)]
        places = [(at, 4 * KIB) for at in [0, *at_bitmap]] + [(at, 128 * KIB) for at in at_bitmap]
        places += [(rng.randrange(size // 4096) * 4096, 64 * KIB) for _ in range(10)]
        places.append((size // 4096 * 4096, 4 * KIB))
        for at, length in places:
            direct.warmed(file, mounted.pid, at, length)
        before, slept = mounted.status()["counters"]["reads"], direct.sleeps(mounted.pid)
        for at, length in 20 * places:
            assert os.pread(file, length, at) == image.read_at(at, length)
        slept = direct.sleeps(mounted.pid) - slept
        read = mounted.status()["counters"]["reads"] - before
    assert read >= 20 * len(places)
    assert slept < read / 2


def test_the_holes_of_a_fixed_vhd_are_passed_over_by_cp(mounts: Mounts) -> None:
    source = mounts.scratch / "src"
    source.mkdir()
    make(source / "disk.qcow2", 16 * GIB + 512, "write -P 1 1M 64k", "write -P 2 9G 64k")
    mounted, copy = mounts(source, views=["vhd-fixed"]), mounts.scratch / "copy.vhd"
    shown = mounted / "vhd-fixed/disk.qcow2.vhd"
    assert shown.stat().st_blocks * 512 < MIB
    before = mounted.status()["counters"]["bytes_read"]
    subprocess.run(["cp", shown, copy], check=True, timeout=100)
    assert mounted.status()["counters"]["bytes_read"] - before < 16 * MIB
    assert copy.stat().st_size == shown.stat().st_size == 16 * GIB + MIB + 512
    with shown.open("rb", buffering=0) as file:
        assert os.lseek(file.fileno(), 10 * GIB, os.SEEK_DATA) == 16 * GIB + MIB
        assert os.lseek(file.fileno(), 16 * GIB + MIB, os.SEEK_HOLE) == 16 * GIB + MIB + 512
    oracle.qemu_img("compare", "-f", "vpc", "-F", "qcow2", copy, source / "disk.qcow2")
