"""Every way to read gives the right bytes: read, mmap, sendfile, splice, O_DIRECT, loop devices, many at once."""

import mmap
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.conftest import require_tool
from tests.mount.mounting import Mounted, Mounts, umount_disk
from tests.support import oracle
from tests.support.builder import make

MIB = 1 << 20


@pytest.fixture
def mounted(mounts: Mounts, source: Path) -> Mounted:
    return mounts(source)


@pytest.fixture
def whole(mounts: Mounts, source: Path) -> bytes:
    """The guest contents of tuesday.qcow2, as QEMU says."""
    return oracle.materialize(source / "tuesday.qcow2", mounts.scratch / "whole").read_bytes()


def drop_caches(path: Path) -> None:
    """Have the kernel forget the pages of a file, so that the daemon is asked again."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def test_random_ranges(mounted: Mounted, whole: bytes) -> None:
    rng = Random(1)
    descriptor = os.open(mounted / "raw/tuesday.qcow2.raw", os.O_RDONLY)
    for _ in range(2000):
        offset, length = rng.randrange(len(whole) + 1000), int(2 ** rng.uniform(0, 20))
        assert os.pread(descriptor, length, offset) == whole[offset : offset + length]
    os.close(descriptor)


def test_four_readers_at_once(mounted: Mounted, whole: bytes) -> None:
    path = mounted / "raw/tuesday.qcow2.raw"

    def read(seed: int) -> None:
        rng = Random(seed)
        with path.open("rb", buffering=0) as file:
            for _ in range(300):
                offset, length = rng.randrange(len(whole)), rng.randrange(1, MIB)
                drop_caches(path) if rng.random() < 0.1 else None
                assert os.pread(file.fileno(), length, offset) == whole[offset : offset + length]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))


def test_mmap(mounted: Mounted, whole: bytes) -> None:
    with (
        (mounted / "raw/tuesday.qcow2.raw").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert mapped[:] == whole


@pytest.mark.parametrize("block_size", ["4096", "1M", "512", "12345"])
def test_direct_reads(mounted: Mounted, mounts: Mounts, whole: bytes, block_size: str) -> None:
    copy = mounts.scratch / "copy"
    count = f"count={3 * MIB // int(block_size)}" if block_size.isdigit() else "count=1000"
    subprocess.run(
        ["dd", f"if={mounted / 'raw/tuesday.qcow2.raw'}", f"of={copy}", f"bs={block_size}", count, "iflag=direct"],
        check=True,
        capture_output=True,
    )
    found = copy.read_bytes()
    assert len(found) >= 2 * MIB
    assert found == whole[: len(found)]


def test_sendfile_and_splice(mounted: Mounted, whole: bytes) -> None:
    with (mounted / "raw/tuesday.qcow2.raw").open("rb") as file:
        reading, writing = os.pipe()
        assert os.splice(file.fileno(), writing, 40_000, offset_src=5000) == 40_000
        assert os.read(reading, 65536) == whole[5000:45_000]
        assert os.sendfile(writing, file.fileno(), 9 * MIB, 3000) == 3000
        assert os.read(reading, 65536) == whole[9 * MIB : 9 * MIB + 3000]
        os.close(reading)
        os.close(writing)


def test_fio_verifies(mounts: Mounts) -> None:
    fio = require_tool("fio")
    source = mounts.scratch / "src"
    source.mkdir()
    plain = mounts.scratch / "plain"
    options = "--name=job --size=24M --bs=4k --rw=randwrite --verify=crc32c --norandommap=0 --verify_state_save=0"
    job = options.split()
    subprocess.run([fio, *job, f"--filename={plain}", "--do_verify=0"], check=True, capture_output=True, timeout=60)
    oracle.qemu_img("convert", "-f", "raw", "-O", "qcow2", plain, source / "a.qcow2")
    mounted = mounts(source)
    job[3] = "--rw=randread"
    subprocess.run(
        [fio, *job, f"--filename={mounted / 'raw/a.qcow2.raw'}", "--readonly", "--verify_only=0", "--numjobs=4"],
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_a_read_ends_only_at_the_end(mounted: Mounted) -> None:
    path = mounted / "full/tuesday.qcow2"
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)
    assert len(os.pread(descriptor, 1000, size - 10)) == 10
    assert os.pread(descriptor, 1000, size) == b""
    assert os.pread(descriptor, 1000, size + 12345) == b""
    os.close(descriptor)


@contextmanager
def loop_mounted(image: Path, folder: Path) -> Iterator[Path]:
    require_tool("losetup")
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "ro,loop", image, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr}")
    try:
        yield folder
    finally:
        umount_disk(folder)


@pytest.mark.usefixtures("root_only")
def test_the_file_system_in_a_raw_view_can_be_mounted(mounts: Mounts) -> None:
    source, files = mounts.scratch / "src", mounts.scratch / "files"
    source.mkdir()
    (files / "etc").mkdir(parents=True)
    rng = Random(7)
    for number in range(40):
        (files / f"etc/{number}").write_bytes(rng.randbytes(rng.randrange(200_000)))
    plain = mounts.scratch / "plain"
    with plain.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run([require_tool("mke2fs"), "-q", "-t", "ext4", "-d", files, plain], check=True, capture_output=True)
    oracle.qemu_img("convert", "-f", "raw", "-O", "qcow2", plain, source / "base.qcow2")
    make(source / "top.qcow2", 64 * MIB, backing=("base.qcow2", "qcow2"))
    mounted = mounts(source)
    with loop_mounted(mounted / "raw/top.qcow2.raw", mounts.scratch / "disk") as disk:
        for number in range(40):
            assert (disk / f"etc/{number}").read_bytes() == (files / f"etc/{number}").read_bytes()


@pytest.mark.usefixtures("root_only")
def test_the_kernel_reads_far_ahead(mounted: Mounted) -> None:
    device = mounted.path.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert setting.read_text().strip() == "1024"
