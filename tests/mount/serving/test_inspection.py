"""Opening every image once behind the scenes, without a kernel: what is opened, when, and what is told of it."""

from collections import Counter
from dataclasses import replace
from threading import Event

import pytest
import trio

from tests.conftest import ExpectWarning
from tests.mount.fakes import FakeCatalog, FakeImage, FakeOpener, entry
from vdifs.catalog.entry import Entry
from vdifs.chain.access import Access
from vdifs.errors import ChainError, FormatError, InUseError, PolicyError, StorageError, VdifsError
from vdifs.mount.serving import inspection as module
from vdifs.mount.serving.images.open_images import OpenImages
from vdifs.mount.serving.inspected_images import InspectedImages
from vdifs.mount.serving.inspection import Inspection
from vdifs.mount.serving.namespace import Namespace
from vdifs.mount.serving.scheduling.tasks import Tasks
from vdifs.mount.serving.scheduling.threads import Threads
from vdifs.mount.view.attributes import Ownership
from vdifs.mount.view.nodes import ImageFile
from vdifs.mount.view.options import MountOptions
from vdifs.mount.view.sources import Source
from vdifs.output.image import Image


class Opener(FakeOpener):
    """Opens fake images; remembers which. bad: what opening some of them raises."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.bad: dict[str, Exception] = {}

    def __call__(self, file: ImageFile, source: Source) -> Image:
        self.asked[file.path] += 1
        if file.path in self.bad:
            raise self.bad[file.path]
        return super().__call__(file, source)


class Inspected:
    """A namespace of some images, and its inspection."""

    def __init__(self, nursery: trio.Nursery, *entries: Entry, deadline: float = 5.0) -> None:
        tasks, threads = Tasks(), Threads(4, deadline=5)
        tasks.start(nursery)
        self.catalog, self.opener = FakeCatalog(*entries), Opener()
        ownership = Ownership(MountOptions(source="/src", mountpoint="/mnt"), Access(0o555, 0, 0))
        images = OpenImages(self.opener, tasks, threads)
        self.namespace = Namespace(self.catalog, images, tasks, threads, ownership)
        self.inspection = Inspection(InspectedImages(self.namespace), self.opener, tasks, Threads(1, deadline))
        self.namespace.when_changed = self.inspection.wake

    async def settle(self) -> Counter[str]:
        """Return what was opened since the last time, once nothing is left to do."""
        self.inspection.wake()
        with trio.fail_after(60):
            await self.inspection.settled()
        assert all(image.closed for image in self.opener.opened)
        asked, self.opener.asked = self.opener.asked, Counter()
        return asked

    async def rescan(self) -> None:
        self.namespace.scanner.outdated()
        await self.namespace.scanner.fresh()

    def failed(self) -> dict[str, str]:
        return {file.path: str(error) for file, error in self.namespace.failures.items()}


async def test_each_image_is_opened_once_and_those_that_change_again(nursery: trio.Nursery) -> None:
    inspected = Inspected(nursery, entry("a"), entry("b", "a"), entry("c", "b"), entry("other"))
    assert inspected.inspection.unknown() == 4
    assert await inspected.settle() == Counter(["a", "b", "c", "other"])
    assert await inspected.settle() == Counter()
    assert inspected.inspection.unknown() == 0
    inspected.catalog.change("b")
    inspected.catalog.put(entry("new"))
    await inspected.rescan()
    assert await inspected.settle() == Counter(["b", "c", "new"])
    inspected.catalog.remove("new")
    await inspected.rescan()
    assert await inspected.settle() == Counter()


async def test_what_cannot_be_opened_is_told(nursery: trio.Nursery, expect_warning: ExpectWarning) -> None:
    expect_warning("a: damaged")
    inspected = Inspected(nursery, entry("a"), entry("b"))
    inspected.opener.bad["a"] = FormatError("a: damaged")
    await inspected.settle()
    assert inspected.failed() == {"a": "a: damaged: restore it from a copy, or see what 'qemu-img check' says"}
    assert inspected.inspection.unknown() == 0
    assert await inspected.settle() == Counter()
    inspected.catalog.change("a")
    inspected.opener.bad.clear()
    await inspected.rescan()
    assert await inspected.settle() == Counter(["a"])
    assert inspected.failed() == {}


async def test_a_known_problem_needs_no_opening(nursery: trio.Nursery, expect_warning: ExpectWarning) -> None:
    expect_warning("a: no")
    expect_warning("gone")
    inspected = Inspected(nursery, entry("a", problem=StorageError("a: no")), entry("b", "a"), entry("c", "gone"))
    assert await inspected.settle() == Counter()
    assert (inspected.inspection.unknown(), inspected.failed()) == (0, {})
    inspected.catalog.put(entry("a", state=1))
    await inspected.rescan()
    assert await inspected.settle() == Counter(["a", "b"])


async def test_a_file_of_many_names_is_opened_once_and_told_of_all(
    nursery: trio.Nursery, expect_warning: ExpectWarning
) -> None:
    expect_warning("a: damaged")
    inspected = Inspected(nursery, *(replace(entry("a"), path=path) for path in ("a", "b", "c")))
    inspected.opener.bad["a"] = FormatError("a: damaged")
    assert await inspected.settle() == Counter(["a", "a"])
    assert set(inspected.failed()) == {"a", "b", "c"}


async def test_what_may_have_passed_is_tried_again_when_it_is_looked_at(
    nursery: trio.Nursery, expect_warning: ExpectWarning, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_warning("a: the disk")
    expect_warning("b: damaged")
    inspected = Inspected(nursery, entry("a"), entry("b"))
    inspected.opener.bad |= {"a": StorageError("a: the disk fails"), "b": FormatError("b: damaged")}
    await inspected.settle()
    inspected.opener.bad.clear()
    inspected.inspection.retry()
    assert await inspected.settle() == Counter(["a"])
    assert set(inspected.failed()) == {"b"}
    inspected.namespace.failures.add(7, ImageFile("a", view="raw"), StorageError("again"))
    inspected.inspection.retry()
    assert await inspected.settle() == Counter(), "not so soon"
    monkeypatch.setattr(module, "_RETRY_S", 0.0)
    inspected.inspection.retry()
    assert await inspected.settle() == Counter(["a"])
    assert set(inspected.failed()) == {"b"}


@pytest.mark.parametrize("number", [24, 23, 12])
async def test_what_says_nothing_about_an_image_is_not_told(nursery: trio.Nursery, number: int) -> None:
    inspected = Inspected(nursery, entry("a"))
    inspected.opener.bad["a"] = StorageError("too many open files", errno=number)
    await inspected.settle()
    assert (inspected.failed(), inspected.inspection.unknown()) == ({}, 1)
    inspected.opener.bad.clear()
    await inspected.settle()
    assert inspected.inspection.unknown() == 0


async def test_a_disk_that_hangs_is_left_alone_and_the_others_go_on(nursery: trio.Nursery) -> None:
    slow = [entry(f"slow{number}") for number in range(9)]
    other = replace(entry("x"), fingerprint=entry("x").fingerprint._replace(dev=2))
    inspected = Inspected(nursery, *slow, other, deadline=0.05)
    inspected.opener.hang = hang = Event()
    real = inspected.opener

    def opener(file: ImageFile, source: Source) -> Image:
        real.asked[file.path] += 1
        return FakeImage().as_image() if file.path == "x" else FakeOpener.__call__(real, file, source)

    inspected.inspection._opener = opener
    try:
        assert await inspected.settle() == Counter(["slow0", "x"])
        assert (inspected.failed(), inspected.inspection.unknown()) == ({}, 9)
    finally:
        hang.set()


async def test_one_file_may_not_take_all_the_time(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have very many snapshots; active states come first."""
    monkeypatch.setattr(module, "_FILE_S", 1e-9)
    states = [replace(entry("a"), path=f"a@{number}", snapshot=str(number)) for number in range(50)]
    inspected = Inspected(nursery, *states, entry("a"), entry("b"))
    assert await inspected.settle() == Counter(["a", "b"])
    assert inspected.inspection.unknown() == 50


