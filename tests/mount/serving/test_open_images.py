"""Open images: opened once, kept while used, closed once, never under a reader."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Event

import pytest
import trio

from tests.mount.fakes import FakeImage, FakeOpener
from tests.mount.mounting import PATIENCE_S
from vdifs.chain.access import Access
from vdifs.errors import FormatError, VdifsError
from vdifs.mount.serving.images import open_images
from vdifs.mount.serving.images.open_image import OpenImage
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import DeadlineError, Threads
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.sources import Source
from vdifs.output.image import Image

A = ImageFile("a")
SOURCE = Source(b"generation", 0, frozenset({1}), Access(0o444, 0, 0), None)


@pytest.fixture
def opener() -> FakeOpener:
    return FakeOpener()


@pytest.fixture
async def images(opener: FakeOpener, nursery: trio.Nursery) -> OpenImages:
    tasks = Tasks()
    tasks.start(nursery)
    return OpenImages(opener, tasks, Threads(4, deadline=PATIENCE_S))


@pytest.fixture
async def hasty(opener: FakeOpener, nursery: trio.Nursery) -> OpenImages:
    """Those that wait for half a second only."""
    tasks = Tasks()
    tasks.start(nursery)
    return OpenImages(opener, tasks, Threads(4, deadline=0.5))


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


async def together(count: int, function: Callable[[], Awaitable[OpenImage]]) -> list[OpenImage]:
    results: list[OpenImage] = []

    async def one() -> None:
        results.append(await function())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return results


async def test_however_many_ask_at_once_an_image_is_opened_once(images: OpenImages, opener: FakeOpener) -> None:
    opener.hang = Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, opener.hang.set)
        users = await together(50, lambda: images.acquire(1, A, SOURCE))
    assert len(opener.opened) == 1
    assert len(set(map(id, users))) == 1
    assert users[0].users == 50


async def test_a_failure_reaches_all_who_waited_and_the_next_one_tries_again(
    images: OpenImages, opener: FakeOpener
) -> None:
    opener.error = FormatError("damaged")
    failures = 0

    async def one() -> None:
        nonlocal failures
        with pytest.raises(FormatError, match="damaged"):
            await images.acquire(1, A, SOURCE)
        failures += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert failures == 5
    opener.error = None
    assert (await images.acquire(1, A, SOURCE)).users == 1


async def test_a_failed_opening_is_gone_with_its_error(nursery: trio.Nursery) -> None:
    """A circle of error and frames would keep all that the opening had read until the next collection."""

    class Tables:
        """What an opening reads."""

    read: list[weakref.ref[Tables]] = []

    def opener(_: ImageFile, __: Source) -> Image:
        tables = Tables()
        read.append(weakref.ref(tables))
        raise FormatError(f"damaged: {tables}")

    tasks = Tasks()
    tasks.start(nursery)
    images = OpenImages(opener, tasks, Threads(4, deadline=PATIENCE_S))
    gc.collect()
    gc.disable()
    try:
        with suppress(FormatError):
            await images.acquire(1, A, SOURCE)
        await until(lambda: [tables() for tables in read] == [None])  # once the thread that opened lets go as well
    finally:
        gc.enable()


async def test_an_idle_image_is_kept_and_found_again(images: OpenImages, opener: FakeOpener) -> None:
    opened = await images.acquire(1, A, SOURCE)
    images.release(opened)
    assert await images.acquire(1, A, SOURCE) is opened
    assert len(opener.opened) == 1


async def test_an_idle_image_whose_disk_was_mounted_again_is_opened_anew(
    images: OpenImages, opener: FakeOpener
) -> None:
    """It has the same number, but what is open may lead to a disk that has gone."""
    opened = await images.acquire(1, A, SOURCE)
    images.release(opened)
    again = await images.acquire(1, A, SOURCE._replace(devices=frozenset({2})))
    assert again is not opened
    assert again.devices == {2}
    await until(lambda: [image.closed for image in opener.opened] == [True, False])
    assert await images.acquire(1, A, SOURCE._replace(devices=frozenset({2}))) is again


async def test_only_so_many_idle_images_stay_open(images: OpenImages, opener: FakeOpener) -> None:
    for inode in range(1, 101):
        images.release(await images.acquire(inode, A, SOURCE))
    await until(lambda: sum(image.closed for image in opener.opened) == 100 - open_images.MAX_IDLE_IMAGES)
    assert [image.closed for image in opener.opened] == [True] * 84 + [False] * 16, "the oldest go first"


async def test_only_so_many_idle_files_stay_open(images: OpenImages, opener: FakeOpener) -> None:
    opener.depth = 100
    for inode in range(1, 7):
        images.release(await images.acquire(inode, A, SOURCE))
    await until(lambda: sum(image.closed for image in opener.opened) == 4)
    assert len(images) == 2


async def test_an_idle_image_is_closed_after_a_moment(
    images: OpenImages, opener: FakeOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing keeps its disk space and its file system busy."""
    monkeypatch.setattr(open_images, "IDLE_S", 0.3)
    held = await images.acquire(1, A, SOURCE)
    begun = trio.current_time()
    images.release(await images.acquire(2, A, SOURCE))
    await until(lambda: opener.opened[1].closed)
    assert trio.current_time() - begun >= 0.3
    await trio.sleep(0.4)
    assert not opener.opened[0].closed
    images.release(held)
    await until(lambda: opener.opened[0].closed)
    assert len(images) == 0


