"""Open files of real images: what they hold while their sources are replaced, written, removed, and when they end."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.conftest import ExpectWarning
from tests.mount.images import damage_l2
from tests.mount.serving.served import descriptors_of, require_local_disk, served, until
from tests.support.builder import make, write_blank
from tests.support.stamps import stamped
from vdifs.errors import FormatError, InUseError, SourceChangedError, VdifsError
from vdifs.mount.serving import handles, scanner
from vdifs.mount.serving.change_watch import WATCH_S
from vdifs.mount.serving.images import memory_budget
from vdifs.mount.serving.images.open_images import IDLE_S
from vdifs.mount.view.inodes import StaleInodeError

MIB = 1 << 20
SIZE = MIB
RAW = "raw/x.raw.raw"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """x.raw, with top.qcow2 on it."""
    raw = tmp_path.resolve() / "src/x.raw"
    raw.parent.mkdir()
    raw.write_bytes(stamped(0, SIZE, 1))
    write_blank(raw.with_name("top.qcow2"), "x.raw", "raw")
    return raw


def write(raw: Path, generation: int) -> None:
    """Write all of a disk in place."""
    with raw.open("r+b", buffering=0) as file:
        file.write(stamped(0, SIZE, generation))


def replace(raw: Path, generation: int) -> None:
    """Have another disk by the same name."""
    new = raw.with_name("new")
    new.write_bytes(stamped(0, SIZE, generation))
    new.rename(raw)


@contextmanager
def errno_is(number: int, kind: type[VdifsError] = VdifsError) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.errno == number


async def test_an_open_file_is_read_from_any_offset_and_not_beyond_its_end(raw: Path) -> None:
    async with served(raw.parent) as mount:
        handle = await mount.open(RAW)
        data = stamped(0, SIZE, 1)
        assert await mount.read(handle) == data
        assert await mount.read(handle, 4093, 10) == data[4093:4103]
        assert await mount.read(handle, SIZE - 3, 10) == data[-3:]
        assert await mount.read(handle, SIZE, 10) == b""
        mount.close(handle)
        assert (await mount.stat("full/top.qcow2")).size == len(await mount.contents("full/top.qcow2"))


async def test_whether_the_kernel_may_keep_pages_is_told_with_the_handle(raw: Path) -> None:
    """What a file of .vdifs holds is another at each open."""
    async with served(raw.parent) as mount:
        for path, cached in ((RAW, True), (".vdifs/status.json", False)):
            assert (await mount.parts.files.open((await mount.lookup(path)).inode))[1] is cached


async def test_what_is_replaced_is_read_on_and_its_name_leads_to_what_took_its_place(raw: Path) -> None:
    async with served(raw.parent) as mount:
        before = await mount.stat(RAW)
        old = await mount.open(RAW)
        replace(raw, 2)
        await mount.search()
        new = await mount.open(RAW)
        assert (await mount.stat(RAW)).inode != before.inode
        assert await mount.read(old) == stamped(0, SIZE, 1)
        assert await mount.read(new) == stamped(0, SIZE, 2)
        assert await mount.parts.files.stat(before.inode) == before, "fstat of the open file"
        with errno_is(errno.ESTALE, StaleInodeError):
            await mount.parts.files.open(before.inode)
        mount.close(old)
        with errno_is(errno.ESTALE, StaleInodeError):
            await mount.parts.files.stat(before.inode)
        assert await mount.read(new) == stamped(0, SIZE, 2)
        assert mount.pages.dropped == []


async def test_what_is_removed_is_read_until_it_is_closed(raw: Path) -> None:
    async with served(raw.parent) as mount:
        before = await mount.stat(RAW)
        handle = await mount.open(RAW)
        raw.with_name("top.qcow2").unlink()
        raw.unlink()
        await mount.search()
        with errno_is(errno.ENOENT):
            await mount.lookup(RAW)
        assert await mount.read(handle) == stamped(0, SIZE, 1)
        assert await mount.parts.files.stat(before.inode) == before
        mount.close(handle)
        with errno_is(errno.ESTALE):
            await mount.parts.files.stat(before.inode)


async def test_what_is_written_is_estale_for_all_who_read_it_and_never_mixed(
    raw: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    """The clock stands still: the readers themselves notice it."""
    expect_warning("x.raw: changed since it was opened")
    async with served(raw.parent) as mount:
        asked = {path: (await mount.stat(path)).inode for path in (RAW, "raw/top.qcow2.raw")}
        opened = [await mount.open(path) for path in (RAW, RAW, "raw/top.qcow2.raw")]
        assert [len(await mount.read(handle, 0, SIZE // 2)) for handle in opened] == [SIZE // 2] * 3
        await trio.testing.wait_all_tasks_blocked()
        write(raw, 2)
        for _ in range(2):
            for handle in opened:
                with errno_is(errno.ESTALE, SourceChangedError):
                    await mount.read(handle, SIZE // 2)
        await until(lambda: len(mount.pages.dropped) == len(asked))
        assert sorted(mount.pages.dropped) == sorted(asked.values()), "each number once, however many read it"
        for path, inode in asked.items():
            with errno_is(errno.ESTALE):
                await mount.parts.files.stat(inode)
            assert await mount.contents(path) == stamped(0, SIZE, 2)
            assert (await mount.lookup(path)).inode != inode
        mount.close(*opened)
        status = await mount.status()
        assert status["counters"]["failed_reads"] == 6
        assert status["open_files"] == []


async def test_what_was_written_is_not_opened_by_its_earlier_number(
    raw: Path, expect_warning: ExpectWarning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the source was not searched again."""
    expect_warning("x.raw: changed since it was opened")
    monkeypatch.setattr(scanner, "MAX_AGE_S", 60)
    monkeypatch.setattr(scanner, "_LONGEST_AGE_S", 60)
    async with served(raw.parent) as mount:
        inode = (await mount.stat(RAW)).inode
        handle = await mount.open(RAW)
        write(raw, 2)
        with errno_is(errno.ESTALE):
            await mount.parts.files.open(inode)
        assert mount.parts.images.get(inode) is None, "no other program gets it"
        with errno_is(errno.ESTALE):
            await mount.read(handle)
        assert await mount.contents(RAW) == stamped(0, SIZE, 2)


