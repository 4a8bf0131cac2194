"""Sources that hang or fail: their own readers get EIO, other readers notice nothing, and later all is well."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mount import images
from tests.mount.mounting import PATIENCE_S, ROOT, Mounted, Mounts, eventually
from tests.support import oracle
from tests.support.stamps import difference, stamped
from vdifs.mount.fuse.fusectl import fusectl

DEADLINE_S = 3.0
MIB = 1 << 20


@dataclass
class Faulty:
    """A source of which the folder `slow` lies on a file system that can be told to hang or to fail."""

    source: Path
    flags: Path

    def begin(self, what: str) -> None:
        (self.flags / what).touch()

    def end(self, what: str) -> None:
        (self.flags / what).unlink(missing_ok=True)


@pytest.fixture
def faulty(mounts: Mounts, source: Path) -> Iterator[Faulty]:
    backing, flags, slow = mounts.scratch / "backing", mounts.scratch / "flags", source / "slow"
    images.week(backing)
    flags.mkdir()
    slow.mkdir()
    command = [sys.executable, "-m", "tests.mount.hanging", str(backing), str(slow), str(flags)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        eventually(lambda: os.path.ismount(slow))
        made = Faulty(source, flags)
        yield made
        made.end("hang")
        problems = mounts.end_all()
        umount = ["umount", str(slow)] if os.geteuid() == 0 else ["fusermount3", "-u", str(slow)]
        try:
            eventually(lambda: subprocess.run(umount, capture_output=True).returncode == 0)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
        assert problems == []


@pytest.fixture
def mounted(mounts: Mounts, faulty: Faulty) -> Mounted:
    return mounts(faulty.source, deadline=DEADLINE_S)


def errno_of_read(path: Path, offset: int = 0) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(descriptor, 4096, offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "read"


def test_a_slow_source_is_served_like_any_other(mounted: Mounted, faulty: Faulty) -> None:
    oracle.compare(mounted / "full/slow/tuesday.qcow2", faulty.flags.parent / "backing/tuesday.qcow2")


def test_readers_of_a_source_that_hangs_get_eio_and_nobody_else_waits(mounted: Mounted, faulty: Faulty) -> None:
    mounted.expect_log(r"\bslow/[a-z]+\.qcow2: the source did not answer within 3 s")
    hung, good = mounted / "raw/slow/base.qcow2.raw", mounted / "raw/tuesday.qcow2.raw"
    assert hung.stat().st_size == images.SIZE
    with hung.open("rb", buffering=0), ThreadPoolExecutor(60) as pool:
        faulty.begin("hang")
        began = time.monotonic()
        readers = [pool.submit(errno_of_read, hung, number * 65536) for number in range(60)]
        time.sleep(0.3)
        took = []
        for number in range(200):
            moment = time.monotonic()
            assert errno_of_read(good, number * 65536) == "read"
            assert good.stat().st_size == images.SIZE
            took.append(time.monotonic() - moment)
        assert {reader.result() for reader in readers} == {"EIO"}
        assert errno_of_read(mounted / "raw/slow/monday.qcow2.raw") == "EIO"
        assert time.monotonic() - began < 10 * DEADLINE_S
        assert sorted(took)[-3] < DEADLINE_S  # the slowest two may have met a machine that stood still
        assert "tuesday.qcow2" in os.listdir(mounted / "full")
        faulty.end("hang")
        eventually(lambda: errno_of_read(hung, MIB) == "read")
    data = hung.read_bytes()
    assert difference(data[: 3 * MIB], stamped(0, 3 * MIB, 1), 0) is None
    assert mounted.whole_log().count("did not answer") == 1  # one line for a disk, not one for a reader or an image


def test_an_image_that_nobody_has_looked_into_hangs_alone_too(mounted: Mounted, faulty: Faulty) -> None:
    mounted.expect_log("the source did not answer within 3 s")
    faulty.begin("hang")
    assert errno_of_read(mounted / "raw/slow/monday.qcow2.raw") == "EIO"
    assert errno_of_read(mounted / "raw/monday.qcow2.raw") == "read"
    faulty.end("hang")
    eventually(lambda: errno_of_read(mounted / "raw/slow/monday.qcow2.raw") == "read")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_mount_whose_source_hangs_can_be_ended(mounted: Mounted, faulty: Faulty, number: signal.Signals) -> None:
    mounted.allow_log("the source did not answer within 3 s")
    hung = mounted / "raw/slow/base.qcow2.raw"
    with hung.open("rb", buffering=0), ThreadPoolExecutor(4) as pool:
        faulty.begin("hang")
        readers = [pool.submit(errno_of_read, hung) for _ in range(4)]
        time.sleep(0.2)
        mounted.kill(number)
        mounted.wait_until_gone(within=10 if number == signal.SIGTERM else 2)
        faulty.end("hang")
        assert {reader.result() for reader in readers} <= {"EIO", "ENOENT", "ENOTCONN", "ECONNABORTED"}


def test_a_request_that_is_withdrawn_at_the_wrong_moment_stops_nobody(mounted: Mounted, faulty: Faulty) -> None:
    """Between poll and read, which strace draws apart: the daemon then reads from /dev/fuse what is no longer there."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    mounted.allow_log("the source did not answer within 3 s")
    hung = mounted / "raw/slow/base.qcow2.raw"
    slowly = [strace, "-q", "-o", "/dev/null", "-P", "/dev/fuse", "-e", "trace=read"]
    slowly += ["-e", "inject=read:delay_enter=300000", "-p", str(mounted.pid)]
    with hung.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as pool:
        faulty.begin("hang")
        reader = pool.submit(errno_of_pread, file.fileno())
        time.sleep(0.1)
        with subprocess.Popen(slowly) as tracer:
            time.sleep(0.3)
            with subprocess.Popen(["stat", mounted / "full/nothing"], stderr=subprocess.DEVNULL) as withdrawn:
                time.sleep(0.15)
                withdrawn.kill()
            try:
                assert reader.result(PATIENCE_S) == "EIO"
            finally:
                tracer.terminate()
                faulty.end("hang")
                os.statvfs(mounted.path)  # one more request gets it going in any case


