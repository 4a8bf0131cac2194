"""The inode number of a real image while its sources change, and what the kernel was told under a number that is kept.

What mounted programs see of it is in tests/mount/test_mounted_kept_numbers.py.
"""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.conftest import ExpectWarning
from tests.mount.serving.served import Served, require_local_disk, served, until
from tests.support.stamps import stamped
from vdifs.errors import SourceChangedError
from vdifs.mount.serving.images.open_images import IDLE_S
from vdifs.mount.view.inodes import StaleInodeError

SIZE = 1 << 20
RAW = "raw/x.raw.raw"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """x.raw, on a file system of which the event loop may ask."""
    raw = tmp_path.resolve() / "x.raw"
    raw.write_bytes(stamped(0, SIZE, 1))
    require_local_disk(raw)
    return raw


def chown(raw: Path) -> None:
    """Move the ctime, and nothing else."""
    os.chown(raw, -1, os.getegid())


def write_in_disguise(raw: Path, generation: int = 2) -> None:
    """Write all of a file, and have it look as if only metadata had changed."""
    before = raw.stat()
    with raw.open("r+b", buffering=0) as file:
        file.write(stamped(0, SIZE, generation))
    os.utime(raw, ns=(before.st_atime_ns, before.st_mtime_ns))


async def close_idle(mount: Served, clock: MockClock) -> None:
    """Return once no image is open any more."""
    clock.jump(2 * IDLE_S)
    await until(lambda: len(mount.parts.images) == 0)


async def test_a_file_that_is_open_keeps_its_number_while_metadata_change(raw: Path) -> None:
    async with served(raw.parent) as mount:
        handle = await mount.open(RAW)
        first = (await mount.stat(RAW)).inode
        for _ in range(3):
            chown(raw)
            await mount.search()
            found = await mount.stat(RAW)
            assert (found.inode, found.size, found.ctime_ns) == (first, SIZE, raw.stat().st_ctime_ns)
        again = await mount.open(RAW)
        assert await mount.read(again) == await mount.read(handle) == stamped(0, SIZE, 1)
        assert mount.pages.dropped == [], "they are those of the same bytes"


async def test_a_file_that_was_just_asked_for_keeps_its_number_while_metadata_change(
    raw: Path, mock_clock: MockClock
) -> None:
    async with served(raw.parent) as mount:
        first = (await mount.stat(RAW)).inode
        await close_idle(mount, mock_clock)
        chown(raw)
        await mount.search()
        assert (await mount.lookup(RAW)).inode == first
        handle = await mount.open(RAW)
        assert (await mount.stat(RAW)).inode == first
        assert await mount.read(handle) == stamped(0, SIZE, 1)


@pytest.mark.parametrize("change", ["written", "replaced"])
async def test_a_file_that_is_written_or_replaced_has_another_number_at_once(
    raw: Path, mock_clock: MockClock, change: str
) -> None:
    async with served(raw.parent) as mount:
        first = (await mount.stat(RAW)).inode
        await close_idle(mount, mock_clock)
        if change == "written":
            raw.write_bytes(stamped(0, SIZE, 2))
        else:
            (new := raw.with_name("new")).write_bytes(stamped(0, SIZE, 2))
            new.rename(raw)
        await mount.search()
        assert (await mount.lookup(RAW)).inode != first
        with pytest.raises(StaleInodeError):
            await mount.parts.files.stat(first)
        assert await mount.contents(RAW) == stamped(0, SIZE, 2)


async def read_under_the_first_number(mount: Served, raw: Path, clock: MockClock) -> int:
    """Have the kernel read a file, which is then written so that it keeps its number. Return that."""
    assert await mount.contents(RAW) == stamped(0, SIZE, 1)
    inode = (await mount.stat(RAW)).inode
    await close_idle(mount, clock)
    write_in_disguise(raw)
    await mount.search()
    assert (await mount.lookup(RAW)).inode == inode
    return inode


async def test_pages_of_other_bytes_are_dropped_before_a_number_that_was_kept_is_read(
    raw: Path, mock_clock: MockClock
) -> None:
    async with served(raw.parent) as mount:
        inode = await read_under_the_first_number(mount, raw, mock_clock)
        first = await mount.open(RAW)
        assert mount.pages.dropped == [inode], "before it is open"
        second = await mount.open(RAW)
        assert mount.pages.dropped == [inode], "those that it has now are right"
        assert await mount.read(first) == await mount.read(second) == stamped(0, SIZE, 2)
        assert (await mount.stat(RAW)).inode == inode


async def test_no_number_is_kept_whose_pages_the_kernel_keeps(raw: Path, mock_clock: MockClock) -> None:
    async with served(raw.parent) as mount:
        inode = await read_under_the_first_number(mount, raw, mock_clock)
        mount.pages.keeps = True
        with pytest.raises(StaleInodeError) as caught:
            await mount.open(RAW)
        assert caught.value.errno == errno.ESTALE
        assert (await mount.lookup(RAW)).inode != inode
        assert await mount.contents(RAW) == stamped(0, SIZE, 2)


@pytest.mark.parametrize("noticed", [False, True])
async def test_no_number_is_kept_while_a_program_has_the_earlier_bytes_open(
    raw: Path, mock_clock: MockClock, expect_warning: ExpectWarning, noticed: bool
) -> None:
    """Whether its next read comes before the next search or after it. The clock stands still: nothing else looks."""
    expect_warning("x.raw: changed since it was opened")
    async with served(raw.parent) as mount:
        first = (await mount.stat(RAW)).inode
        old = await mount.open(RAW)
        await trio.testing.wait_all_tasks_blocked()
        write_in_disguise(raw)
        if noticed:
            with pytest.raises(SourceChangedError):
                await mount.read(old)
            with pytest.raises(StaleInodeError):
                await mount.open(RAW)
        else:
            await mount.search()
        assert (await mount.lookup(RAW)).inode != first
        assert await mount.contents(RAW) == stamped(0, SIZE, 2)
        with pytest.raises(SourceChangedError):
            await mount.read(old)


def punch(raw: Path) -> None:
    subprocess.run(["fallocate", "-p", "-l", str(SIZE // 2), raw], check=True)


@pytest.mark.parametrize("request_", ["stat", "open"])
async def test_no_number_is_kept_for_a_file_of_another_size(raw: Path, mock_clock: MockClock, request_: str) -> None:
    """The kernel was told the size, and would end reads there."""
    async with served(raw.parent) as mount:
        before = await mount.stat("full/x.raw.qcow2")
        await close_idle(mount, mock_clock)
        times = raw.stat()
        punch(raw)
        os.utime(raw, ns=(times.st_atime_ns, times.st_mtime_ns))
        await mount.search()
        assert (await mount.lookup("full/x.raw.qcow2")).inode == before.inode, "no image was opened for that"
        ask: Callable[[int], object] = getattr(mount.parts.files, request_)
        with pytest.raises(StaleInodeError):
            await ask(before.inode)  # type: ignore[misc] # one of two methods
        found = await mount.stat("full/x.raw.qcow2")
        assert found.inode != before.inode
        assert found.size < before.size
        assert len(await mount.contents("full/x.raw.qcow2")) == found.size