async def test_an_image_that_is_used_again_and_again_stays_open(
    images: OpenImages, opener: FakeOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_images, "IDLE_S", 0.3)
    begun = trio.current_time()
    while trio.current_time() < begun + 1:
        images.release(await images.acquire(1, A, SOURCE))
        await trio.sleep(0.01)
    opened = len(opener.opened)
    assert opened < 5, "a machine that stands still may cost it a turn"
    await until(lambda: opener.opened[-1].closed)


async def test_nothing_goes_on_where_nothing_is_idle(images: OpenImages, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle mount costs nothing: no task wakes up from time to time."""

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    monkeypatch.setattr(open_images, "IDLE_S", 0.1)
    before = tasks()
    held = await images.acquire(1, A, SOURCE)
    images.release(await images.acquire(2, A, SOURCE))
    await until(lambda: len(images) == 1)
    await until(lambda: tasks() == before)
    images.release(held)
    assert tasks() == before + 1
    await until(lambda: tasks() == before)


async def test_an_image_that_all_who_waited_gave_up_is_closed_too(
    hasty: OpenImages, opener: FakeOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_images, "IDLE_S", 0.1)
    opener.hang = Event()
    with pytest.raises(DeadlineError):
        await hasty.acquire(1, A, SOURCE)
    opener.hang.set()
    await until(lambda: opener.opened)
    await until(lambda: opener.opened[0].closed)


async def test_idle_images_of_no_use_are_closed_at_once(images: OpenImages, opener: FakeOpener) -> None:
    held = await images.acquire(1, A, SOURCE)
    for inode in (2, 3):
        images.release(await images.acquire(inode, A, SOURCE))
    images.close_useless(lambda opened: opened.inode == 3)
    await until(lambda: opener.opened[1].closed)
    assert not opener.opened[0].closed, "it has a reader"
    assert not opener.opened[2].closed
    images.release(held)


async def test_an_image_in_use_is_not_closed(images: OpenImages, opener: FakeOpener) -> None:
    held = await images.acquire(1, A, SOURCE)
    for inode in range(2, 40):
        images.release(await images.acquire(inode, A, SOURCE))
    images.discard(held)
    await trio.testing.wait_all_tasks_blocked()
    assert not opener.opened[0].closed
    images.release(held)
    await until(lambda: opener.opened[0].closed)


async def test_a_discarded_image_is_opened_anew_for_the_next_one(images: OpenImages, opener: FakeOpener) -> None:
    opened = await images.acquire(1, A, SOURCE)
    images.discard(opened)
    assert await images.acquire(1, A, SOURCE) is not opened
    images.release(opened)
    await until(lambda: opener.opened[0].closed)
    assert not opener.opened[1].closed


async def test_an_opening_that_takes_too_long_is_given_up_but_goes_on(hasty: OpenImages, opener: FakeOpener) -> None:
    opener.hang = Event()
    with pytest.raises(DeadlineError, match=r"within 0\.5 s"):
        await hasty.acquire(1, A, SOURCE)
    opener.hang.set()
    await until(lambda: len(hasty) == 1)
    await hasty.acquire(1, A, SOURCE)
    assert len(opener.opened) == 1


async def test_an_image_is_not_closed_under_a_reader_that_was_left_behind(
    hasty: OpenImages, opener: FakeOpener
) -> None:
    opened = await hasty.acquire(1, A, SOURCE)
    image = opener.opened[0]
    image.hang = Event()
    with pytest.raises(DeadlineError, match=r"^a: the source did not answer within 0\.5 s: check the disk"):
        await hasty.read(opened, image.read_at, 0, 4)
    hasty.release(opened)
    hasty.discard(opened)
    await trio.sleep(0.05)
    assert not image.closed
    image.hang.set()
    await until(lambda: image.closed)


async def test_a_read_that_comes_after_closing_is_refused() -> None:
    image = FakeImage()
    opened = OpenImage(1, image.as_image(), frozenset())
    opened.retire()
    opened.close_if_done()
    with pytest.raises(VdifsError, match="closed"):
        opened.take()


async def test_sources_on_another_file_system_do_not_wait_for_one_that_hangs(nursery: trio.Nursery) -> None:
    del nursery
    threads, stuck = Threads(2, deadline=PATIENCE_S), Event()
    try:
        async with trio.open_nursery() as inner:
            for _ in range(2):
                inner.start_soon(threads.run, frozenset({1}), stuck.wait)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(PATIENCE_S / 2):
                assert await threads.answer(frozenset({2}), lambda: "answer") == "answer"
            stuck.set()
    finally:
        stuck.set()