def errno_of_pread(descriptor: int) -> str:
    try:
        os.pread(descriptor, 4096, 8 * MIB)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "read"


def test_a_read_error_of_the_source_is_eio_and_passes(mounted: Mounted, faulty: Faulty) -> None:
    mounted.expect_log(r"base.qcow2: reading at 0x[0-9a-f]+ failed")
    failing = mounted / "raw/slow/base.qcow2.raw"
    with failing.open("rb", buffering=0) as file:
        faulty.begin("fail")
        for _ in range(20):
            with pytest.raises(OSError, match="Input/output error"):
                os.pread(file.fileno(), 4096, MIB)
        assert errno_of_read(mounted / "raw/base.qcow2.raw") == "read"
        faulty.end("fail")
        assert difference(os.pread(file.fileno(), 4096, MIB), stamped(MIB, 4096, 1), MIB) is None


def test_reads_that_fail_are_one_line_for_a_file(mounted: Mounted, faulty: Faulty) -> None:
    mounted.expect_log("base.qcow2: reading at 0x[0-9a-f]+ failed")
    failing = mounted / "raw/slow/base.qcow2.raw"
    assert errno_of_read(failing) == "read"
    faulty.begin("fail")
    assert {errno_of_read(failing, offset) for offset in range(MIB, 3 * MIB, 64 << 10)} == {"EIO"}
    faulty.end("fail")
    assert mounted.whole_log().count("failed") == 1


@pytest.mark.usefixtures("root_only")
def test_many_more_than_twelve_reads_may_be_under_way(mounted: Mounted) -> None:
    """Else twelve that hang, of O_DIRECT or readahead, would be waited for by the readers of all sources."""
    with fusectl() as folder:
        limit = f"{os.minor(mounted.path.stat().st_dev)}/max_background"
        descriptor = os.open(limit, os.O_RDONLY, dir_fd=folder)
        try:
            assert int(os.read(descriptor, 64)) >= 4096
        finally:
            os.close(descriptor)
