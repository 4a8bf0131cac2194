"""What the data plane is told of open files of real images, and that it never hears of others."""

import errno
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.conftest import ExpectWarning
from tests.mount.mounting import PATIENCE_S
from tests.mount.serving.recording_plane import RecordingPlane, stamp_of
from tests.mount.serving.served import Served, descriptors_of, require_local_disk, served, until
from tests.support.builder import make, write_blank
from tests.support.stamps import stamped
from tests.support.units import GIB, KIB, MIB
from vdifs.errors import SourceChangedError
from vdifs.linux.filesystems import BTRFS, EXT, XFS
from vdifs.mount.serving.change_watch import WATCH_S
from vdifs.mount.serving.images import open_image
from vdifs.storage import witness
from vdifs.storage.host_file import HostFile

SIZE = MIB
RAW = "raw/x.raw.raw"
TOP = "raw/top.qcow2.raw"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """x.raw, and top.qcow2 on it, which holds nothing."""
    raw = tmp_path.resolve() / "src/x.raw"
    raw.parent.mkdir()
    raw.write_bytes(stamped(0, SIZE, 1))
    write_blank(raw.with_name("top.qcow2"), "x.raw", "raw")
    require_local_disk(raw)
    return raw


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A raw file of many windows, with data in each."""
    large = tmp_path.resolve() / "src/large.raw"
    large.parent.mkdir()
    with large.open("wb") as file:
        for at in range(0, 2 * GIB, 8 * MIB):
            file.seek(at)
            file.write(stamped(at, 64 * KIB, 1))
        file.truncate(2 * GIB)
    require_local_disk(large)
    return large


@asynccontextmanager
async def published(source: Path, **options: Any) -> AsyncIterator[tuple[Served, RecordingPlane]]:
    plane = RecordingPlane()
    async with served(source, **options) as mount:
        mount.parts.published.attach(plane)
        yield mount, plane


async def test_an_open_file_is_known_with_all_the_files_that_it_is_made_of(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        first = await mount.open(TOP)
        source = plane.only
        assert (source.size, source.handles) == (SIZE, {first})
        assert source.are_as_stamped
        wanted = descriptors_of([raw, raw.with_name("top.qcow2")])
        assert sorted(stamp[0] for stamp in source.stamps) == sorted(wanted)
        second = await mount.open(TOP)
        assert plane.only.handles == {first, second}, "one file, however many have it open"
        third = await mount.open(RAW)
        assert [each.handles for each in plane.sources.values()] == [{first, second}, {third}]


async def test_a_file_outside_the_chain_of_data_is_watched_too(raw: Path) -> None:
    """A delta has no byte of its base, and is another file all the same once that has changed."""
    async with published(raw.parent) as (mount, plane):
        await mount.open("delta/x.raw/top.qcow2")
        descriptors = {stamp[0] for stamp in plane.only.stamps}
        assert descriptors == set(descriptors_of([raw, raw.with_name("top.qcow2")]))


async def test_what_lies_on_no_local_disk_is_not_known(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a look at the time stamps may hang."""
    monkeypatch.setattr(open_image, "_LOCAL", frozenset())
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(RAW)
        assert await mount.read(handle) == stamped(0, SIZE, 1)
        assert plane.sources == {}
        mount.close(handle)
        assert plane.withdrawn == []