async def test_a_change_is_noticed_while_no_read_comes(
    raw: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    """Readers may find all they want in the page cache."""
    expect_warning("x.raw: changed since it was opened")
    async with served(raw.parent) as mount:
        handle = await mount.open(RAW)
        inode = (await mount.lookup(RAW)).inode
        await trio.testing.wait_all_tasks_blocked()
        write(raw, 2)
        mock_clock.jump(0.9 * WATCH_S)
        await trio.testing.wait_all_tasks_blocked()
        assert mount.pages.dropped == []
        mock_clock.jump(0.2 * WATCH_S)
        await until(lambda: mount.pages.dropped == [inode])
        with errno_is(errno.ESTALE):
            await mount.read(handle)


async def test_a_change_is_noticed_by_a_watch_that_has_begun_anew(
    raw: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    """An idle mount costs nothing: the watch ends with the last open file, and begins with the next."""
    expect_warning("x.raw: changed since it was opened")
    async with served(raw.parent) as mount:
        idle = trio.lowlevel.current_statistics().tasks_living
        mount.close(await mount.open(RAW))
        mock_clock.jump(IDLE_S + WATCH_S)
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == idle)
        await mount.open(RAW)
        await trio.testing.wait_all_tasks_blocked()
        write(raw, 2)
        mock_clock.jump(WATCH_S)
        await until(lambda: mount.pages.dropped)


@pytest.mark.parametrize("live", ["refuse", "allow"])
async def test_an_image_that_is_kept_open_is_ebusy_once_a_machine_writes_it(raw: Path, live: str) -> None:
    """Unless the user has asked for it; programs that have it open read on."""
    raw = raw.with_name("disk.qcow2")
    make(raw, SIZE)
    require_local_disk(raw)
    async with served(raw.parent, live=live) as mount:
        inode = (await mount.stat("full/disk.qcow2")).inode
        handle = await mount.open("full/disk.qcow2")
        with raw.open("r+b"):
            if live == "refuse":
                with errno_is(errno.EBUSY, InUseError):
                    await mount.parts.files.open(inode)
            else:
                mount.close((await mount.parts.files.open(inode))[0])
            assert len(await mount.read(handle)) == (await mount.stat("full/disk.qcow2")).size
        mount.close((await mount.parts.files.open(inode))[0])


async def test_an_image_is_closed_a_moment_after_its_last_reader(raw: Path, mock_clock: MockClock) -> None:
    async with served(raw.parent) as mount:
        first, second = await mount.open(RAW), await mount.open(RAW)
        assert len(descriptors_of([raw])) == 1, "however many have it open"
        mock_clock.jump(10 * IDLE_S)
        mount.close(first)
        await trio.testing.wait_all_tasks_blocked()
        assert len(mount.parts.images) == 1
        mount.close(second)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.9 * IDLE_S)
        await trio.testing.wait_all_tasks_blocked()
        assert len(descriptors_of([raw])) == 1, "a program that has asked for the size opens it, as a rule"
        mock_clock.jump(0.2 * IDLE_S)
        await until(lambda: descriptors_of([raw]) == [])
        assert await mount.contents(RAW) == stamped(0, SIZE, 1)


async def test_an_idle_image_that_was_removed_is_closed_with_the_next_search(raw: Path, mock_clock: MockClock) -> None:
    """It would keep the space of its file."""
    async with served(raw.parent) as mount:
        mount.close(await mount.open(RAW))
        held = await mount.open("raw/top.qcow2.raw")
        assert len(descriptors_of([raw])) == 2
        replace(raw, 2)
        await mount.search()
        await until(lambda: len(mount.parts.images) == 1)
        assert await mount.read(held) == stamped(0, SIZE, 1), "that one is not idle"
        mount.close(held)
        mock_clock.jump(2 * IDLE_S)
        await until(lambda: len(mount.parts.images) == 0)