async def test_while_requests_come_there_is_a_step_in_a_while(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.3)
    inspected = Inspected(nursery, *(entry(chr(1000 + number)) for number in range(30)))
    inspected.inspection.mind_requests()
    busy = True

    async def requests() -> None:
        while busy:
            inspected.namespace.counters.reads += 1
            await trio.sleep(0.01)

    nursery.start_soon(requests)
    await trio.sleep(0.05)
    inspected.inspection.wake()
    await trio.sleep(1.5)
    assert sum(inspected.opener.asked.values()) < 8
    busy = False
    with trio.fail_after(60):
        await inspected.inspection.settled()
    assert sum(inspected.opener.asked.values()) == 30


@pytest.mark.parametrize("error", [StorageError("a: gone", errno=2), ChainError("a: b: gone"), PolicyError("a: moved")])
async def test_what_has_changed_since_the_search_is_told_by_the_next_one(
    nursery: trio.Nursery, error: VdifsError
) -> None:
    """Which is not made before a request looks: files may just be replaced, one after the other."""
    inspected = Inspected(nursery, entry("a"), entry("b"))
    inspected.opener.bad["a"] = error
    inspected.catalog.remove("a")
    await inspected.settle()
    assert (inspected.failed(), inspected.inspection.unknown(), inspected.catalog.scans) == ({}, 1, 0)
    await inspected.rescan()
    await inspected.settle()
    assert inspected.inspection.unknown() == 0