async def test_files_of_vdifs_itself_are_not_known(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(".vdifs/status.json")
        assert json.loads(await mount.read(handle))
        assert plane.sources == {}
        mount.close(handle)


async def test_what_was_read_is_published_as_places_in_the_sources(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(TOP)
        assert plane.only.ranges == [], "nothing that no program has asked for"
        await mount.read(handle, 4096, 100)
        assert plane.only.bytes_at(0, SIZE) == stamped(0, SIZE, 1)
        ranges = list(plane.only.ranges)
        await mount.read(handle, 8192, 100)
        assert plane.only.ranges == ranges, "once is enough"


async def test_tables_are_published_as_bytes_and_what_follows_them_as_places(raw: Path) -> None:
    make(raw.with_name("disk.qcow2"), 8 * MIB, "write -P 7 0 1M")
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open("full/disk.qcow2")
        whole = await mount.read(handle)
        plane.only.ranges.clear()
        for at in range(0, len(whole), 64 * KIB):
            assert await mount.read(handle, at, 64 * KIB) == plane.only.bytes_at(at, min(64 * KIB, len(whole) - at))
        kinds = [isinstance(each.told, bytes) for each in plane.only.ranges]
        assert kinds == [True] * (len(kinds) - 1) + [False]
        assert len(kinds) > 1
        for each in plane.only.ranges:
            assert plane.only.bytes_at(each.start, each.stop - each.start) == whole[each.start : each.stop]


async def test_guest_data_in_frames_are_published_as_places_and_what_is_around_them_as_bytes(raw: Path) -> None:
    """The numbers and the sums too: what the plane would work out is what was read."""
    async with published(raw.parent, views=["vmdk"]) as (mount, plane):
        handle = await mount.open("vmdk/x.raw.vmdk")
        whole = await mount.read(handle, 0, 2 * SIZE)
        plane.only.ranges.clear()
        for at in range(0, len(whole), 64 * KIB):
            assert await mount.read(handle, at, 64 * KIB) == whole[at : at + 64 * KIB]
        grains = 16 * 129 * 512
        assert [each.start for each in plane.only.ranges if each.frame is not None] == [64 * KIB]
        for each in plane.only.ranges:
            assert plane.only.bytes_at(each.start, each.stop - each.start) == whole[each.start : each.stop]
        assert sum(each.stop - each.start for each in plane.only.ranges if each.frame is not None) == grains
        assert sum(each.stop - each.start for each in plane.only.ranges) == len(whole)


async def test_tables_that_are_known_are_not_dropped_for_a_read_that_overlaps_them(raw: Path) -> None:
    """Else readers at random would never find what they want."""
    make(raw.with_name("disk.qcow2"), 8 * MIB)
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open("full/disk.qcow2")
        for at in (96, 128, 112, 160, 80, 144):
            await mount.read(handle, at * KIB, 32 * KIB)
        assert plane.covers(1, 80 * KIB, 192 * KIB)
        assert not plane.covers(1, 80 * KIB - 1, 80 * KIB)
        ranges = sorted((each.start, each.stop) for each in plane.only.ranges)
        assert all(stop == start for (_, stop), (start, _) in pairwise(ranges))
        await mount.read(handle, 64 * KIB, 128 * KIB)
        assert plane.only.bytes_at(64 * KIB, 16 * KIB) == await mount.read(handle, 64 * KIB, 16 * KIB)
        assert plane.only.bytes_at(112 * KIB, 16 * KIB) == await mount.read(handle, 112 * KIB, 16 * KIB)


async def test_a_long_read_of_tables_is_not_kept(raw: Path) -> None:
    make(raw.with_name("disk.qcow2"), 8 * MIB)
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open("full/disk.qcow2")
        assert len(await mount.read(handle)) > 128 * KIB
        assert plane.only.ranges == []


async def test_what_comes_next_is_published_ahead_of_a_reader_in_order_and_of_no_other(large: Path) -> None:
    path = "raw/large.raw.raw"
    async with published(large.parent) as (mount, plane):
        handle = await mount.open(path)
        await mount.read(handle, 640 * MIB, 4096)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(plane.only.ranges) == 1, "it may go anywhere"
        mount.close(handle)
        handle = await mount.open(path)
        await mount.read(handle, 0, 64 * KIB)
        await until(lambda: len(plane.only.ranges) == 4)
        ranges = plane.only.ranges
        assert ranges[0].start == 0
        assert [each.start for each in ranges[1:]] == [each.stop for each in ranges[:-1]]
        last = ranges[-1]
        assert plane.only.bytes_at(last.start, 64 * KIB) == stamped(last.start, 64 * KIB, 1)


async def test_what_follows_is_published_in_one_go_for_one_who_looks_for_data(large: Path) -> None:
    async with published(large.parent) as (mount, plane):
        handle = await mount.open("raw/large.raw.raw")
        files = mount.parts.files
        assert await files.seek(handle, 64 * KIB, os.SEEK_DATA) == 8 * MIB
        await until(lambda: plane.covers(1, 8 * MIB, 2 * GIB))
        for at in range(8 * MIB, 2 * GIB, 328 * MIB):
            assert plane.only.bytes_at(at, 128 * KIB) == stamped(at, 64 * KIB, 1) + bytes(64 * KIB)
        assert await files.seek(handle, 2 * GIB - 1, os.SEEK_HOLE) == 2 * GIB - 1


async def test_a_synthetic_qcow2_has_nothing_to_look_for(large: Path) -> None:
    async with published(large.parent) as (mount, plane):
        handle = await mount.open("full/large.raw.qcow2")
        assert await mount.parts.files.seek(handle, 0, os.SEEK_HOLE) > 256 * 64 * KIB
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert plane.only.ranges == []


async def test_the_end_of_a_file_ends_the_way_ahead(large: Path) -> None:
    async with published(large.parent) as (mount, plane):
        handle = await mount.open("raw/large.raw.raw")
        await mount.read(handle, 2 * GIB - 8192, 4096)
        await mount.read(handle, 2 * GIB - 4096, 4096)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert plane.only.ranges[-1].stop == 2 * GIB


async def test_of_a_cold_source_the_disk_reads_ahead_of_a_reader_in_order(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def read_ahead(_: HostFile, offset: int, length: int) -> None:
        asked.append((offset, length))

    def nothing_cached(_: HostFile, offset: int, buffer: memoryview) -> int:
        return 0

    monkeypatch.setattr(HostFile, "read_ahead", read_ahead)
    monkeypatch.setattr(HostFile, "_read_cached", nothing_cached)
    with large.open("r+b") as file:
        file.write(stamped(0, 64 * MIB, 1))
    async with published(large.parent) as (mount, _):
        handle = await mount.open("raw/large.raw.raw")
        await mount.read(handle, 40 * MIB, 4096)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert asked == []
        await mount.read(handle, 40 * MIB + 4096, 128 * KIB)
        await until(lambda: asked)
        assert asked == [(40 * MIB + 4096 + 128 * KIB, 8 * MIB)]


async def test_it_reads_ahead_wherever_the_plane_has_read_in_between(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order is what follows on the last read, whether that was answered here or there."""
    asked: list[int] = []
    monkeypatch.setattr(HostFile, "read_ahead", lambda _file, offset, _length: asked.append(offset))
    monkeypatch.setattr(HostFile, "_read_cached", lambda _file, _offset, _buffer: 0)
    with large.open("r+b") as file:
        file.write(stamped(0, 64 * MIB, 1))
    async with published(large.parent) as (mount, plane):
        handle = await mount.open("raw/large.raw.raw")
        plane.read[handle] = 1, 4096, 8 * MIB
        ahead = mount.parts.published._ahead  # while it is at it, it begins nothing else
        for number in range(3):
            await mount.read(handle, 8 * MIB + number * 128 * KIB, 128 * KIB)
            await until(lambda wanted=number + 1: len(asked) >= wanted and not ahead)  # type: ignore[misc]
        assert asked == [8 * MIB + number * 128 * KIB for number in (1, 2, 3)]


async def test_a_file_is_withdrawn_with_its_last_handle(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        first, second = await mount.open(RAW), await mount.open(RAW)
        mount.close(first)
        assert plane.only.handles == {second}
        mount.close(second)
        assert plane.sources == {}
        assert len(descriptors_of([raw])) == 1, "the image itself stays open a moment longer"
        third = await mount.open(RAW)
        assert plane.only.handles == {third}


async def test_a_change_withdraws_a_file_from_all_its_readers(raw: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("x.raw: changed since it was opened")
    async with published(raw.parent) as (mount, plane):
        first, second, other = await mount.open(RAW), await mount.open(RAW), await mount.open("full/x.raw.qcow2")
        await mount.read(first)
        with raw.open("r+b", buffering=0) as file:
            file.write(b"other")
        assert not plane.sources[1].are_as_stamped, "nor would the plane answer before it was told"
        with pytest.raises(SourceChangedError) as caught:
            await mount.read(second)
        assert caught.value.errno == errno.ESTALE
        assert [each.handles for each in plane.sources.values()] == [{other}]
        for handle in (first, second):
            with pytest.raises(SourceChangedError):
                await mount.read(handle)
        mount.close(first, second)
        new = await mount.open(RAW)
        assert (await mount.read(new))[:5] == b"other"
        assert plane.sources[max(plane.sources)].handles == {new}


async def test_a_change_that_no_read_has_met_is_never_stamped_as_the_state_that_was_opened(
    raw: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    """The watch has found it; no read of the other handle may make the plane answer again."""
    expect_warning("x.raw: changed since it was opened")
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(RAW)
        await mount.read(handle)
        with raw.open("r+b", buffering=0) as file:
            file.write(b"other")
        mock_clock.jump(2 * WATCH_S)
        await until(lambda: mount.pages.dropped)
        assert not any(each.are_as_stamped for each in plane.sources.values())
        with pytest.raises(SourceChangedError):
            await mount.read(handle)
        assert plane.sources == {}


async def test_a_change_of_metadata_alone_is_stamped_anew(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(RAW)
        await mount.read(handle)
        assert plane.only.are_as_stamped
        raw.chmod(0o640)
        before = plane.only.stamps
        assert before != [stamp_of(before[0][0])]
        with trio.fail_after(PATIENCE_S):
            while plane.only.stamps != [stamp_of(before[0][0])]:  # they are no proof while they are young
                assert await mount.read(handle, 0, 512) == stamped(0, 512, 1)
                await trio.sleep(0.01)
        assert len(plane.only.ranges) == 1, "what it is made of is the same"


async def test_a_file_that_may_be_written_unseen_is_never_as_stamped(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "_SILENT", frozenset({EXT, XFS, BTRFS}))
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(RAW)
        for _ in range(2):
            assert not plane.only.are_as_stamped
            assert await mount.read(handle) == stamped(0, SIZE, 1)


async def test_the_status_counts_what_the_plane_has_read(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        handle, other = await mount.open(RAW), await mount.open(TOP)
        await mount.read(handle, 0, 1000)
        plane.served, plane.read = (9, 90_000), {handle: (7, 70_000, 123_456), other: (2, 20_000, 20_000)}
        status = await mount.status()
        counters = status["counters"]
        assert (counters["reads"], counters["bytes_read"]) == (10, 91_000)
        shown = {each["file"]: (each["position"], each["bytes_read"]) for each in status["open_files"]}
        assert shown == {RAW: (123_456, 71_000), TOP: (20_000, 20_000)}


async def test_a_position_is_where_the_last_read_ended_by_whom_it_was_answered(raw: Path) -> None:
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(RAW)
        plane.read[handle] = 1, 4096, 4096
        await mount.read(handle, 65536, 512)
        for _ in range(2):
            (shown,) = (await mount.status())["open_files"]
            assert (shown["position"], shown["bytes_read"]) == (66048, 4608)
        plane.read[handle] = 2, 8192, 4096
        (shown,) = (await mount.status())["open_files"]
        assert (shown["position"], shown["bytes_read"]) == (4096, 8704)


async def test_what_was_read_stays_counted_once_the_file_has_changed(raw: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("x.raw: changed since it was opened")
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(RAW)
        plane.read[handle] = 3, 3 * 4096, 3 * 4096
        with raw.open("r+b", buffering=0) as file:
            file.write(b"other")
        for _ in range(2):
            with pytest.raises(SourceChangedError):
                await mount.read(handle)
            (shown,) = (await mount.status())["open_files"]
            assert shown["bytes_read"] == 3 * 4096


@pytest.mark.parametrize("error", [MemoryError(), ValueError("planted")])
async def test_what_the_plane_cannot_take_costs_no_open(
    raw: Path, error: Exception, expect_warning: ExpectWarning
) -> None:
    expect_warning("^WARNING.*x.raw: its reads are answered by Python: (planted|no memory)$")
    async with published(raw.parent) as (mount, plane):
        plane.error = error
        handle = await mount.open(RAW)
        assert await mount.read(handle) == stamped(0, SIZE, 1)
        assert plane.sources == {}
        plane.error = None
        assert await mount.read(handle, 512, 512) == stamped(512, 512, 1)
        second = await mount.open(RAW)
        assert plane.only.handles == {second}
        mount.close(handle, second)
        assert plane.sources == {}


@pytest.mark.parametrize("error", [MemoryError(), ValueError("planted")])
@pytest.mark.parametrize("path", [RAW, "full/x.raw.qcow2"])
async def test_what_the_plane_cannot_take_costs_no_read(
    raw: Path, path: str, error: Exception, expect_warning: ExpectWarning
) -> None:
    """Once is enough for a warning, and what it had of the file is free for others."""
    expect_warning("^WARNING.*x.raw: its reads are answered by Python: (planted|no memory)$")
    async with published(raw.parent) as (mount, plane):
        handle = await mount.open(path)
        begin = await mount.read(handle, 0, 512)
        plane.error = error
        assert await mount.read(handle, 0, 512) == begin
        assert plane.sources == {}
        assert await mount.read(handle, 0, 512) == begin
        plane.error = None
        second = await mount.open(path)
        assert await mount.read(second, 0, 512) == begin == plane.only.bytes_at(0, 512)
        mount.close(handle)
        assert plane.only.handles == {second}
        mount.close(second)
        assert plane.sources == {}


async def test_what_the_plane_cannot_take_of_what_comes_next_costs_no_read_either(
    large: Path, monkeypatch: pytest.MonkeyPatch, expect_warning: ExpectWarning
) -> None:
    expect_warning("large.raw: its reads are answered by Python: no memory")
    async with published(large.parent) as (mount, plane):
        handle = await mount.open("raw/large.raw.raw")
        assert await mount.read(handle, 0, 64 * KIB) == stamped(0, 64 * KIB, 1)
        plane.error = MemoryError()  # before the task has begun
        await until(lambda: plane.sources == {})
        assert await mount.read(handle, 8 * MIB, 64 * KIB) == stamped(8 * MIB, 64 * KIB, 1)