async def test_an_image_that_cannot_be_opened_is_told_and_costs_no_other(tmp_path: Path) -> None:
    source = tmp_path.resolve()
    for name in ("bad.qcow2", "good.qcow2"):
        make(source / name, SIZE, "write -P 7 0 64k")
    damage_l2(source / "bad.qcow2")
    async with served(source) as mount:
        with errno_is(errno.EIO, FormatError):
            await mount.open("full/bad.qcow2")
        assert len(mount.parts.images) == 0
        assert (await mount.contents("raw/good.qcow2.raw"))[:1] == b"\7"
        status = await mount.status()
        assert [problem["file"] for problem in status["problems"]] == ["full/bad.qcow2"]
        assert status["counters"]["opens"] == 3


async def test_an_image_for_which_there_is_no_memory_is_refused_and_not_kept(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_budget, "_SMALL", 0)
    monkeypatch.setattr(memory_budget, "MOST_BYTES", 1)
    other = raw.with_name("other.raw")
    other.write_bytes(stamped(0, SIZE, 3))
    async with served(raw.parent) as mount:
        handle = await mount.open("full/x.raw.qcow2")
        with errno_is(errno.ENOMEM):
            await mount.open("full/other.raw.qcow2")
        assert [opened.file and opened.file.path for opened in mount.parts.images.in_use()] == ["x.raw"]
        mount.close(handle)
        mount.close(await mount.open("full/other.raw.qcow2"))


async def test_the_status_shows_the_moment_when_it_was_opened(raw: Path) -> None:
    async with served(raw.parent) as mount:
        data = await mount.open(RAW)
        await mount.read(data, 512, 1024)
        status = await mount.open(".vdifs/status.json")
        before = json.loads(await mount.read(status))
        await mount.read(data, 4096, 10)
        assert json.loads(await mount.read(status)) == before
        (shown,) = before["open_files"]
        assert (shown["file"], shown["size"], shown["position"], shown["bytes_read"]) == (RAW, SIZE, 1536, 1024)
        (later,) = (await mount.status())["open_files"]
        assert (later["position"], later["bytes_read"]) == (4106, 1034)
        await mount.read(data, SIZE - 3, 10)
        (last,) = (await mount.status())["open_files"]
        assert (last["position"], last["bytes_read"]) == (SIZE, 1037)
        assert (await mount.stat(".vdifs/status.json")).size == len(await mount.read(status)), "of what is open"
        mount.close(status, data)


@pytest.mark.parametrize("kind", ["info", "map"])
async def test_a_file_about_an_image_is_of_the_state_in_which_it_was_opened(raw: Path, kind: str) -> None:
    path = f".vdifs/{kind}/top.qcow2.json"
    async with served(raw.parent) as mount:
        inode = (await mount.lookup(path)).inode
        handle = await mount.open(path)
        before = await mount.read(handle)
        assert json.loads(before)
        assert (await mount.stat(path)).size == len(before)
        write_blank(raw.with_name("top.qcow2"))
        await mount.search()
        assert await mount.read(handle) == before
        with errno_is(errno.ESTALE, StaleInodeError):
            await mount.parts.files.open(inode)
        after = await mount.contents(path)
        assert after != before
        assert (await mount.stat(path)).size == len(after)
        mount.close(handle)


async def test_files_that_are_no_images_have_their_room(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(raw.parent) as mount:
        first = await mount.open(".vdifs/status.json")
        for _ in range(10):  # the next status is longer
            await mount.open(RAW)
        monkeypatch.setattr(handles, "MAX_HELD", 0)
        with errno_is(errno.ENOMEM):
            await mount.open(".vdifs/status.json")
        size = (await mount.stat(".vdifs/status.json")).size
        assert size == len(await mount.read(first)), "the one that was refused is not open"
        mount.close(first)
        mount.close(await mount.open(".vdifs/status.json"))


async def test_folders_and_files_that_are_not_there_are_no_open_files(raw: Path) -> None:
    async with served(raw.parent) as mount:
        with errno_is(errno.EISDIR):
            await mount.open("full")
        for path in ("full/gone.qcow2", "gone"):
            with errno_is(errno.ENOENT):
                await mount.open(path)
        with errno_is(errno.ESTALE):
            await mount.parts.files.open(12345)


async def test_extended_attributes_tell_of_the_image_that_is_open(raw: Path) -> None:
    async with served(raw.parent) as mount:
        inode = (await mount.lookup("delta/x.raw/top.qcow2")).inode
        names = mount.parts.files.xattr_names(inode)
        found = {name: await mount.parts.files.xattr(inode, name) for name in names}
        assert found[b"user.vdifs.source"] == b"top.qcow2"
        assert found[b"user.vdifs.base"] == b"x.raw"
        assert found[b"user.vdifs.virtual_size"] == b"%d" % SIZE
        assert found[b"user.vdifs.depth"] == b"2"
        assert mount.parts.images.in_use() == []
        with errno_is(errno.ENODATA):
            await mount.parts.files.xattr(inode, b"user.other")
        assert mount.parts.files.xattr_names((await mount.lookup("delta")).inode) == []