async def test_that_a_machine_writes_an_image_is_no_warning_and_keeps_no_user_from_it(nursery: trio.Nursery) -> None:
    inspected = Inspected(nursery, entry("a"))
    inspected.opener.bad["a"] = InUseError("a: a machine is writing it")
    await inspected.settle()
    assert set(inspected.failed()) == {"a"}
    inspected.opener.bad.clear()
    inode = inspected.namespace.tree.inode(ImageFile("a"))
    assert inode is not None
    assert (await inspected.namespace.stat(inode)).size
    assert inspected.failed() == {}


async def test_a_bug_that_one_image_brings_out_keeps_no_other_from_being_looked_at(
    nursery: trio.Nursery, expect_warning: ExpectWarning
) -> None:
    expect_warning("a: could not be looked at")
    inspected = Inspected(nursery, entry("a"), entry("b"))
    inspected.opener.bad["a"] = ZeroDivisionError("a bug")
    assert await inspected.settle() == Counter(["a", "b"])
    assert (inspected.failed(), inspected.inspection.unknown()) == ({}, 0)


async def test_a_round_that_a_bug_has_ended_is_begun_again_when_the_status_is_looked_at(
    nursery: trio.Nursery, expect_warning: ExpectWarning, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_warning("a task of the mount failed")
    inspected = Inspected(nursery, entry("a"))

    async def with_a_bug() -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as planted:
        planted.setattr(inspected.inspection, "_round", with_a_bug)
        assert await inspected.settle() == Counter()
    inspected.inspection.retry()
    with trio.fail_after(60):
        await inspected.inspection.settled()
    assert inspected.opener.asked == Counter(["a"])


async def test_a_task_that_never_came_to_its_first_line_is_started_again(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected = Inspected(nursery, entry("a"))
    with monkeypatch.context() as planted:
        planted.setattr(Tasks, "spawn", lambda *_: None)
        inspected.inspection.wake()
    inspected.inspection.wake()
    with trio.fail_after(60):
        await inspected.inspection.settled()
    assert inspected.opener.asked == Counter(["a"])
