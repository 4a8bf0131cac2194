"""What is no change to the guest disturbs no copy; a write does (docs/specification.md 5.2, 5.3)."""

import errno
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Semaphore

import pytest

from tests.conftest import require_tool
from tests.mount.mounting import PATIENCE_S, SOON_S, Mounted, Mounts, as_user, eventually
from tests.mount.test_mounted_broken import errno_of_open, looks_broken, problem_of
from tests.storage.test_written import METADATA, METADATA_IDS, set_attribute, touch_without_opening
from tests.support.stamps import difference, stamped

MIB = 1 << 20
WRITTEN = "a virtual machine or another program is writing it"


@pytest.fixture
def shared(source: Path) -> Path:
    """The base of the chain, readable by all, and their owners other than who mounts it."""
    for image in source.iterdir():
        image.chmod(0o644)
    return source / "base.qcow2"


READER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
for line in sys.stdin:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        status = os.fstat(descriptor)
        print(status.st_ino, status.st_size, os.pread(descriptor, 4096, int(line)).hex(), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class Reader:
    """Has a file of the mount open, as the user who mounted, and reads past the pages that the kernel keeps."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def says(self, offset: int) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(offset, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def reads(self, offset: int) -> str:
        """Return the inode number and the size, having seen the first generation's bytes."""
        inode, size, data = self.says(offset).split()
        assert difference(bytes.fromhex(data), stamped(offset, 4096, 1), offset) is None
        return f"{inode} {size}"


@contextmanager
def reading(path: Path, user: int | None) -> Iterator[Reader]:
    command = ["/usr/bin/python3", "-c", READER, str(path)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **as_user(user)
    ) as process:
        try:
            yield Reader(process)
        finally:
            process.kill()


@pytest.mark.parametrize("change", METADATA, ids=METADATA_IDS)
def test_metadata_of_a_base_may_change_while_what_is_above_it_is_read(
    mounts: Mounts, shared: Path, user: int | None, change: Callable[[Path], None]
) -> None:
    mounted = mounts(shared.parent, user=user)
    mounted.allow_log("(No such file|Permission denied)")  # as it is for a moment
    with reading(mounted / "raw/tuesday.qcow2.raw", user) as reader:
        before = reader.reads(2 * MIB + MIB // 2)
        change(shared)
        if user is not None and change is touch_without_opening:
            mounted.allow_log("changed since it was opened")
            return  # who cannot have leases goes by mtime
        for turn in range(4):
            assert reader.reads(2 * MIB + MIB // 2 + 8192 * turn) == before
            time.sleep(0.25)


@pytest.mark.parametrize("disguise", ["link", "chmod"])
def test_a_write_whose_time_is_set_back_is_a_change(
    mounts: Mounts, shared: Path, user: int | None, disguise: str
) -> None:
    mounted = mounts(shared.parent, user=user)
    mounted.allow_log("changed since it was opened")
    with reading(mounted / "raw/base.qcow2.raw", user) as reader:
        reader.reads(0)
        before = shared.stat()
        with shared.open("r+b", buffering=0) as file:
            file.seek(before.st_size - 4096)
            file.write(b"other bytes")
        os.utime(shared, ns=(before.st_atime_ns, before.st_mtime_ns))
        shared.with_name("a link").hardlink_to(shared) if disguise == "link" else shared.chmod(0o604)
        for _ in range(2):
            assert reader.says(MIB) == "Stale file handle"


@pytest.mark.usefixtures("root_only")  # who may open what has mode 0000, and so meets EBUSY
def test_an_image_that_is_open_for_writing_is_busy_until_that_ends(mounts: Mounts, source: Path) -> None:
    """A mapping whose pages are dirty moves no time stamp, and takes no lock."""
    mounted = mounts(source)
    mounted.allow_log(WRITTEN)
    path = mounted / "raw/base.qcow2.raw"
    size = path.stat().st_size
    with (source / "base.qcow2").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    last = mapped[-1:]
    mapped[-1:] = last
    time.sleep(0.1)
    for name in ("base", "monday", "tuesday"):
        assert errno_of_open(mounted / f"full/{name}.qcow2") == "EBUSY"
    eventually(lambda: looks_broken(mounted / "full/monday.qcow2"), within=SOON_S)
    assert problem_of(mounted, "base.qcow2")["errno"] == "EBUSY"
    mapped.close()
    for name in ("base", "monday", "tuesday"):
        eventually(lambda name=name: errno_of_open(mounted / f"full/{name}.qcow2") == "opened", within=SOON_S)  # type: ignore[misc]
    assert path.stat().st_size == size
    with path.open("rb") as again:
        assert difference(again.read(4096), stamped(0, 4096, 1), 0) is None


def test_a_machine_may_start_at_any_moment(mounts: Mounts, source: Path) -> None:
    """QEMU opens an image for writing again and again while the mount opens, reads and watches it."""
    mounted = mounts(source)
    mounted.allow_log("tuesday.qcow2: (changed since it was opened|.*is writing it|.*kept changing)")
    ended = Event()

    def look() -> int:
        count = 0
        while not ended.is_set():
            try:
                with (mounted / "raw/tuesday.qcow2.raw").open("rb", buffering=0) as file:
                    file.read(4096)
            except OSError as error:
                assert error.errno in (errno.EBUSY, errno.EACCES, errno.ESTALE)
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(40):
                done = subprocess.run(
                    [require_tool("qemu-io"), "-c", "write -P 3 0 512", source / "tuesday.qcow2"],
                    capture_output=True, text=True,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr + done.stdout
        finally:
            ended.set()
        assert sum(each.result() for each in looking) > 40


def test_copies_go_on_while_metadata_change_again_and_again(mounts: Mounts, shared: Path, user: int | None) -> None:
    """Also those that begin meanwhile: who has asked for the size opens the very file."""
    mounted = mounts(shared.parent, user=user)
    target = mounts.scratch / "copies"
    target.mkdir()
    target.chmod(0o777)
    ended, changed = Event(), Semaphore(0)

    def change() -> int:
        count = 0
        while not ended.wait(0.15):
            set_attribute(shared)
            shared.with_name("link").hardlink_to(shared)
            shared.with_name("link").unlink()
            count += 1
            changed.release()
        return count

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            for turn in range(25):
                names = [mounted / f"raw/{name}.qcow2.raw" for name in ("base", "tuesday")]
                done = subprocess.run(["cp", *names, target], capture_output=True, text=True, **as_user(user))
                assert done.returncode == 0, f"copy {turn}: {done.stderr}"
                for path in target.iterdir():
                    path.unlink()
                if turn % 4 == 0:  # a quick machine copies all of it between two changes
                    assert changed.acquire(timeout=PATIENCE_S)
        finally:
            ended.set()
        assert changing.result() > 5


@pytest.fixture
def mounted(mounts: Mounts, source: Path) -> Mounted:
    return mounts(source)


def test_a_replaced_image_is_met_though_the_old_one_is_open(mounted: Mounted, source: Path) -> None:
    """What is open is given to who opens it next only as long as it is the file of that name."""
    path = mounted / "raw/base.qcow2.raw"
    with path.open("rb", buffering=0) as file:
        for number in range(10):
            fresh = source.parent / "fresh"
            fresh.write_bytes((source / "base.qcow2").read_bytes())
            os.utime(fresh, ns=(0, number * 1_000_000_000))
            os.replace(fresh, source / "base.qcow2")
            os.listdir(mounted / "raw")
            eventually(lambda number=number: path.stat().st_mtime == number, within=SOON_S)  # type: ignore[misc]
            with path.open("rb", buffering=0) as again:
                assert os.fstat(again.fileno()).st_ino != os.fstat(file.fileno()).st_ino
